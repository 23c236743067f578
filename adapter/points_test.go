package adapter

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// visit is a session with a shop in which the patch that takes 30 off is loaded.
type visit struct {
	*client
	shop   *shop
	target *child
	get    func(string) string
	id     string
	file   string
}

func openVisit(t testing.TB) *visit {
	t.Helper()
	v, _ := openHalted(t)
	return v
}

// openHalted opens a visit in which the adapter can be made to halt the shop.
func openHalted(t testing.TB) (*visit, *halts) {
	t.Helper()
	s, target, get := openShop(t)
	adapter, addr, in := server(t, "halts")
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	c.patchSays("loaded", p.ID, patcher.Loaded)
	return &visit{c, s, target, get, p.ID, filepath.Join(s.dir, "main.go")}, &halts{t: t, adapter: adapter, in: in}
}

// line returns the number of the line of the shop that holds a text.
func (v *visit) line(mark string) int { return lineOf(v.t, v.file, mark) }

// at activates the patch at the line that holds mark, with more arguments.
func (v *visit) at(mark string, more map[string]any) {
	v.t.Helper()
	a := map[string]any{"id": v.id, "at": map[string]any{"path": v.file, "line": v.line(mark)}}
	for key, value := range more {
		a[key] = value
	}
	if p := v.patch("activate", a); p.State != patcher.Pending {
		v.t.Errorf("darn/activate with at says %+v", p)
	}
	v.patchSays("pending", v.id, patcher.Pending)
}

func (v *visit) total(want string) {
	v.t.Helper()
	if got := v.get("/total"); got != want {
		v.t.Errorf("the total is %s, want %s", got, want)
	}
}

// silent fails the test if the client has heard of a stop.
func (v *visit) silent() {
	v.t.Helper()
	for _, e := range v.Pending() {
		if !slices.Contains([]string{"output", "capabilities", "process", "module", "darn/patch", "breakpoint"}, e) {
			v.t.Fatalf("unexpected events: %v", v.Pending())
		}
	}
}

// noPoints fails the test if the adapter's own breakpoints have been seen.
func (v *visit) noPoints() {
	v.t.Helper()
	for slices.Contains(v.Pending(), "output") {
		var out dap.OutputEventBody
		v.event("output", &out)
		if strings.Contains(out.Output, "darn point") || strings.Contains(out.Output, "interrupted") {
			v.t.Errorf("the client heard %q", out.Output)
		}
	}
}

// leave ends the session: the program answers as before, its text is its own if
// the patch was unloaded or never active.
func (v *visit) leave() {
	v.t.Helper()
	v.silent()
	v.noPoints()
	v.disconnect(false)
	mustAnswer(v.t, v.get)
}

func TestAPatchIsActivatedWhereExecutionReachesAPoint(t *testing.T) {
	v := openVisit(t)
	v.at("if n == 0", nil)
	v.total("300")
	var l patcher.Listing
	v.call("darn/list", nil, &l)
	if l.Patches[0].State != patcher.Pending {
		t.Errorf("darn/list says %+v", l.Patches)
	}
	v.total("300")
	v.get("/mark")
	e := v.patchSays("activated", v.id, patcher.Active)
	if e.Receipt.Halts != 1 || e.Receipt.HaltMicros <= 0 || e.Receipt.ThreadsHalted < 2 {
		t.Errorf("the receipt says %+v", e.Receipt)
	}
	v.total("270")
	v.get("/mark") // nothing is there any more
	v.silent()

	// Once more, now that it is only a store.
	v.patch("deactivate", map[string]any{"id": v.id})
	v.patchSays("deactivated", v.id, patcher.Loaded)
	v.at("if n == 0", nil)
	v.total("300")
	v.get("/mark")
	v.patchSays("activated", v.id, patcher.Active)
	v.total("270")
	v.patch("deactivate", map[string]any{"id": v.id})
	v.leave()
}

// The call that reaches the point goes on in the old code, unless the point is
// where the jump is written.
func TestAPointInTheFunctionThatIsReplaced(t *testing.T) {
	for _, test := range []struct{ name, mark, during string }{
		{"within", `return "waited"`, "waited"},
		{"at its entry", "return n * price", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := openVisit(t)
			answer := waits(t, v.get)
			v.at(test.mark, nil)
			if test.during == "" {
				v.total("270")
			}
			v.get("/release")
			if got := <-answer; test.during != "" && got != test.during {
				t.Errorf("the call that has reached the point says %q", got)
			}
			v.patchSays("activated", v.id, patcher.Active)
			v.total("270")
			v.patch("deactivate", map[string]any{"id": v.id})
			v.leave()
		})
	}
}

func TestAPointWithAHitCondition(t *testing.T) {
	v := openVisit(t)
	a := map[string]any{"path": v.file, "line": v.line("if n == 0"), "hitCondition": "3"}
	v.patch("activate", map[string]any{"id": v.id, "at": a})
	v.patchSays("pending", v.id, patcher.Pending)
	for range 2 {
		v.get("/mark")
		v.total("300")
	}
	v.get("/mark")
	v.patchSays("activated", v.id, patcher.Active)
	v.total("270")
	v.patch("deactivate", map[string]any{"id": v.id})
	v.leave()
}

func TestAPendingActivationIsCancelledByDeactivate(t *testing.T) {
	v := openVisit(t)
	v.at("if n == 0", nil)
	if p := v.patch("deactivate", map[string]any{"id": v.id}); p.State != patcher.Loaded {
		t.Errorf("darn/deactivate says %+v", p)
	}
	e := v.patchSays("failed", v.id, patcher.Loaded)
	if len(e.Findings) != 1 || !strings.Contains(e.Findings[0].Message, "was deactivated while its activation waited") {
		t.Errorf("the findings are %+v", e.Findings)
	}
	v.patchSays("deactivated", v.id, patcher.Loaded)
	v.get("/mark")
	v.total("300")
	v.leave()
	mustBeWhole(t, v.target)
}

func TestAPointThatIsNotReachedInTimeIsGivenUp(t *testing.T) {
	v := openVisit(t)
	v.at("if n == 0", map[string]any{"timeoutMs": 50})
	e := v.patchSays("failed", v.id, patcher.Loaded)
	if len(e.Findings) != 1 || e.Findings[0].Code != finding.PointTimeout || !strings.Contains(e.Findings[0].Message, "the time given was over before execution reached") {
		t.Errorf("the findings are %+v", e.Findings)
	}
	v.get("/mark")
	v.total("300")
	v.leave()
	mustBeWhole(t, v.target)
}

func TestPointsThatCanNotBeAreRefused(t *testing.T) {
	v := openVisit(t)
	mark := v.line("if n == 0")
	v.call("setBreakpoints", dap.SetBreakpointsArguments{
		Source:      dap.Source{Path: v.file},
		Breakpoints: []dap.SourceBreakpoint{{Line: v.line("return n * price"), Condition: "n == 4711"}, {Line: v.line("waiting.Add(1)")}},
	}, nil)
	for _, test := range []struct {
		at   map[string]any
		text string
	}{
		{map[string]any{"path": v.file, "line": 2}, "no code of the program is there"},
		{map[string]any{"path": "/no/such/file.go", "line": 2}, "could not find file /no/such/file.go"},
		{map[string]any{"path": "type.go", "line": 1}, "stands for"},
		{map[string]any{"path": v.file, "line": mark, "hitCondition": "often"}, `unable to parse breakpoint hit condition: "often"`},
		{map[string]any{"path": v.file, "line": v.line("return n * price")}, "has a condition, which hides it"},
		{map[string]any{"path": v.file, "line": v.line("waiting.Add(1)"), "hitCondition": "2"}, "keeps its hits from being counted"},
	} {
		err := v.fails("darn/activate", map[string]any{"id": v.id, "at": test.at})
		if err.Code() != finding.PointInvalid || !strings.Contains(err.Error(), test.text) || err.Findings[0].Advice == "" {
			t.Errorf("at %v: %v", test.at, err)
		}
	}
	var l patcher.Listing
	v.call("darn/list", nil, &l)
	if l.Patches[0].State != patcher.Loaded {
		t.Errorf("darn/list says %+v", l.Patches)
	}
	v.breakpoints(v.file)
	v.leave()
	mustBeWhole(t, v.target)
}

func TestAPointAtAClientsBreakpoint(t *testing.T) {
	v := openVisit(t)
	line := v.line("if n == 0")
	hit := func(want bool) {
		t.Helper()
		done := make(chan struct{})
		go func() { v.get("/mark"); close(done) }()
		if want {
			stop := v.stoppedFor("breakpoint")
			if got := v.top(stop.ThreadId); got != line || len(stop.HitBreakpointIds) != 1 {
				t.Errorf("stopped in line %d by %v", got, stop.HitBreakpointIds)
			}
			v.resume("continue", stop.ThreadId)
		}
		<-done
		v.silent()
	}
	off := func() {
		t.Helper()
		v.patch("deactivate", map[string]any{"id": v.id})
		v.patchSays("deactivated", v.id, patcher.Loaded)
	}
	set := func(lines ...int) {
		t.Helper()
		for _, b := range v.breakpoints(v.file, lines...) {
			if !b.Verified {
				t.Errorf("a breakpoint: %+v", b)
			}
		}
	}

	// The breakpoint came first.
	set(line)
	v.at("if n == 0", nil)
	v.total("300")
	hit(true)
	v.patchSays("activated", v.id, patcher.Active)
	v.total("270")
	off()

	// The breakpoint goes before the point is reached.
	v.at("if n == 0", nil)
	set()
	hit(false)
	v.patchSays("activated", v.id, patcher.Active)
	off()

	// The point came first.
	v.at("if n == 0", nil)
	set(line, v.line("return flags"))
	set(line)
	hit(true)
	v.patchSays("activated", v.id, patcher.Active)
	hit(true)
	off()

	// A logpoint does for both too.
	v.call("setBreakpoints", dap.SetBreakpointsArguments{
		Source: dap.Source{Path: v.file}, Breakpoints: []dap.SourceBreakpoint{{Line: line, LogMessage: "logged"}},
	}, nil)
	v.at("if n == 0", nil)
	hit(false)
	v.patchSays("activated", v.id, patcher.Active)
	if !slices.Contains(v.Pending(), "output") {
		t.Error("the logpoint has not logged")
	}
	off()

	// A breakpoint with a condition would hide it.
	set()
	v.at("if n == 0", nil)
	var r dap.SetBreakpointsResponseBody
	v.call("setBreakpoints", dap.SetBreakpointsArguments{
		Source: dap.Source{Path: v.file}, Breakpoints: []dap.SourceBreakpoint{{Line: line, Condition: "n > 1000"}},
	}, &r)
	if !r.Breakpoints[0].Verified {
		t.Errorf("the breakpoint: %+v", r.Breakpoints[0])
	}
	if e := v.patchSays("failed", v.id, patcher.Loaded); len(e.Findings) != 1 || !strings.Contains(e.Findings[0].Message, "has a condition, which hides it") {
		t.Errorf("the findings are %+v", e.Findings)
	}
	set()
	v.leave()
}

func TestTwoPatchesAtOnePoint(t *testing.T) {
	v := openVisit(t)
	q := v.patch("load", map[string]any{"path": v.shop.more})
	v.patchSays("loaded", q.ID, patcher.Loaded)
	v.at("if n == 0", nil)
	v.patch("activate", map[string]any{"id": q.ID, "at": map[string]any{"path": v.file, "line": v.line("if n == 0")}})
	v.patchSays("pending", q.ID, patcher.Pending)
	v.get("/mark")
	for range 2 {
		var e patchEvent
		v.event("darn/patch", &e)
		if e.Reason != "activated" || e.Patch.State != patcher.Active {
			t.Errorf("an event darn/patch says %+v", e)
		}
	}
	v.patch("deactivate", map[string]any{"id": q.ID})
	v.patch("deactivate", map[string]any{"id": v.id})
	v.leave()
}

func TestAQuiescentActivationAtAPoint(t *testing.T) {
	v := openVisit(t)
	answer := waits(t, v.get)
	v.at("if n == 0", map[string]any{"consistency": "quiescent"})
	v.get("/mark")
	var l patcher.Listing
	v.call("darn/list", nil, &l)
	if l.Patches[0].State != patcher.Pending {
		t.Errorf("darn/list says %+v", l.Patches)
	}
	v.get("/release")
	<-answer
	if e := v.patchSays("activated", v.id, patcher.Active); e.Receipt.Looks < 2 {
		t.Errorf("the receipt says %+v", e.Receipt)
	}
	v.patch("deactivate", map[string]any{"id": v.id})
	v.patchSays("deactivated", v.id, patcher.Loaded)

	// In vain: the program goes on all the same.
	answer = waits(t, v.get)
	v.at("if n == 0", map[string]any{"consistency": "quiescent", "timeoutMs": 2000})
	v.get("/mark")
	e := v.patchSays("failed", v.id, patcher.Loaded)
	if len(e.Findings) != 2 || e.Findings[0].Code != finding.QuiescenceTimeout || e.Findings[1].Function != "main.wait" {
		t.Errorf("the findings are %+v", e.Findings)
	}
	v.get("/mark")
	v.get("/release")
	if got := <-answer; got != "waited" {
		t.Errorf("the call that held it up says %q", got)
	}
	v.leave()
}

func TestADisconnectGivesUpAPendingActivation(t *testing.T) {
	v := openVisit(t)
	v.at("if n == 0", map[string]any{"stopOnFirstCall": true})
	v.disconnect(false)
	e := v.patchSays("failed", v.id, patcher.Loaded)
	if len(e.Findings) != 1 || !strings.Contains(e.Findings[0].Message, "the debug session ended before execution reached") {
		t.Errorf("the findings are %+v", e.Findings)
	}
	mustBeWhole(t, v.target)
	mustAnswer(t, v.get)
	v.get("/mark")
	v.total("300")
}

func TestAProgramThatEndsGivesUpAPendingActivation(t *testing.T) {
	v := openVisit(t)
	v.at("if n == 0", nil)
	if err := v.target.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var e patchEvent
	v.event("darn/patch", &e)
	if e.Reason != "failed" || len(e.Findings) != 1 || e.Findings[0].Code != finding.TargetExited {
		t.Errorf("an event darn/patch says %+v", e)
	}
	v.event("terminated", nil)
	v.disconnect(false)
}

func TestAPointDuringAStepDoesNotEndIt(t *testing.T) {
	v := openVisit(t)
	done := make(chan struct{})
	v.breakpoints(v.file, v.line("waiting.Add(1)"))
	go func() { v.get("/wait"); close(done) }()
	stop := v.stoppedFor("breakpoint")
	v.breakpoints(v.file)
	v.at("if n == 0", nil)
	v.resume("next", stop.ThreadId)
	v.stoppedFor("step")
	v.resume("next", stop.ThreadId) // over the receive, which waits
	for range 2 {
		v.event("continued", nil)
	}
	v.get("/mark")
	v.patchSays("activated", v.id, patcher.Active)
	v.silent()
	released := make(chan struct{})
	go func() { v.get("/release"); close(released) }() // answered when the step is over, perhaps
	stop = v.stoppedFor("step")
	if got, want := v.top(stop.ThreadId), v.line(`return "waited"`); got != want {
		t.Errorf("stepped to line %d, want %d", got, want)
	}
	v.resume("continue", stop.ThreadId)
	<-done
	<-released
	v.total("270")
	v.patch("deactivate", map[string]any{"id": v.id})
	v.leave()
}

// Whatever happens at the moment at which the point is reached, the client hears
// of what it asked for and of nothing else.
func TestPausesAndBreakpointsAtThePoint(t *testing.T) {
	v := openVisit(t)
	other := v.line("return flags")
	stops := 0
	rounds := 120
	if testing.Short() {
		rounds = 30
	}
	for n := range rounds {
		v.at("if n == 0", nil)
		var hit sync.WaitGroup
		hit.Go(func() {
			time.Sleep(time.Duration(n*37%11) * 300 * time.Microsecond)
			v.get("/mark")
		})
		time.Sleep(time.Duration(n*53%13) * 300 * time.Microsecond)
		switch n % 3 {
		case 0:
			v.call("pause", dap.PauseArguments{}, nil)
			v.stoppedFor("pause")
			stops++
			v.resume("continue", 1)
		case 1:
			v.breakpoints(v.file, v.line("waiting.Add(1)"))
			v.breakpoints(v.file)
		case 2:
			v.breakpoints(v.file, other)
			stopped := make(chan struct{})
			go func() { hit.Wait(); close(stopped) }()
			// It comes behind the point, if it was set in time.
			for waiting := true; waiting; {
				select {
				case <-stopped:
					waiting = false
				case <-time.After(time.Millisecond):
					if slices.Contains(v.Pending(), "stopped") {
						stop := v.stopped()
						if stop.Reason != "breakpoint" && stop.Reason != "pause" {
							t.Fatalf("stopped for %s", stop.Reason)
						}
						v.resume("continue", stop.ThreadId)
					}
				}
			}
			v.breakpoints(v.file)
		}
		hit.Wait()
		v.patchSays("activated", v.id, patcher.Active)
		v.total("270")
		v.silent()
		v.patch("deactivate", map[string]any{"id": v.id})
		v.patchSays("deactivated", v.id, patcher.Loaded)
	}
	v.leave()
}

// Other operations, and halts of other kinds, come in the way.
func TestHaltsAtPointsAndFirstCalls(t *testing.T) {
	v, h := openHalted(t)
	h.begin(1500, 300*time.Microsecond)
	for n := 0; n < 60 || h.busy() && n < 1000; n++ {
		first := n%2 == 0
		v.at("if n == 0", map[string]any{"stopOnFirstCall": first})
		var hit sync.WaitGroup
		for range 3 {
			hit.Go(func() { v.get("/mark") })
		}
		time.Sleep(time.Duration(n*37%11) * 200 * time.Microsecond)
		list, err := v.Send("darn/list", nil)
		v.must(err)
		v.patchSays("activated", v.id, patcher.Active)
		v.must(v.Await(v.ctx, list, nil))
		hit.Wait()
		v.silent()
		for range 3 {
			hit.Go(func() { v.total("270") })
		}
		if first {
			stop := v.stoppedFor("function breakpoint")
			if !strings.HasPrefix(stop.Text, "first call of main.total in patch ") || len(stop.HitBreakpointIds) != 0 {
				t.Fatalf("stopped: %+v", stop)
			}
			v.resume("continue", stop.ThreadId)
		}
		hit.Wait()
		v.silent()
		v.patch("deactivate", map[string]any{"id": v.id})
		v.patchSays("deactivated", v.id, patcher.Loaded)
	}
	h.end()
	v.leave()
}

func TestPointsAreGoneAfterARestart(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe})
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	c.patchSays("loaded", p.ID, patcher.Loaded)
	c.patch("activate", map[string]any{"id": p.ID, "at": map[string]any{"path": "main.go", "line": lineOf(t, filepath.Join(s.dir, "main.go"), "if n == 0")}, "stopOnFirstCall": true})
	c.patchSays("pending", p.ID, patcher.Pending)
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "rebuild": false, "args": []string{}}}, nil)
	c.patchSays("failed", p.ID, patcher.Loaded)
	c.event("initialized", nil)
	c.configured()
	var l patcher.Listing
	c.call("darn/list", nil, &l)
	if len(l.Patches) != 0 {
		t.Errorf("darn/list says %+v", l)
	}
	c.disconnect(true)
}

func TestTheTargetStopsOnceAtTheFirstPatchedCall(t *testing.T) {
	for _, test := range []struct {
		name     string
		activate func(v *visit)
	}{
		{"at once", func(v *visit) {
			v.patch("activate", map[string]any{"id": v.id, "stopOnFirstCall": true})
		}},
		{"at a point", func(v *visit) {
			v.at("if n == 0", map[string]any{"stopOnFirstCall": true})
			v.total("300")
			v.get("/mark")
		}},
		{"in the console", func(v *visit) { v.evaluate("darn activate " + v.id + " stop") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := openVisit(t)
			test.activate(v)
			v.patchSays("activated", v.id, patcher.Active)
			v.silent()
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() { v.total("270") })
			}
			stop := v.stoppedFor("function breakpoint")
			if want := "first call of main.total in patch " + v.id + " (discount)"; stop.Text != want || len(stop.HitBreakpointIds) != 0 || stop.ThreadId == 0 {
				t.Errorf("stopped: %+v, want %q", stop, want)
			}
			v.resume("continue", stop.ThreadId)
			calls.Wait()
			v.total("270")
			v.get("/largest")
			v.patch("deactivate", map[string]any{"id": v.id})
			v.leave()
		})
	}
}

func TestDeactivateTakesTheBreakpointsOfTheFirstCallAway(t *testing.T) {
	v := openVisit(t)
	id := map[string]any{"id": v.id}
	v.patch("activate", map[string]any{"id": v.id, "stopOnFirstCall": true})
	v.patch("deactivate", id)
	v.total("300")
	v.patch("activate", id)
	v.total("270")
	v.patch("deactivate", id)
	v.patch("unload", id)
	v.leave()
	mustBeWhole(t, v.target)
}

func TestActivationAtAPointFromTheConsole(t *testing.T) {
	v := openVisit(t)
	for _, test := range []struct{ words, text string }{
		{"at", "needs a place, FILE:LINE"},
		{"at main.go", `needs a place, FILE:LINE, not "main.go"`},
		{"hit 3", `does not know "hit"`},
		{"at nowhere.go:1", "[point-invalid]"},
	} {
		err := v.fails("evaluate", dap.EvaluateArguments{Expression: "darn activate " + v.id + " " + test.words, Context: "repl"})
		if !strings.Contains(err.Format, test.text) {
			t.Errorf("%s: %q", test.words, err.Format)
		}
	}
	base := filepath.Base(filepath.Dir(v.file)) + "/main.go"
	says := v.evaluate("darn activate " + v.id + " at " + base + ":" + strconv.Itoa(v.line("if n == 0")) + " hit >= 2 1m")
	if !strings.Contains(says, ": pending") {
		t.Errorf("the console says %q", says)
	}
	v.patchSays("pending", v.id, patcher.Pending)
	v.get("/mark")
	v.total("300")
	v.get("/mark")
	v.patchSays("activated", v.id, patcher.Active)
	v.patch("deactivate", map[string]any{"id": v.id})
	v.leave()
}
