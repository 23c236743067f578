package adapter

import (
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// patchSays waits for an event darn/patch, which must have this reason and be
// about a patch in this state.
func (c *client) patchSays(reason, id string, state patcher.State) *patchEvent {
	c.t.Helper()
	var e patchEvent
	c.event("darn/patch", &e)
	if e.Reason != reason || e.Patch == nil || e.Patch.ID != id || e.Patch.State != state {
		c.t.Fatalf("an event darn/patch says %+v, %+v; want %s of patch %s, which is %s", e, e.Patch, reason, id, state)
	}
	return &e
}

// waits has a request wait in the function wait.
func waits(t testing.TB, get func(string) string) (answer chan string) {
	t.Helper()
	before := get("/waiting")
	answer = make(chan string, 1)
	go func() { answer <- get("/wait") }()
	eventually(t, "a request that waits", func() bool { return get("/waiting") != before })
	return answer
}

func oldFrames(p patcher.Patch) (n int) {
	for _, f := range p.Functions {
		n += f.FramesInOldCode
	}
	return n
}

func TestAQuiescentActivationIsPendingUntilNobodyIsInOldCode(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	c.patchSays("loaded", p.ID, patcher.Loaded)
	id := map[string]any{"id": p.ID}
	begin := func() (request int) {
		t.Helper()
		request, err := c.Send("darn/activate", map[string]any{"id": p.ID, "consistency": "quiescent", "timeoutMs": 300000})
		c.must(err)
		c.patchSays("pending", p.ID, patcher.Pending)
		return request
	}

	answer := waits(t, get)
	request := begin()
	var l patcher.Listing
	c.call("darn/list", nil, &l)
	if len(l.Patches) != 1 || l.Patches[0].State != patcher.Pending || oldFrames(l.Patches[0]) != 1 {
		t.Errorf("while it waits darn/list says %+v", l.Patches)
	}
	get("/release")
	if got := <-answer; got != "waited" {
		t.Errorf("the call that held it up says %q", got)
	}
	var r result
	c.must(c.Await(c.ctx, request, &r))
	if r.Patch.State != patcher.Active || r.Receipt.Looks < 2 {
		t.Errorf("darn/activate says %+v, %+v", r.Patch, r.Receipt)
	}
	c.patchSays("activated", p.ID, patcher.Active)
	c.patch("deactivate", id)
	c.patchSays("deactivated", p.ID, patcher.Loaded)

	// Deactivated while it waits.
	answer = waits(t, get)
	request = begin()
	if q := c.patch("deactivate", id); q.State != patcher.Loaded {
		t.Errorf("darn/deactivate says %+v", q)
	}
	if err := c.Await(c.ctx, request, nil); err == nil || !strings.Contains(err.Error(), "was deactivated while its activation waited") {
		t.Errorf("darn/activate says %v", err)
	}
	for range 2 { // in any order
		var e patchEvent
		c.event("darn/patch", &e)
		if e.Reason != "failed" && e.Reason != "deactivated" || e.Patch.State != patcher.Loaded {
			t.Errorf("an event darn/patch says %+v, %+v", e, e.Patch)
		}
	}

	// In vain.
	err := c.fails("darn/activate", map[string]any{"id": p.ID, "consistency": "quiescent", "timeoutMs": 30})
	if err.Code() != finding.QuiescenceTimeout || len(err.Findings) != 2 || err.Findings[1].Function != "main.wait" ||
		!strings.Contains(err.Findings[1].Source, "main.go:") {
		t.Errorf("darn/activate says %v, %+v", err, err.Findings)
	}
	c.patchSays("pending", p.ID, patcher.Pending)
	c.patchSays("failed", p.ID, patcher.Loaded)
	get("/release")
	if got := <-answer; got != "waited" {
		t.Errorf("the call that held it up says %q", got)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

// While its user has stopped the program nothing would change between two looks.
func TestAQuiescentActivationLooksOnceAtAStoppedTarget(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	answer := waits(t, get)
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	quiescent := map[string]any{"id": p.ID, "consistency": "quiescent", "timeoutMs": 300000}
	if err := c.fails("darn/activate", quiescent); err.Code() != finding.QuiescenceTimeout || !strings.Contains(err.Error(), "the program is stopped: continue it, then try again") {
		t.Errorf("darn/activate says %v", err)
	}
	c.resume("continue", 1)
	get("/release")
	<-answer
	c.patch("activate", quiescent)
	if got := get("/total"); got != "270" {
		t.Errorf("the total is %s", got)
	}
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.disconnect(false)
	mustAnswer(t, get)
}

func TestAReplacementIsReportedForEveryPatch(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	q := c.patch("load", map[string]any{"path": s.more})
	c.patchSays("loaded", p.ID, patcher.Loaded)
	c.patchSays("loaded", q.ID, patcher.Loaded)
	c.evaluate("darn activate " + p.ID)
	c.patchSays("activated", p.ID, patcher.Active)
	if got := get("/largest"); got != "3 a" {
		t.Errorf("the largest is %s", got)
	}
	var r result
	c.call("darn/activate", map[string]any{"id": q.ID, "replace": true}, &r)
	if len(r.Receipt.Replaced) != 1 || r.Receipt.Replaced[0] != p.ID {
		t.Errorf("the receipt is %+v", r.Receipt)
	}
	c.patchSays("deactivated", p.ID, patcher.Loaded)
	c.patchSays("activated", q.ID, patcher.Active)
	if total, largest := get("/total"), get("/largest"); total != "260" || largest != "9 c" {
		t.Errorf("the total is %s, the largest %s", total, largest)
	}
	if says := c.evaluate("darn activate " + p.ID + " quiescent 1m replace"); !strings.Contains(says, "replaced: "+q.ID) {
		t.Errorf("the console says %q", says)
	}
	if says := c.evaluate("darn list"); !strings.Contains(says, "0 frames in old code") {
		t.Errorf("the console says %q", says)
	}
	if err := c.fails("evaluate", dap.EvaluateArguments{Expression: "darn activate 1 soon", Context: "repl"}); !strings.Contains(err.Error(), `does not know "soon"`) {
		t.Errorf("the console says %v", err)
	}
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.disconnect(false)
	mustAnswer(t, get)
}
