package adapter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

// answered lets the target go on whenever it stops until there are n answers,
// and returns how often it stopped for what. Each answer must be one of wanted.
func (r *race) answered(answers <-chan string, n int, wanted ...string) map[string]int {
	r.t.Helper()
	return r.answeredWith(func(dap.StoppedEventBody) {}, answers, n, wanted...)
}

// answeredWith is answered, and looks at each stop.
func (r *race) answeredWith(look func(dap.StoppedEventBody), answers <-chan string, n int, wanted ...string) map[string]int {
	r.t.Helper()
	stops := map[string]int{}
	for end := time.Now().Add(time.Minute); n > 0; {
		select {
		case got := <-answers:
			if n--; !slices.Contains(wanted, got) {
				r.t.Fatalf("the answer is %q, want one of %q", got, wanted)
			}
			continue
		default:
		}
		if slices.Contains(r.Pending(), "stopped") {
			stop := r.stopped()
			stops[stop.Reason]++
			look(stop)
			r.resume("continue", stop.ThreadId)
		} else if time.Sleep(100 * time.Microsecond); time.Now().After(end) {
			r.t.Fatalf("%d calls are not answered; stops: %v", n, stops)
		}
	}
	return stops
}

// A breakpoint at an entry and the jump there come and go in any order, while
// calls stop there at the same moment and the client steps or pauses.
func TestBreakpointsAtEntriesMeetTheJumpThere(t *testing.T) {
	const calls = 4
	for _, kind := range []string{"function breakpoint", "instruction breakpoint"} {
		for _, first := range []string{"breakpoint", "patch"} {
			t.Run(kind+", "+first+" first", func(t *testing.T) {
				r := startRace(t)
				var l patcher.Listing
				r.call("darn/list", nil, &l)
				functions := l.Patches[0].Functions
				entry := functions[slices.IndexFunc(functions, func(f patcher.Function) bool { return f.Name == "main.total" })].Address
				set := func(on bool) {
					t.Helper()
					var body dap.SetBreakpointsResponseBody
					if kind == "function breakpoint" {
						a := dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{}}
						if on {
							a.Breakpoints = append(a.Breakpoints, dap.FunctionBreakpoint{Name: "main.total"})
						}
						r.call("setFunctionBreakpoints", a, &body)
					} else {
						a := dap.SetInstructionBreakpointsArguments{Breakpoints: []dap.InstructionBreakpoint{}}
						if on {
							a.Breakpoints = append(a.Breakpoints, dap.InstructionBreakpoint{InstructionReference: fmt.Sprintf("%#x", entry)})
						}
						r.call("setInstructionBreakpoints", a, &body)
					}
					if on && !body.Breakpoints[0].Verified {
						t.Fatalf("the breakpoint is %+v", body)
					}
				}
				main := r.shop.dir + "/main.go"
				lines := map[string]int{"next": lineOf(t, main, `return "a " + t.label()`), "stepIn": lineOf(t, main, "fmt.Fprintln(w, total(3, 100))")}
				stops := map[string]int{}
				count := func(more map[string]int) {
					for reason, n := range more {
						stops[reason] += n
					}
				}
				for i := range rounds(12) {
					flight := []string{"nothing", "pause", "next", "stepIn"}[i%4]
					if first == "breakpoint" {
						set(true)
					}
					stepped := make(chan string, 1)
					var stop dap.StoppedEventBody
					if line := lines[flight]; line != 0 {
						r.breakpoints(main, line)
						go func() { stepped <- r.get(map[string]string{"next": "/describe", "stepIn": "/total"}[flight]) }()
						stop = r.stoppedFor("breakpoint")
						r.breakpoints(main)
					}
					end := r.toggle()
					answers := make(chan string, calls)
					for range calls {
						go func() { answers <- r.get("/total") }()
					}
					r.somewhile()
					switch flight {
					case "pause":
						r.send("pause", dap.PauseArguments{})()
					case "next", "stepIn":
						r.send(flight, map[string]any{"threadId": stop.ThreadId})()
					}
					if first == "patch" {
						set(true)
					}
					look := func(at dap.StoppedEventBody) {
						if flight != "stepIn" || at.Reason != "step" {
							return
						}
						if got := r.stack(at.ThreadId); !strings.HasPrefix(got, "main.total:") && !strings.HasPrefix(got, "main.total (old):") {
							t.Fatalf("round %d: the step into total ends at %s", i, got)
						}
					}
					count(r.answeredWith(look, answers, calls, "270", "300"))
					switch flight {
					case "next":
						count(r.answered(stepped, 1, "a pen"))
					case "stepIn":
						count(r.answeredWith(look, stepped, 1, "270", "300"))
					}
					end()
					// It is where calls come by, whatever has happened.
					go func() { answers <- r.get("/total") }()
					again := r.answered(answers, 1, r.want())
					if again[kind] == 0 {
						t.Fatalf("round %d, %s: a call passed the breakpoint: %v", i, flight, again)
					}
					count(again)
					set(false)
					go func() { answers <- r.get("/total") }()
					if late := r.answered(answers, 1, r.want()); late[kind] != 0 {
						t.Fatalf("round %d, %s: stopped without a breakpoint: %v", i, flight, late)
					}
				}
				t.Logf("stops: %v, %d operations were refused as busy", stops, r.refused)
				// A pause is none where a breakpoint is hit at the same moment.
				if stops["step"] == 0 || *races > 0 && stops["pause"] == 0 {
					t.Errorf("the stops are %v", stops)
				}
				if r.on {
					r.toggle()()
				}
				r.patch("unload", r.id)
				r.disconnect(false)
				mustAnswer(t, r.get)
				mustBeWhole(t, r.target)
			})
		}
	}
}

// While nothing is switched the entry of a function whose patch is off has the bytes of
// the program, and a breakpoint may be set among them. Then the patch is not activated,
// until that is gone. While the patch is active such a breakpoint
// would break the jump.
func TestBreakpointsAmongTheBytesOfAStraightEntry(t *testing.T) {
	s, target, get := openShop(t)
	c := count(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.makes(1, "load", map[string]any{"path": s.described})
	id := map[string]any{"id": p.ID}
	describe := p.Functions[slices.IndexFunc(p.Functions, func(f patcher.Function) bool { return f.Name == "main.describe" })]
	straight := func() {
		t.Helper()
		eventually(t, "a straight entry", func() bool {
			var l patcher.Listing
			c.call("darn/list", nil, &l)
			return !slices.ContainsFunc(l.Patches[0].Functions, func(f patcher.Function) bool { return !f.Straight })
		})
	}
	// The check of the stack has four bytes, and the jump five.
	within := dap.SetInstructionBreakpointsArguments{Breakpoints: []dap.InstructionBreakpoint{{InstructionReference: fmt.Sprintf("%#x", describe.Address+4)}}}
	none := dap.SetInstructionBreakpointsArguments{Breakpoints: []dap.InstructionBreakpoint{}}

	c.makes(0, "activate", id)
	straight()
	if err := c.fails("setInstructionBreakpoints", within); !strings.Contains(err.Error(), "inside the jump") {
		t.Errorf("a breakpoint in the jump: %v", err)
	}
	c.makes(0, "deactivate", id)
	straight()

	var body dap.SetBreakpointsResponseBody
	c.call("setInstructionBreakpoints", within, &body)
	if !body.Breakpoints[0].Verified {
		t.Fatalf("the breakpoint is %+v", body)
	}
	if err := c.fails("darn/activate", id); !strings.Contains(err.Error(), "lies in the bytes at the entry of main.describe") {
		t.Errorf("activate: %v", err)
	}
	answer := make(chan string, 1)
	go func() { answer <- get("/describe") }()
	stop := c.stopped()
	c.resume("continue", stop.ThreadId)
	if got := <-answer; got != "a pen" {
		t.Errorf("the answer is %q", got)
	}
	c.call("setInstructionBreakpoints", none, &body)
	c.makes(0, "activate", id)
	if got := get("/describe"); got == "a pen" {
		t.Errorf("with the patch the answer is %q", got)
	}
	straight()

	// One at the very entry is in no jump; the entry is bent under it.
	within.Breakpoints[0].InstructionReference = fmt.Sprintf("%#x", describe.Address)
	c.call("setInstructionBreakpoints", within, &body)
	c.makes(1, "deactivate", id)
	go func() { answer <- get("/describe") }()
	stop = c.stopped()
	c.call("setInstructionBreakpoints", none, &body)
	c.resume("continue", stop.ThreadId)
	if got := <-answer; got != "a pen" {
		t.Errorf("the answer is %q", got)
	}
	straight()
	c.patch("unload", id)
	c.disconnect(false)
	mustAnswer(t, get)
}
