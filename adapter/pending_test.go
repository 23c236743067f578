package adapter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// reducedShop has a function that the program was built without, behind the end of
// the file as it was.
func reducedShop(t testing.TB) (main, module, exe string) {
	t.Helper()
	return editTarget(t, "shop", []string{
		"return n * price", "return reduced(n * price)",
		"\treturn flags\n}", "\treturn flags\n}\n\n//go:noinline\nfunc reduced(sum int) int {\n\tsum -= 10\n\treturn sum - 20\n}",
	}, plainly)
}

// What the session refuses because the program has no such code is set when a
// patch brings it, and is gone with it.
func TestARefusedBreakpointIsSetWhenAModuleBringsItsCode(t *testing.T) {
	main, module, exe := reducedShop(t)
	c, target, get := debugShop(t, exe)
	line := lineOf(t, main, "return sum - 20")
	functions := dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: "main.reduced"}}}
	var set dap.SetFunctionBreakpointsResponseBody
	c.call("setFunctionBreakpoints", functions, &set)
	refused := append(c.breakpoints(main, line), set.Breakpoints...)
	for i, text := range []string{"could not find statement", "not found"} {
		if b := refused[i]; b.Verified || b.Id == 0 || !strings.Contains(b.Message, text) {
			t.Fatalf("before there is such code: %+v", b)
		}
	}
	// becomes waits until the client was told of both that they are verified, or not.
	becomes := func(verified bool) {
		t.Helper()
		is := map[int]bool{refused[0].Id: !verified, refused[1].Id: !verified}
		for is[refused[0].Id] != verified || is[refused[1].Id] != verified {
			var e dap.BreakpointEventBody
			c.event("breakpoint", &e)
			if _, ok := is[e.Breakpoint.Id]; !ok || e.Reason != "changed" {
				t.Fatalf("the event says %+v", e)
			}
			is[e.Breakpoint.Id] = e.Breakpoint.Verified
		}
	}
	hits := func() {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/total") }()
		for i, reason := range []string{"function breakpoint", "breakpoint"} { // the function's in its first line
			stop := c.stoppedFor(reason)
			if want := []int{refused[1-i].Id}; !slices.Equal(stop.HitBreakpointIds, want) {
				t.Errorf("stopped by %v, want %v", stop.HitBreakpointIds, want)
			}
			if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.reduced:%d ", line-2*(1-i))) {
				t.Errorf("stopped at %s", got)
			}
			c.resume("continue", stop.ThreadId)
		}
		if got := <-answer; got != "270" {
			t.Errorf("the total is %s", got)
		}
	}
	for range 2 {
		p := c.patch("load", map[string]any{"path": module})
		c.patch("activate", map[string]any{"id": p.ID})
		becomes(true)
		hits()
		// Clients ask again for what they have at every change.
		c.call("setFunctionBreakpoints", functions, &set)
		for i, b := range append(c.breakpoints(main, line), set.Breakpoints...) {
			if b.Id == 0 || !b.Verified {
				t.Errorf("asked again: %+v", b)
			}
			refused[i] = b
		}
		hits()
		c.patch("deactivate", map[string]any{"id": p.ID})
		c.patch("unload", map[string]any{"id": p.ID})
		becomes(false)
		if got := get("/total"); got != "300" {
			t.Errorf("the total is %s", got)
		}
	}
	c.breakpoints(main)
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{}, nil)
	c.disconnect(false)
	mustAnswer(t, get)
	mustBeWhole(t, target)
}
