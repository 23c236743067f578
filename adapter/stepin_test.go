package adapter

import (
	"fmt"
	"strings"
	"testing"
)

func TestAStepIntoAPatchedFunctionEndsInItsNewCode(t *testing.T) {
	main, module, exe := editedShop(t)
	c, _, get := debugShop(t, exe)
	p := c.patch("load", map[string]any{"path": module})
	id := map[string]any{"id": p.ID}
	handler := lineOf(t, main, "total(3, 100)")
	c.breakpoints(main, handler)
	step := func(want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/total") }()
		stop := c.stoppedFor("breakpoint")
		c.breakpoints(main)
		c.resume("stepIn", stop.ThreadId)
		c.stoppedFor("step")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, "main.total:") || !strings.Contains(got, fmt.Sprintf(" main.main.func1:%d ", handler)) {
			t.Errorf("the step into total ends at %s", got)
		}
		c.resume("stepOut", stop.ThreadId)
		c.stoppedFor("step")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.main.func1:%d ", handler)) {
			t.Errorf("the step out of total ends at %s", got)
		}
		c.breakpoints(main, handler)
		c.resume("continue", stop.ThreadId)
		if got := <-answer; got != want {
			t.Errorf("the total is %s, want %s", got, want)
		}
		for _, e := range c.Pending() {
			if e == "stopped" {
				t.Errorf("there is a stop too many: %+v", c.stopped())
			}
		}
	}
	c.patch("activate", id)
	step("270")
	step("270")
	c.patch("deactivate", id)
	c.breakpoints(main)
	c.disconnect(false)
	mustAnswer(t, get)
}
