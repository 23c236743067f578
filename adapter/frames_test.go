package adapter

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// framesNamed returns the frames of all goroutines whose names begin so.
func (c *client) framesNamed(prefix string) (frames []dap.StackFrame) {
	c.t.Helper()
	var threads dap.ThreadsResponseBody
	c.call("threads", nil, &threads)
	for _, thread := range threads.Threads {
		var stack dap.StackTraceResponseBody
		c.call("stackTrace", dap.StackTraceArguments{ThreadId: thread.Id}, &stack)
		for _, f := range stack.StackFrames {
			if strings.HasPrefix(f.Name, prefix) {
				frames = append(frames, f)
			}
		}
	}
	return frames
}

func TestFramesInOldCodeAreNamedSo(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	c.call("initialize", dap.InitializeRequestArguments{PathFormat: "path", LinesStartAt1: true, ColumnsStartAt1: true, SupportsInvalidatedEvent: true}, nil)
	p := c.patch("load", map[string]any{"path": s.module})
	id := map[string]any{"id": p.ID}
	answer := waits(t, get)
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	see := func(when string, names ...string) {
		t.Helper()
		var got []string
		for _, f := range c.framesNamed("main.wait") {
			got = append(got, f.Name)
			if old := strings.HasSuffix(f.Name, oldSuffix); old != (f.PresentationHint == "subtle") {
				t.Errorf("%s: the frame %+v", when, f)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Errorf("%s: the frames are %q, want %q", when, got, names)
		}
	}
	see("not active", "main.wait")
	c.patch("activate", id)
	c.event("invalidated", nil)
	see("active", "main.wait (old)")
	c.resume("continue", 1)
	anew := make(chan string, 1)
	go func() { anew <- get("/wait") }()
	eventually(t, "two calls wait", func() bool { return get("/waiting") == "2" })
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	if frames := c.framesNamed("main.wait"); !slices.ContainsFunc(frames, func(f dap.StackFrame) bool { return f.Name == "main.wait (old)" }) {
		t.Errorf("active: no frame of %+v is old", frames)
	}
	c.patch("deactivate", id)
	c.event("invalidated", nil)
	if got := c.framesNamed("main.wait"); !slices.ContainsFunc(got, func(f dap.StackFrame) bool { return f.Name == "main.wait" }) {
		t.Errorf("deactivated: the frames are %+v", got)
	}
	c.resume("continue", 1)
	get("/release")
	get("/release")
	if got := []string{<-answer, <-anew}; !slices.Contains(got, "waited") || !slices.Contains(got, "waited anew") {
		t.Errorf("the answers are %q", got)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

// A closure that was made before its function was replaced, and that the new code
// has no counterpart of, runs old code, and is called for as long as somebody has
// it: so breakpoints stay in it.
func TestAClosureWithoutACounterpartIsOldAndKeepsItsBreakpoints(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	main := filepath.Join(s.dir, "main.go")
	line := lineOf(t, main, "largest([]int{3, 9, 4})")
	c.breakpoints(main, line)
	c.configured()
	id := map[string]any{"id": c.patch("load", map[string]any{"path": s.more}).ID}
	for _, want := range []string{"", oldSuffix} {
		if want != "" {
			c.patch("activate", id)
		}
		answer := make(chan string, 1)
		go func() { answer <- get("/largest") }()
		stop := c.stoppedFor("breakpoint")
		var names []string
		for _, f := range c.framesNamed("main.main.func") {
			names = append(names, f.Name)
		}
		if len(names) != 1 || strings.HasSuffix(names[0], oldSuffix) != (want != "") {
			t.Errorf("the frames are %q, want one that ends with %q", names, want)
		}
		if says := c.evaluate("darn list"); want != "" && !strings.Contains(says, "2 frames in old code") { // and main.main
			t.Errorf("darn list says %q", says)
		}
		c.resume("continue", stop.ThreadId)
		if got := <-answer; got != "9 c" {
			t.Errorf("the largest is %s", got)
		}
	}
	c.patch("deactivate", id)
	c.disconnect(false)
	mustAnswer(t, get)
}
