package adapter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// unoptimised are the flags with which Delve can call functions.
const unoptimised = "-gcflags=all=-N -l"

// billsEdit takes 30 off the total, and changes most other functions.
var billsEdit = []string{
	"return n * price", "return n*price - 30",
	`"%d %s %s", b.cups`, `"%d cups %s %s", b.cups`,
	"return bill{b.what, 2 * b.cups}", "return bill{b.what, 2*b.cups + 1}",
	"return n / 2, nil", "return 6 / (n - 3), nil",
	`strings.Join(names, ", ")`, `strings.Join(names, ", ") + ""`,
	"return 1 + deep(n-1)", "return 2 + deep(n-1)",
	"m = max(m, v)", "m = min(m, v)",
	"time.Sleep(time.Duration(n) * time.Second)", "time.Sleep(time.Duration(8*n) * time.Second)",
}

// stoppedBills starts a program with an edit that is loaded, and stops it in its
// handler.
type stoppedBills struct {
	*client
	main   string
	patch  *patcher.Patch
	stop   dap.StoppedEventBody
	get    func(string) string
	answer chan string
}

func stopBills(t testing.TB, flags ...string) *stoppedBills {
	t.Helper()
	main, module, exe := editTarget(t, "bills", billsEdit, flags...)
	target, get := startShop(t, exe)
	_, addr, _ := server(t, "impatient 127.0.0.1:0")
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	c.configured()
	b := &stoppedBills{client: c, main: main, get: get, answer: make(chan string, 1)}
	b.patch = c.patch("load", map[string]any{"path": module})
	c.breakpoints(main, lineOf(t, main, "// stop here"))
	b.ask()
	b.stop = c.stoppedFor("breakpoint")
	return b
}

func (b *stoppedBills) ask() {
	go func() { b.answer <- b.get("/bill") }()
}

func (b *stoppedBills) compare(expression string) (r comparison) {
	b.t.Helper()
	b.call("darn/compare", map[string]any{"id": b.patch.ID, "expression": expression}, &r)
	return r
}

func (b *stoppedBills) refused(expression string) string {
	b.t.Helper()
	var r comparison
	err := b.Call(b.ctx, "darn/compare", map[string]any{"id": b.patch.ID, "expression": expression}, &r)
	e, ok := err.(*dapclient.Error)
	if !ok {
		b.t.Fatalf("%s: got %v %+v, want a refusal", expression, err, r)
	}
	return e.Format
}

// mustSeeNoStop fails the test if the client has heard of a stop.
func (b *stoppedBills) mustSeeNoStop() {
	b.t.Helper()
	for _, event := range b.Pending() {
		if event == "stopped" || event == "continued" {
			b.t.Errorf("unexpected event %s among %v", event, b.Pending())
		}
	}
}

// oldBill is what the program answers while the patch is not active.
const oldBill = "300 3 for tea {tea 6} 2 <nil> tea, milk 65\n4 tea tea 0"

// goesOn lets the program go on and checks that it answers as it should.
func (b *stoppedBills) goesOn() {
	b.t.Helper()
	b.mustSeeNoStop()
	b.breakpoints(b.main)
	b.resume("continue", b.stop.ThreadId)
	if got := <-b.answer; got != oldBill {
		b.t.Errorf("the program answers %q, want %q", got, oldBill)
	}
	if got := b.get("/bill"); got != oldBill {
		b.t.Errorf("later the program answers %q, want %q", got, oldBill)
	}
	b.call("darn/unload", map[string]any{"id": b.patch.ID}, nil)
	b.disconnect(false)
	if got := b.get("/bill"); got != oldBill {
		b.t.Errorf("alone the program answers %q, want %q", got, oldBill)
	}
}

func TestCompareCallsTheOldAndTheNewVersion(t *testing.T) {
	b := stopBills(t, unoptimised)
	for _, test := range []struct {
		expression string
		want       comparison
	}{
		{"main.total(n, price)", comparison{returned{"300", "int"}, returned{"270", "int"}, false}},
		{"total(n, 1)", comparison{returned{"3", "int"}, returned{"-27", "int"}, false}},
		{"total(len(names), int(7))", comparison{returned{"14", "int"}, returned{"-16", "int"}, false}},
		{`b.text("or")`, comparison{returned{`"3 or tea"`, "string"}, returned{`"3 cups or tea"`, "string"}, false}},
		{"b.double()", comparison{returned{`main.bill {what: "tea", cups: 6}`, "main.bill"}, returned{`main.bill {what: "tea", cups: 7}`, "main.bill"}, false}},
		{"list(names)", comparison{returned{`"tea, milk"`, "string"}, returned{`"tea, milk"`, "string"}, true}},
		{"half(5)", comparison{returned{"2, error nil", "int, error"}, returned{"3, error nil", "int, error"}, false}},
		// Each goes on in its own code, also when its stack has to grow.
		{"deep(300)", comparison{returned{"301", "int"}, returned{"601", "int"}, false}},
	} {
		if got := b.compare(test.expression); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.expression, got, test.want)
		}
	}
	r := b.compare("half(3)")
	if r.Old.Result != "1, error nil" || !strings.HasPrefix(r.New.Result, "panic: ") || !strings.Contains(r.New.Result, "runtime") || r.Equal {
		t.Errorf("a panic: %+v", r)
	}
	if got, want := b.evaluate("darn compare "+b.patch.ID+" main.total(n, price)"), "old: 300\nnew: 270\nthey differ"; got != want {
		t.Errorf("the console says %q, want %q", got, want)
	}
	if got, want := b.evaluate("darn compare "+b.patch.ID+" list(names)"), "they are equal"; !strings.HasSuffix(got, want) {
		t.Errorf("the console says %q, want %q", got, want)
	}
	b.goesOn()
}

func TestCompareInTheFunctionItselfPassesItsBreakpoint(t *testing.T) {
	b := stopBills(t, unoptimised)
	line := lineOf(t, b.main, "n*price - 30")
	b.breakpoints(b.main, line)
	b.resume("continue", b.stop.ThreadId)
	b.stop = b.stoppedFor("breakpoint")
	for range 3 {
		if got, want := b.compare("total(n, price)"), (comparison{returned{"300", "int"}, returned{"270", "int"}, false}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if got := b.top(b.stop.ThreadId); got != line {
		t.Errorf("the goroutine is at line %d, want %d", got, line)
	}
	// The breakpoint is there for the program still.
	b.resume("continue", b.stop.ThreadId)
	if got := <-b.answer; got != oldBill {
		t.Errorf("the program answers %q, want %q", got, oldBill)
	}
	b.ask()
	b.stop = b.stoppedFor("breakpoint")
	b.goesOn()
}

func TestCompareTakesTheFrameInTheEditor(t *testing.T) {
	b := stopBills(t, unoptimised)
	var stack dap.StackTraceResponseBody
	b.call("stackTrace", dap.StackTraceArguments{ThreadId: b.stop.ThreadId, Levels: 2}, &stack)
	if len(stack.StackFrames) != 2 {
		t.Fatalf("the stack is %+v", stack)
	}
	arguments := map[string]any{"id": b.patch.ID, "expression": "total(n, price)", "frameId": stack.StackFrames[0].Id}
	var r comparison
	b.call("darn/compare", arguments, &r)
	if r.Old.Result != "300" || r.New.Result != "270" {
		t.Errorf("got %+v", r)
	}
	b.call("stackTrace", dap.StackTraceArguments{ThreadId: b.stop.ThreadId, Levels: 2}, &stack)
	arguments["frameId"] = stack.StackFrames[1].Id
	if e := b.fails("darn/compare", arguments); !strings.Contains(e.Format, "topmost stack frame") {
		t.Errorf("the caller's frame: %q", e.Format)
	}
	arguments["frameId"] = b.otherFrame()
	if e := b.fails("darn/compare", arguments); !strings.Contains(e.Format, "functions can be called on the goroutine that stopped only") {
		t.Errorf("another goroutine's frame: %q", e.Format)
	}
	b.goesOn()
}

// otherFrame returns a frame of a goroutine that has not stopped by itself.
func (b *stoppedBills) otherFrame() int {
	b.t.Helper()
	var threads dap.ThreadsResponseBody
	b.call("threads", nil, &threads)
	for _, th := range threads.Threads {
		var stack dap.StackTraceResponseBody
		if th.Id != b.stop.ThreadId && b.Call(b.ctx, "stackTrace", dap.StackTraceArguments{ThreadId: th.Id, Levels: 1}, &stack) == nil && len(stack.StackFrames) > 0 {
			return stack.StackFrames[0].Id
		}
	}
	b.t.Fatal("there is no other goroutine")
	return 0
}

func TestCompareIsRefused(t *testing.T) {
	b := stopBills(t, unoptimised)
	for _, test := range []struct{ expression, text string }{
		{"", "needs the argument expression"},
		{"n +", "is no expression"},
		{"n + price", `"n + price" is not a call: give a call of one of the patch's functions`},
		{"other(n)", "other is not a function of which patch 1 has new code"},
		{"b.short()", "b.short is not a function of which patch 1 has new code"},
		{"call(n, price)", "call is not a function of which patch 1 has new code"},
		{"most(names)", "most is generic: which of its instances is meant can't be told"},
		{"most[string](names)", "most[string] is generic"},
		{"total(other(n), 1)", "other is called in"},
		{"(*bill).text(&b, names[0])(n)", "does not name a function"},
		{"total(n)", "the old version of total was not called to its end: Unable to evaluate expression: not enough arguments"},
		{"total(nosuch, 1)", "could not find symbol value for nosuch"},
		{"nobody.total(1, 1)", "nobody.total can't be found here"},
	} {
		if got := b.refused(test.expression); !strings.Contains(got, test.text) {
			t.Errorf("%s: %q, want %q", test.expression, got, test.text)
		}
	}
	if e := b.fails("darn/compare", map[string]any{"id": "nosuch", "expression": "total(1, 1)"}); e.Code() != finding.NotLoaded {
		t.Errorf("an unknown patch: %v", e)
	}
	if e := b.fails("evaluate", dap.EvaluateArguments{Expression: "darn compare 1", Context: "repl"}); !strings.Contains(e.Format, "needs the argument expression") {
		t.Errorf("the console without a call: %q", e.Format)
	}

	id := map[string]any{"id": b.patch.ID}
	b.call("darn/activate", id, nil)
	if got := b.refused("deep(3)"); got != "patch 1 is active: calls of main.deep go to its code, and the old code can't be entered apart from it [wrong-state]; "+
		"deactivate patch 1, compare, and activate it again" {
		t.Errorf("active: %q", got)
	}
	// That one has no jump at its entry: its callers were replaced.
	if got, want := b.compare("total(n, price)"), (comparison{returned{"300", "int"}, returned{"270", "int"}, false}); got != want {
		t.Errorf("active: got %+v, want %+v", got, want)
	}
	b.call("darn/deactivate", id, nil)
	if got, want := b.compare("deep(3)"), (comparison{returned{"4", "int"}, returned{"7", "int"}, false}); got != want {
		t.Errorf("inactive again: got %+v, want %+v", got, want)
	}
	b.mustSeeNoStop()
	b.breakpoints(b.main)
	b.resume("continue", b.stop.ThreadId)
	<-b.answer
	if e := b.fails("darn/compare", map[string]any{"id": b.patch.ID, "expression": "total(1, 1)"}); e.Code() != finding.WrongState || !strings.Contains(e.Format, "stop it at a breakpoint") {
		t.Errorf("running: %v %q", e, e.Format)
	}
	b.disconnect(false)
	if got := b.get("/bill"); got != oldBill {
		t.Errorf("the program answers %q, want %q", got, oldBill)
	}
}

func TestCompareInAnOptimisedProgramIsRefused(t *testing.T) {
	b := stopBills(t)
	for _, expression := range []string{"main.total(3, 100)", "b.double()"} {
		if got := b.refused(expression); !strings.Contains(got, "was compiled with optimisations") || !strings.Contains(got, "-gcflags='all=-N -l'") {
			t.Errorf("%s: %q", expression, got)
		}
	}
	b.goesOn()
}

func TestCompareOfACallThatDoesNotReturnSaysSo(t *testing.T) {
	b := stopBills(t, unoptimised)
	began := time.Now()
	got := b.refused("pause(1)")
	if want := "the new version of pause has not returned for 3s: it was stopped, and goes on when the program is continued, which stops again when it has"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	b.breakpoints(b.main)
	for range 2 {
		stop := b.stopped()
		b.resume("continue", stop.ThreadId)
	}
	if got := <-b.answer; got != oldBill {
		t.Errorf("the program answers %q, want %q", got, oldBill)
	}
	b.disconnect(false)
	if got := b.get("/bill"); got != oldBill {
		t.Errorf("the program answers %q, want %q", got, oldBill)
	}
}

func TestCompareThatAnotherGoroutineStopsSaysSo(t *testing.T) {
	b := stopBills(t, unoptimised)
	call, err := b.Send("darn/compare", map[string]any{"id": b.patch.ID, "expression": "pause(2)"})
	b.must(err)
	other := make(chan string, 1)
	go func() { other <- b.get("/bill") }()
	err = b.Await(b.ctx, call, nil)
	e, ok := err.(*dapclient.Error)
	if !ok || !strings.HasPrefix(e.Format, "the program stopped while the old version of pause ran, at a breakpoint that another goroutine came to") {
		t.Fatalf("got %v", err)
	}
	stop := b.stoppedFor("breakpoint")
	// Nothing is hidden from the debugger any more.
	if got := b.stack(stop.ThreadId); !strings.HasPrefix(got, "main.main.func1:") || strings.Contains(got, hidden) {
		t.Errorf("the stack is %s", got)
	}
	b.breakpoints(b.main)
	b.resume("continue", stop.ThreadId)
	stop = b.stopped() // the call has returned
	b.resume("continue", stop.ThreadId)
	for _, answer := range []chan string{b.answer, other} {
		if got := <-answer; got != oldBill {
			t.Errorf("the program answers %q, want %q", got, oldBill)
		}
	}
	b.disconnect(false)
	if got := b.get("/bill"); got != oldBill {
		t.Errorf("the program answers %q, want %q", got, oldBill)
	}
}

func TestCompareWithoutTheModulesFileIsRefused(t *testing.T) {
	main, built, exe := editTarget(t, "bills", billsEdit, unoptimised)
	module := filepath.Join(t.TempDir(), "edit.so")
	if text, err := os.ReadFile(built); err != nil || os.WriteFile(module, text, 0o644) != nil {
		t.Fatal("the module can't be copied")
	}
	target, get := startShop(t, exe)
	first, _ := session(t)
	first.attach(target.Process.Pid)
	first.configured()
	p := first.patch("load", map[string]any{"path": module})
	first.disconnect(false)
	if err := os.Remove(module); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // another user's copy is not seen
	b := &stoppedBills{main: main, patch: p, get: get, answer: make(chan string, 1)}
	b.client, _ = session(t)
	b.attach(target.Process.Pid)
	b.breakpoints(main, lineOf(t, main, "// stop here"))
	b.configured()
	b.ask()
	b.stop = b.stoppedFor("breakpoint")
	if got, want := b.refused("total(n, price)"), "the debugger does not know the code of patch 1 [unsupported-target]; its module's file is gone"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.goesOn()
}
