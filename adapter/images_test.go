package adapter

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// stack returns the functions and lines of a stopped thread's frames.
func (c *client) stack(thread int) string {
	c.t.Helper()
	var r dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: thread, Levels: 3}, &r)
	var frames []string
	for _, f := range r.StackFrames {
		frames = append(frames, fmt.Sprintf("%s:%d", f.Name, f.Line))
	}
	return strings.Join(frames, " ")
}

// A breakpoint on a line of a patched function is hit in the new code while that
// runs, and in the old one otherwise, whether it was set before the module was
// loaded or the debugger came after it.
func TestBreakpointsAreHitInTheCodeThatRuns(t *testing.T) {
	s, target, get := openShop(t)
	main := filepath.Join(s.dir, "main.go")
	line := lineOf(t, main, `return "a " + t.label()`)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.breakpoints(main, line)
	c.configured()
	hit := func(want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/describe") }()
		stop := c.stoppedFor("breakpoint")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.describe:%d main.main.func3:", line)) {
			t.Errorf("stopped at %s", got)
		}
		if got := c.evaluate("t.(data).name"); got != `"pen"` {
			t.Errorf("the thing's name is %s", got)
		}
		c.resume("continue", stop.ThreadId)
		if got := <-answer; got != want {
			t.Errorf("the thing is %s, want %s", got, want)
		}
	}
	hit("a pen")
	for range 2 { // the second module is where the first one was
		p := c.patch("load", map[string]any{"path": s.more})
		id := map[string]any{"id": p.ID}
		hit("a pen")
		c.patch("activate", id)
		hit("one pen")
		c.patch("deactivate", id)
		hit("a pen")
		c.patch("unload", id)
		hit("a pen")
		c.breakpoints(main)
		c.breakpoints(main, line)
		hit("a pen")
	}
	p := c.patch("load", map[string]any{"path": s.more})
	c.patch("activate", map[string]any{"id": p.ID})
	hit("one pen")
	c.disconnect(false)

	c, _ = session(t)
	c.attach(target.Process.Pid)
	c.breakpoints(main, line)
	c.configured()
	hit("one pen")
	c.breakpoints(main)
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.patch("unload", map[string]any{"id": p.ID})
	c.disconnect(false)
	mustAnswer(t, get)
}

// Nothing but seeing into it is lost with a module's file.
func TestAModuleWhoseFileIsGoneCanBeUsed(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // of the adapter
	s, target, get := openShop(t)
	text, err := os.ReadFile(s.more)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gone.so")
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": path})
	c.disconnect(false)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, _ = session(t)
	c.attach(target.Process.Pid)
	c.configured()
	id := map[string]any{"id": p.ID}
	c.patch("activate", id)
	if got := get("/total"); got != "260" {
		t.Errorf("the total is %s", got)
	}
	c.patch("deactivate", id)
	c.patch("unload", id)
	c.disconnect(false)
	mustAnswer(t, get)
}
