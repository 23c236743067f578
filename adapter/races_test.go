package adapter

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

var races = flag.Int("races", 0, "how often each request of the client's meets an operation; 0: as often as a quick run can")

// rounds returns how often a race is run: quick times, unless -races says
// otherwise.
func rounds(quick int) int { return cmp.Or(*races, quick) }

// race is a session whose client's requests meet the patch being switched.
type race struct {
	*client
	shop    *shop
	get     func(string) string
	id      map[string]any
	pid     int
	target  *child
	on      bool
	random  *rand.Rand
	refused int
}

func startRace(t *testing.T) *race {
	s, target, get := openShop(t)
	c, _ := session(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	t.Cleanup(cancel)
	c.ctx = ctx
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	return &race{client: c, shop: s, get: get, pid: target.Process.Pid, target: target, id: map[string]any{"id": p.ID}, random: rand.New(rand.NewPCG(uint64(rounds(80)), 1))}
}

// somewhile waits for a moment that differs every time.
func (r *race) somewhile() { time.Sleep(time.Duration(r.random.IntN(4000)) * time.Microsecond) }

// toggle asks for the patch to be switched, without waiting for the answer.
func (r *race) toggle() (end func()) {
	r.t.Helper()
	command := "darn/activate"
	if r.on {
		command = "darn/deactivate"
	}
	seq, err := r.Send(command, r.id)
	r.must(err)
	return func() {
		r.t.Helper()
		switch err := r.Await(r.ctx, seq, nil); {
		case err == nil:
			r.on = !r.on
		case unfit(err):
			r.refused++
		default:
			r.t.Fatal(err)
		}
	}
}

// unfit tells whether an operation was refused for the instant in which it was asked
// for, as it may be while the program is stopped: somebody stands where it matters, or a
// collection is under way.
func unfit(err error) bool {
	e, ok := errors.AsType[*dapclient.Error](err)
	if !ok {
		return false
	}
	switch e.Code() {
	case finding.Busy, finding.InUse, finding.GCTimeout:
		return true
	}
	return false
}

func (r *race) send(command string, arguments any) (end func()) {
	r.t.Helper()
	seq, err := r.Send(command, arguments)
	r.must(err)
	return func() {
		r.t.Helper()
		r.must(r.Await(r.ctx, seq, nil))
	}
}

// noStop fails the test if the client was told of a stop that nobody waits for.
func (r *race) noStop() {
	r.t.Helper()
	if slices.Contains(r.Pending(), "stopped") {
		r.t.Fatalf("there is a stop too many: %+v", r.stopped())
	}
}

func (r *race) want() string {
	if r.on {
		return "270"
	}
	return "300"
}

// Whatever the client asks for at the moment at which a patch is switched,
// happens, once.
func TestRaces(t *testing.T) {
	main := func(r *race) string { return filepath.Join(r.shop.dir, "main.go") }
	for name, try := range map[string]func(t *testing.T, r *race){
		"pause": func(t *testing.T, r *race) {
			for range rounds(200) {
				end := r.toggle()
				r.somewhile()
				paused := r.send("pause", dap.PauseArguments{})
				paused()
				stop := r.stoppedFor("pause")
				end()
				r.noStop()
				r.resume("continue", stop.ThreadId)
				if got := r.get("/total"); got != r.want() {
					t.Fatalf("the total is %s, want %s", got, r.want())
				}
			}
		},
		"setBreakpoints": func(t *testing.T, r *race) {
			line := lineOf(t, main(r), "return n * price")
			for range rounds(150) {
				end := r.toggle()
				r.somewhile()
				lines := []int{}
				if r.random.IntN(2) == 0 {
					lines = append(lines, line)
				}
				r.breakpoints(main(r), lines...)
				end()
				answer := make(chan string, 1)
				go func() { answer <- r.get("/total") }()
				if len(lines) > 0 {
					r.resume("continue", r.stoppedFor("breakpoint").ThreadId)
				}
				if got := <-answer; got != r.want() {
					t.Fatalf("the total is %s, want %s", got, r.want())
				}
				r.noStop()
			}
		},
		"hit": func(t *testing.T, r *race) {
			r.breakpoints(main(r), lineOf(t, main(r), "return n * price"))
			stops := 0
			for range rounds(200) {
				answer := make(chan string, 1)
				go func() { answer <- r.get("/total") }()
				r.somewhile()
				end := r.toggle()
				// A call that was on its way while the breakpoint moved may miss it, and
				// one that stopped at the very entry goes on to the new code and its
				// breakpoint, but none stops twice in one place.
				var got, stopped string
				for got == "" {
					select {
					case got = <-answer:
					default:
						if !slices.Contains(r.Pending(), "stopped") {
							time.Sleep(100 * time.Microsecond)
							continue
						}
						stop := r.stoppedFor("breakpoint")
						var top dap.StackTraceResponseBody
						r.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, Levels: 1}, &top)
						at := top.StackFrames[0].InstructionPointerReference
						if stopped == at {
							t.Fatalf("a call stopped twice at %s: %s", at, r.stack(stop.ThreadId))
						}
						stopped = at
						stops++
						r.resume("continue", stop.ThreadId)
					}
				}
				end()
				if got != "270" && got != "300" {
					t.Fatalf("the total is %s", got)
				}
			}
			if stops < rounds(200)/2 {
				t.Errorf("%d stops in %d calls", stops, rounds(200))
			}
		},
		"next": func(t *testing.T, r *race) {
			line := lineOf(t, main(r), `return "a " + t.label()`)
			for range rounds(100) {
				r.breakpoints(main(r), line)
				answer := make(chan string, 1)
				go func() { answer <- r.get("/describe") }()
				stop := r.stoppedFor("breakpoint")
				r.breakpoints(main(r))
				end := r.toggle()
				r.somewhile()
				stepped := r.send("next", map[string]any{"threadId": stop.ThreadId})
				stepped()
				r.stoppedFor("step")
				end()
				r.noStop()
				r.resume("continue", stop.ThreadId)
				if got := <-answer; got != "a pen" {
					t.Fatalf("the thing is %s", got)
				}
			}
		},
		"disconnect": func(t *testing.T, r *race) {
			for range rounds(5) { // each attaches anew
				if _, err := r.Send(map[bool]string{false: "darn/activate", true: "darn/deactivate"}[r.on], r.id); err != nil {
					t.Fatal(err)
				}
				r.somewhile()
				r.disconnect(false)
				if got := r.get("/total"); got != "270" && got != "300" {
					t.Fatalf("the total is %s", got)
				}
				ctx := r.ctx
				r.client, _ = session(t)
				r.ctx = ctx
				r.attach(r.pid)
				r.configured()
				var l patcher.Listing
				r.call("darn/list", nil, &l)
				if len(l.Patches) != 1 {
					t.Fatalf("the patches are %+v", l.Patches)
				}
				r.on = l.Patches[0].State == patcher.Active
				if got := r.get("/total"); got != r.want() {
					t.Fatalf("the total is %s, want %s", got, r.want())
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRace(t)
			try(t, r)
			t.Logf("%d operations were refused as busy", r.refused)
			r.breakpoints(main(r))
			if r.on {
				r.toggle()()
			}
			r.patch("unload", r.id)
			r.disconnect(false)
			mustAnswer(t, r.get)
		})
	}
}

// A restart that meets an operation ends it, and gives a new process that can be
// patched.
func TestRestartsDuringOperations(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	t.Cleanup(cancel)
	c.ctx = ctx
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe})
	c.configured()
	random := rand.New(rand.NewPCG(1, 2))
	done := 0
	for range rounds(5) {
		p := c.patch("load", map[string]any{"path": s.module})
		seq, err := c.Send("darn/activate", map[string]any{"id": p.ID})
		c.must(err)
		time.Sleep(time.Duration(random.IntN(4000)) * time.Microsecond)
		c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "rebuild": false}}, nil)
		if err := c.Await(c.ctx, seq, nil); err == nil {
			done++
		}
		c.stopped() // the old process
		c.event("initialized", nil)
		c.configured()
		var l patcher.Listing
		c.call("darn/list", nil, &l)
		if len(l.Patches) != 0 {
			t.Fatalf("the new process has %+v", l.Patches)
		}
	}
	t.Logf("%d operations came to their end before the restart", done)
	c.disconnect(true)
}

// A program that is stopped where it begins can't be patched yet, and can when it
// has run.
func TestALoadIsRefusedBeforeTheProgramHasBegun(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe, "stopOnEntry": true})
	c.configured()
	stop := c.stoppedFor("entry")
	for range 2 {
		if e := c.fails("darn/load", map[string]any{"path": s.module}); e.Code() != finding.WrongState || !strings.Contains(e.Format, "has only just begun") {
			t.Fatalf("darn/load says %v", e)
		}
	}
	c.resume("continue", stop.ThreadId)
	p := c.patch("load", map[string]any{"path": s.module})
	c.patch("activate", map[string]any{"id": p.ID})
	c.disconnect(true)
}
