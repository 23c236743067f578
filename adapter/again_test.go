package adapter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

// outputWith waits for an output event with a text.
func (c *client) outputWith(text string) string {
	c.t.Helper()
	for {
		var o dap.OutputEventBody
		c.event("output", &o)
		if strings.Contains(o.Output, text) {
			return o.Output
		}
	}
}

func (c *client) restart() {
	c.t.Helper()
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "rebuild": false}}, nil)
	c.stopped() // the old process
	c.event("initialized", nil)
	c.configured()
}

func TestPatchesAreOfferedAgainAfterARestart(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe})
	c.configured()
	if e := c.fails("evaluate", dap.EvaluateArguments{Expression: "darn again", Context: "repl"}); !strings.Contains(e.Format, "there was no restart") {
		t.Errorf("darn again says %v", e)
	}
	p := c.patch("load", map[string]any{"path": s.module})
	c.patch("activate", map[string]any{"id": p.ID})
	c.patch("load", map[string]any{"path": s.more})
	c.restart()
	if says := c.outputWith("without its patches"); !strings.Contains(says, "discount ("+s.module+") was active") ||
		!strings.Contains(says, "more ("+s.more+") was loaded") || !strings.Contains(says, `"darn again"`) {
		t.Errorf("the client is told %q", says)
	}
	if says := c.evaluate("darn again"); says != "discount: active\nmore: loaded" {
		t.Errorf("darn again says %q", says)
	}
	var l patcher.Listing
	c.call("darn/list", nil, &l)
	if len(l.Patches) != 2 || l.Patches[0].State != patcher.Active || l.Patches[1].State != patcher.Loaded {
		t.Errorf("the patches are %+v", l.Patches)
	}
	c.disconnect(true)
}

// A program that was built anew is another one.
func TestPatchesThatDoNotFitAreNotOffered(t *testing.T) {
	_, module, built := editedShop(t)
	exe := filepath.Join(t.TempDir(), "shop")
	if err := os.Link(built, exe); err != nil {
		t.Fatal(err)
	}
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": exe})
	c.configured()
	c.patch("load", map[string]any{"path": module})
	// The old process keeps its file.
	if err := os.Remove(exe); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(s.exe, exe); err != nil {
		t.Fatal(err)
	}
	c.restart()
	if says := c.outputWith("without its patches"); !strings.Contains(says, "does not fit any more") || strings.Contains(says, `"darn again"`) {
		t.Errorf("the client is told %q", says)
	}
	if says := c.evaluate("darn again"); !strings.Contains(says, "[") {
		t.Errorf("darn again says %q", says)
	}
	c.disconnect(true)
}
