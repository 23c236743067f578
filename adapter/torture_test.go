package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"
)

// halts is an adapter that halts its target over and over during a test.
type halts struct {
	t       testing.TB
	adapter *child
	in      interface{ Write([]byte) (int, error) }
	told    int
}

// tortured starts a target and a session with it whose adapter halts it when
// told to.
func tortured(t testing.TB) (*client, *child, *halts) {
	t.Helper()
	target := start(t, exec.Command(build(t, "target")))
	adapter, addr, in := server(t, "halts")
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	return c, target, &halts{t: t, adapter: adapter, in: in}
}

// begin halts the target n times, with a pause after each.
func (h *halts) begin(n int, pause time.Duration) {
	h.t.Helper()
	h.told++
	if _, err := fmt.Fprintln(h.in, n, pause); err != nil {
		h.t.Fatal(err)
	}
}

// results returns the results of what was begun and has ended.
func (h *halts) results() []string {
	var results []string
	for line := range strings.Lines(h.adapter.out.String()) {
		if r, ok := strings.CutPrefix(line, "halts "); ok {
			results = append(results, strings.TrimSpace(r))
		}
	}
	return results
}

func (h *halts) busy() bool { return len(h.results()) < h.told }

// end waits until everything begun has ended, and checks it.
func (h *halts) end() (done, busy int) {
	h.t.Helper()
	eventually(h.t, "the halts", func() bool { return !h.busy() })
	for _, r := range h.results() {
		var d, b int
		if _, err := fmt.Sscanf(r, "done %d busy %d", &d, &b); err != nil {
			h.t.Fatalf("halts %s", r)
		}
		done, busy = done+d, busy+b
		h.t.Log(r)
	}
	return done, busy
}

// mustBeQuiet fails the test if events came that nobody took.
func mustBeQuiet(t testing.TB, c *client) {
	t.Helper()
	for _, e := range c.Pending() {
		if !slices.Contains([]string{"output", "continued", "capabilities", "process"}, e) {
			t.Fatalf("unexpected events: %v", c.Pending())
		}
	}
}

func TestHaltsOfARunningTargetAreInvisible(t *testing.T) {
	c, target, h := tortured(t)
	c.configured()
	h.begin(300, 0)
	if done, _ := h.end(); done != 300 {
		t.Errorf("%d of 300 halts", done)
	}
	mustBeQuiet(t, c)
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestHaltsBeforeConfigurationDone(t *testing.T) {
	c, target, h := tortured(t)
	h.begin(50, 0)
	path, line := source(t, "target/main.go", "breakpoint here")
	for range 20 {
		c.breakpoints(path, line)
		c.breakpoints(path)
	}
	h.end()
	mustBeQuiet(t, c)
	c.configured()
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestBreakpointHitsDuringHaltsAreReportedOnce(t *testing.T) {
	c, target, h := tortured(t)
	path, line := source(t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	h.begin(400, time.Millisecond)
	c.configured()
	last := int64(-1)
	for n := 0; n < 250 || h.busy() && n < 1000; n++ {
		stop := c.stoppedFor("breakpoint")
		if len(stop.HitBreakpointIds) != 1 {
			t.Fatalf("hit breakpoints %v", stop.HitBreakpointIds)
		}
		if got := c.top(stop.ThreadId); got != line {
			t.Fatalf("stopped in line %d, want %d", got, line)
		}
		now, err := strconv.ParseInt(c.evaluate("total.v"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if last >= 0 && now != last+1 {
			t.Fatalf("the stop at call %d follows that at call %d", now, last)
		}
		last = now
		c.resume("continue", stop.ThreadId)
	}
	c.stoppedFor("breakpoint")
	h.end()
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestStepsDuringHaltsEndInTheNextLine(t *testing.T) {
	c, target, h := tortured(t)
	path, line := source(t, "target/main.go", "step from here")
	c.breakpoints(path, line)
	c.configured()
	h.begin(300, 2*time.Millisecond)
	for n := 0; n < 50 || h.busy() && n < 200; n++ {
		stop := c.stoppedFor("breakpoint")
		c.breakpoints(path)
		for i := 1; i <= 3; i++ {
			c.resume("next", stop.ThreadId)
			c.stoppedFor("step")
			if got := c.top(stop.ThreadId); got != line+i {
				t.Fatalf("stepped to line %d, want %d", got, line+i)
			}
		}
		c.breakpoints(path, line)
		c.resume("continue", stop.ThreadId)
	}
	c.stoppedFor("breakpoint")
	h.end()
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

// A step that a breakpoint in another goroutine interrupts is finished by the
// next continue, unless that is interrupted too.
func TestInterruptedStepsDuringHaltsGoOn(t *testing.T) {
	c, target, h := tortured(t)
	path, line := source(t, "target/main.go", "step from here")
	c.breakpoints(path, line)
	c.configured()
	h.begin(300, time.Millisecond)
	steps, interruptions := 0, 0
	for n := 0; n < 40 || h.busy() && n < 200; n++ {
		thread := c.stoppedFor("breakpoint").ThreadId
		for range 3 { // in the function, which has one breakpoint
			c.resume("next", thread)
			for stop := c.stopped(); stop.Reason != "step"; stop = c.stopped() {
				if stop.Reason != "breakpoint" || stop.ThreadId == thread {
					t.Fatalf("the step of goroutine %d: %+v", thread, stop)
				}
				interruptions++
				// Clients ask for the threads at every stop, and a user may be fast.
				threads, err := c.Send("threads", nil)
				c.must(err)
				next, err := c.Send("continue", map[string]any{"threadId": thread})
				c.must(err)
				c.must(c.Await(c.ctx, threads, nil))
				c.must(c.Await(c.ctx, next, nil))
			}
			steps++
		}
		c.resume("continue", thread)
	}
	c.stoppedFor("breakpoint")
	t.Log(steps, "steps", interruptions, "interruptions")
	h.end()
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestPausesDuringHaltsArePauses(t *testing.T) {
	c, target, h := tortured(t)
	c.configured()
	h.begin(300, time.Millisecond)
	for n := 0; n < 80 || h.busy() && n < 400; n++ {
		c.call("pause", dap.PauseArguments{}, nil)
		c.stoppedFor("pause")
		c.resume("continue", 1)
		if n%3 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	h.end()
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestLogpointsDuringHaltsLogEveryHit(t *testing.T) {
	c, target, h := tortured(t)
	path, line := source(t, "target/main.go", "breakpoint here")
	c.call("setBreakpoints", dap.SetBreakpointsArguments{
		Source:      dap.Source{Path: path},
		Breakpoints: []dap.SourceBreakpoint{{Line: line, LogMessage: "call {total.v}"}},
	}, nil)
	c.configured()
	h.begin(200, time.Millisecond)
	h.end()
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	last, seen := int64(-1), 0
	for _, name := range c.Pending() {
		if name != "output" {
			continue
		}
		var out dap.OutputEventBody
		c.event("output", &out)
		_, text, ok := strings.Cut(out.Output, "call ")
		if !ok {
			continue
		}
		now, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if last >= 0 && now != last+1 {
			t.Fatalf("call %d was logged after call %d", now, last)
		}
		last = now
		seen++
	}
	if seen == 0 {
		t.Error("nothing was logged")
	}
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestBreakpointsSetDuringHaltsWork(t *testing.T) {
	c, target, h := tortured(t)
	path, line := source(t, "target/main.go", "breakpoint here")
	c.configured()
	h.begin(300, time.Millisecond)
	for n := 0; n < 40 || h.busy() && n < 300; n++ {
		c.breakpoints(path, line)
		stop := c.stopped()
		// Delve itself takes a hit at the moment it halts the target to set
		// the breakpoint for a pause.
		if stop.Reason != "breakpoint" && stop.Reason != "pause" {
			t.Fatalf("stopped for %s", stop.Reason)
		}
		c.breakpoints(path)
		c.resume("continue", stop.ThreadId)
	}
	h.end()
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

// The target is halted, stopped and let go at arbitrary moments, and must
// survive: a trap that is left over when it is let go kills it.
func TestTheTargetSurvivesManyDetaches(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	path, line := source(t, "target/main.go", "breakpoint here")
	for n := range 12 {
		adapter, addr, in := server(t, "halts")
		c := connect(t, addr, nil)
		h := &halts{t: t, adapter: adapter, in: in}
		c.attach(target.Process.Pid)
		if n%2 == 0 {
			c.breakpoints(path, line)
		}
		c.configured()
		h.begin(10000, 0)
		time.Sleep(time.Duration(n) * 3 * time.Millisecond)
		switch n % 3 {
		case 0:
			c.disconnect(false)
		case 1:
			c.Close() // without a word
		case 2:
			if err := adapter.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
		}
		adapter.wait(t)
		mustBeWhole(t, target)
		mustGoOn(t, target)
	}
}

// The same while breakpoints are hit all the time and a step is under way:
// threads have run into breakpoints that Delve has not seen yet.
func TestTheTargetSurvivesDetachesAtBreakpoints(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	path, line := source(t, "target/main.go", "step from here")
	for n := range 16 {
		adapter, addr, in := server(t, "halts")
		c := connect(t, addr, nil)
		h := &halts{t: t, adapter: adapter, in: in}
		c.attach(target.Process.Pid)
		c.breakpoints(path, line)
		c.configured()
		stop := c.stoppedFor("breakpoint")
		h.begin(10000, 0)
		for range n {
			c.resume("next", stop.ThreadId)
			stop = c.stopped()
		}
		if n%2 == 0 {
			c.resume("continue", stop.ThreadId)
		}
		if n%3 == 0 {
			c.disconnect(false)
		} else {
			c.Close()
		}
		adapter.wait(t)
		mustBeWhole(t, target)
		mustGoOn(t, target)
	}
}
