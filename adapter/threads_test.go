package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
)

const deskSource = "../../testdata/targets/cdesk.c" // from testdata

// theDesk is testdata/targets/cdesk.c, by its optimisation.
var theDesk = map[string]func() (string, error){"-O0": builtDesk("-O0"), "-O2": builtDesk("-O2")}

func builtDesk(optimisation string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		exe := filepath.Join(buildDir, "desk"+optimisation)
		source, err := filepath.Abs(filepath.Join("testdata", deskSource))
		if err != nil {
			return "", err
		}
		if out, err := exec.Command("gcc", "-g", optimisation, "-pthread", "-o", exe, source).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return exe, nil
	})
}

func desk(t testing.TB, optimisation string) string {
	t.Helper()
	exe, err := theDesk[optimisation]()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// debugDesk attaches to a running program of C.
func debugDesk(t *testing.T, optimisation string) (*client, *child) {
	t.Helper()
	target := start(t, exec.Command(desk(t, optimisation)))
	eventually(t, "the desks are open", func() bool { return strings.Contains(target.out.String(), "total=") })
	c, _ := session(t)
	c.attach(target.Process.Pid)
	return c, target
}

// goesOn leaves a program of C, which must serve on.
func (c *client) goesOn(target *child) {
	c.t.Helper()
	c.disconnect(false)
	mustBeWhole(c.t, target)
	seen := len(target.out.String())
	eventually(c.t, "the program serves on", func() bool { return strings.Count(target.out.String()[seen:], "served=") > 2 })
}

// threadsByName returns the threads by the first word of their names. One that has
// just begun has the name of the thread that made it, which is listed before.
func (c *client) threadsByName() map[string]int {
	c.t.Helper()
	var r dap.ThreadsResponseBody
	c.call("threads", nil, &r)
	ids := make(map[string]int)
	for _, th := range r.Threads {
		name, rest, _ := strings.Cut(th.Name, " ")
		if want := fmt.Sprintf("(%d)", th.Id); rest != want {
			c.t.Errorf("thread %d is called %q", th.Id, th.Name)
		}
		if _, ok := ids[name]; !ok {
			ids[name] = th.Id
		}
	}
	return ids
}

func (c *client) frames(thread int) []dap.StackFrame {
	c.t.Helper()
	var r dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: thread}, &r)
	return r.StackFrames
}

// frame returns the frame of a function in a thread.
func (c *client) frame(thread int, function string) dap.StackFrame {
	c.t.Helper()
	frames := c.frames(thread)
	i := slices.IndexFunc(frames, func(f dap.StackFrame) bool { return f.Name == function })
	if i < 0 {
		c.t.Fatalf("thread %d has no frame of %s: %+v", thread, function, frames)
	}
	return frames[i]
}

// variables returns what a reference stands for, by name.
func (c *client) variables(reference int) map[string]dap.Variable {
	c.t.Helper()
	var r dap.VariablesResponseBody
	c.call("variables", dap.VariablesArguments{VariablesReference: reference}, &r)
	all := make(map[string]dap.Variable)
	for _, v := range r.Variables {
		all[v.Name] = v
	}
	return all
}

func (c *client) locals(frame int) (reference int, all map[string]dap.Variable) {
	c.t.Helper()
	var r dap.ScopesResponseBody
	c.call("scopes", dap.ScopesArguments{FrameId: frame}, &r)
	if len(r.Scopes) == 0 {
		c.t.Fatalf("frame %d has no scopes", frame)
	}
	reference = r.Scopes[0].VariablesReference
	return reference, c.variables(reference)
}

func (c *client) evaluateIn(frame int, expression string) string {
	c.t.Helper()
	var r dap.EvaluateResponseBody
	c.call("evaluate", dap.EvaluateArguments{Expression: expression, FrameId: frame, Context: "watch"}, &r)
	return r.Result
}

func TestThreadsOfACProgramHaveTheirNamesWhileItRuns(t *testing.T) {
	c, target := debugDesk(t, "-O2")
	c.configured()
	ids := c.threadsByName()
	if ids["desk-O2"] != target.Process.Pid || ids["desk1"] == 0 || ids["desk2"] == 0 {
		t.Errorf("the threads are %v, and the process %d", ids, target.Process.Pid)
	}
	c.goesOn(target)
}

func TestAPauseOfACProgramNamesTheThreadAndFindsTheCallersOfALibrary(t *testing.T) {
	c, target := debugDesk(t, "-O2")
	c.configured()
	ids := c.threadsByName()
	for name, function := range map[string]string{"desk-O2": "main", "desk1": "serve"} {
		c.resume("pause", ids[name])
		if stop := c.stoppedFor("pause"); stop.ThreadId != ids[name] || !stop.AllThreadsStopped {
			t.Errorf("paused %s, %d: the event is %+v", name, ids[name], stop)
		}
		if f := c.frame(ids[name], function); !strings.HasSuffix(f.Source.Path, "/cdesk.c") {
			t.Errorf("%s is in %+v", function, f)
		}
		for _, f := range c.frames(ids[name]) {
			if strings.Contains(f.Name, "?") {
				t.Errorf("a frame without a name: %+v", f)
			}
		}
		c.resume("continue", ids[name])
	}
	c.goesOn(target)
}

func TestAStackOfACThreadComesInPieces(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// in price")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	all := c.frames(stop.ThreadId)
	var r dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, StartFrame: 1, Levels: 1}, &r)
	if len(r.StackFrames) != 1 || r.StackFrames[0].Name != "total" || r.TotalFrames < 2 {
		t.Errorf("the second frame is %+v of %d", r.StackFrames, r.TotalFrames)
	}
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId, StartFrame: 1, Levels: 40}, &r)
	if len(r.StackFrames) != len(all)-1 || r.TotalFrames != len(all) {
		t.Errorf("from the second on %d frames of %d come, want %d of %d", len(r.StackFrames), r.TotalFrames, len(all)-1, len(all))
	}
	c.breakpoints(path)
	c.goesOn(target)
}

func TestVariablesOfACFrame(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// counted")
	var set dap.SetBreakpointsResponseBody
	c.call("setBreakpoints", dap.SetBreakpointsArguments{Source: dap.Source{Path: path},
		Breakpoints: []dap.SourceBreakpoint{{Line: line, Condition: "order->items[1].price == 5"}}}, &set)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	total := c.frame(stop.ThreadId, "total")
	scope, locals := c.locals(total.Id)
	for name, want := range map[string]string{"n": "3", "sum": "38", "last": `"milk"`} {
		if got := locals[name].Value; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	order := c.variables(locals["order"].VariablesReference)[""]
	items := c.variables(c.variables(order.VariablesReference)["items"].VariablesReference)
	for i, want := range []string{`"tea"`, `"cake"`, `"milk"`} {
		item := c.variables(items[fmt.Sprintf("[%d]", i)].VariablesReference)
		if got := item["name"].Value; got != want {
			t.Errorf("item %d is called %s, want %s", i, got, want)
		}
	}
	for expression, want := range map[string]string{"order->items[2].name": `"milk"`, "rate": "10", "sum + rate * 2": "58"} {
		if got := c.evaluateIn(total.Id, expression); got != want {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
	if got := c.evaluateIn(c.frame(stop.ThreadId, "serve").Id, "name"); !strings.HasPrefix(got, `"desk`) {
		t.Errorf("the array of characters is shown as %s", got)
	}
	c.call("setVariable", dap.SetVariableArguments{VariablesReference: scope, Name: "sum", Value: "77"}, nil)
	if got := c.evaluateIn(total.Id, "sum"); got != "77" {
		t.Errorf("sum was set to 77 and is %s", got)
	}
	for command, arguments := range map[string]any{
		"setVariable": dap.SetVariableArguments{VariablesReference: scope, Name: "last", Value: `"tea"`},
		"evaluate":    dap.EvaluateArguments{Expression: "call price(0)", FrameId: total.Id, Context: "repl"},
	} {
		if err := c.fails(command, arguments); !strings.Contains(err.Error(), "Go's runtime") {
			t.Errorf("%s is refused for %v", command, err)
		}
	}
	c.breakpoints(path)
	c.goesOn(target)
}

func TestStepsOfACThreadStayInIt(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// in total")
	_, body := source(t, deskSource, "int cost")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	c.breakpoints(path)
	for _, step := range []struct {
		command, function string
		line              int
	}{{"stepIn", "price", body}, {"next", "price", body + 1}, {"stepOut", "total", line}, {"next", "total", line + 1}} {
		c.resume(step.command, stop.ThreadId)
		var continued dap.ContinuedEventBody
		c.event("continued", &continued)
		if s := c.stoppedFor("step"); s.ThreadId != stop.ThreadId || continued.ThreadId != stop.ThreadId {
			t.Errorf("thread %d was to step, %d went on and %d has", stop.ThreadId, continued.ThreadId, s.ThreadId)
		}
		if f := c.frames(stop.ThreadId)[0]; f.Name != step.function || f.Line != step.line {
			t.Errorf("%s: now in %s, line %d, want %s, line %d", step.command, f.Name, f.Line, step.function, step.line)
		}
	}
	c.goesOn(target)
}

func TestThreadsThatComeToABreakpointAtOnceAreAllNamed(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// together")
	c.breakpoints(path, line)
	c.configured()
	for range 200 { // mostly within five
		stop := c.stoppedFor("breakpoint")
		if !strings.Contains(stop.Text, "is at a breakpoint too") {
			c.resume("continue", stop.ThreadId)
			continue
		}
		seen := make(map[string]bool)
		for name, id := range c.threadsByName() {
			if strings.HasPrefix(name, "desk") && name != "desk-O0" {
				f := c.frame(id, "together")
				seen[c.evaluateIn(f.Id, "desk")] = true
				if f.Line != line || (id != stop.ThreadId) != strings.Contains(stop.Text, name) {
					t.Errorf("%s is in line %d; the event, of %d, says %q", name, f.Line, stop.ThreadId, stop.Text)
				}
			}
		}
		if !seen["1"] || !seen["2"] {
			t.Errorf("the frames are of the desks %v", seen)
		}
		c.breakpoints(path)
		c.goesOn(target)
		return
	}
	t.Error("the threads never come to the breakpoint at once")
}

func TestAThreadThatHasEndedHoldsNothingUp(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// guest")
	c.breakpoints(path, line)
	c.configured()
	guest := 0
	for range 3 {
		stop := c.stoppedFor("breakpoint")
		if stop.ThreadId == guest {
			t.Errorf("the guest %d has come back", guest)
		}
		if guest != 0 {
			if err := c.fails("stackTrace", dap.StackTraceArguments{ThreadId: guest}); !strings.Contains(err.Error(), "ended") {
				t.Errorf("the stack of a thread that has ended is refused for %v", err)
			}
		}
		guest = stop.ThreadId
		c.frame(guest, "guest")
		c.resume("continue", guest)
	}
	c.stoppedFor("breakpoint")
	c.breakpoints(path)
	c.goesOn(target)
}

func TestThreadsOfACProgramThatComeAndGoAreTold(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// guest")
	c.breakpoints(path, line)
	c.configured()
	told := func(reason string, id int) {
		t.Helper()
		var e dap.ThreadEventBody
		if c.event("thread", &e); e.Reason != reason || e.ThreadId != id {
			t.Errorf("thread %d has %s, want thread %d has %s", e.ThreadId, e.Reason, id, reason)
		}
	}
	first := c.stoppedFor("breakpoint").ThreadId
	told("started", first)
	c.resume("continue", first)
	second := c.stoppedFor("breakpoint").ThreadId
	told("exited", first)
	told("started", second)
	if ids := c.threadsByName(); len(ids) != 4 {
		t.Errorf("the threads are %v", ids)
	}
	c.breakpoints(path)
	c.goesOn(target)
}

func TestACProgramIsLaunchedAndStopsAtItsEntryAndInFunctions(t *testing.T) {
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": desk(t, "-O0"), "stopOnEntry": true})
	var r dap.SetBreakpointsResponseBody
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: "guest"}, {Name: "C.price"}}}, &r)
	for _, b := range r.Breakpoints {
		if !b.Verified {
			t.Errorf("not verified: %+v", b)
		}
	}
	c.configured()
	stop := c.stoppedFor("entry")
	if ids := c.threadsByName(); ids["desk-O0"] != stop.ThreadId {
		t.Errorf("stopped in %d, and the threads are %v", stop.ThreadId, ids)
	}
	if len(c.frames(stop.ThreadId)) == 0 {
		t.Error("there is no frame at the entry")
	}
	c.resume("continue", stop.ThreadId)
	stop = c.stoppedFor("function breakpoint")
	if f := c.frames(stop.ThreadId)[0]; f.Name != "price" && f.Name != "guest" {
		t.Errorf("stopped in %s", f.Name)
	}
	c.disconnect(true)
}

func TestACProgramThatCrashesEndsWithItsSignal(t *testing.T) {
	dir := t.TempDir()
	exe, path := filepath.Join(dir, "crash"), filepath.Join(dir, "crash.c")
	text := "#include <pthread.h>\n#include <unistd.h>\nstatic void *wait(void *a)\n{\n\tpause();\n\treturn a;\n}\n" +
		"int main(void)\n{\n\tpthread_t t;\n\tpthread_create(&t, 0, wait, 0);\n\tusleep(200000);\n\t*(volatile int *)0 = 1;\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	compile(t, "gcc", "-g", "-pthread", "-o", exe, path)
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": exe})
	c.configured()
	if got, want := c.outputWith("killed by"), "Darn: the program was killed by SIGSEGV (segmentation fault)\n"; got != want {
		t.Errorf("the output says %q, want %q", got, want)
	}
	var exited dap.ExitedEventBody
	c.event("exited", &exited)
	if exited.ExitCode != -int(syscall.SIGSEGV) {
		t.Errorf("the exit code is %d", exited.ExitCode)
	}
	c.disconnect(true)
}

func TestALogpointOfACProgramHasNoGoroutine(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// counted")
	c.call("setBreakpoints", dap.SetBreakpointsArguments{Source: dap.Source{Path: path},
		Breakpoints: []dap.SourceBreakpoint{{Line: line, Condition: "n == 1", LogMessage: "sold {order->items[0].name} for {sum}"}}}, nil)
	c.configured()
	if got := c.outputWith("sold"); got != "> sold \"bun\" for 14\n" {
		t.Errorf("the logpoint says %q", got)
	}
	c.breakpoints(path)
	c.goesOn(target)
}

func TestFramesOfCPlusPlusHaveTheirFullNames(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "cart")
	path, line := source(t, "../../testdata/targets/cshop/cart.cc", "int Cart::total(int n) const")
	compile(t, "g++", "-g", "-O0", "-pthread", "-o", exe, path)
	target := start(t, exec.Command(exe))
	eventually(t, "the cart is there", func() bool { return strings.Contains(target.out.String(), "total=") })
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	f := c.frame(stop.ThreadId, "shop::Cart::total")
	for expression, want := range map[string]string{"n": "2", "this->rate": "3"} {
		if got := c.evaluateIn(f.Id, expression); got != want {
			t.Errorf("%s is %s, want %s: the function has no frame yet", expression, got, want)
		}
	}
	c.breakpoints(path)
	c.disconnect(false)
	mustBeWhole(t, target)
}

// deskFix makes a module that makes everything in cdesk.c dearer.
func deskFix(t *testing.T) (source, module string) {
	t.Helper()
	dir := t.TempDir()
	source, module = filepath.Join(dir, "fix.c"), filepath.Join(dir, "fix.so")
	text := "struct item { const char *name; int price; };\nextern int rate;\nint price(const struct item *item)\n{\n\tint cost = item->price + 100;\n\treturn cost + rate;\n}\n"
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	compile(t, "gcc", "-g", "-O0", "-shared", "-fPIC", "-o", module, source)
	return source, module
}

func TestAPatchedCFunctionStopsOnItsFirstCallAndIsSteppedInto(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// in total")
	_, old := source(t, deskSource, "// in price")
	fix, module := deskFix(t)
	c.breakpoints(path, old)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	id := c.patch("load", map[string]any{"path": module}).ID
	c.patch("activate", map[string]any{"id": id, "stopOnFirstCall": true})
	if f := c.frames(stop.ThreadId)[0]; f.Name != "price (old)" || f.PresentationHint != "subtle" {
		t.Errorf("the frame in replaced code is %+v", f)
	}
	c.resume("continue", stop.ThreadId)
	stop = c.stoppedFor("function breakpoint")
	if f := c.frames(stop.ThreadId)[0]; f.Name != "price" || f.Source.Path != fix || !strings.Contains(stop.Text, "first call of price") {
		t.Errorf("stopped in %+v for %s", f, stop.Text)
	}
	if got := c.evaluateIn(0, "item->name"); !slices.Contains([]string{`"tea"`, `"cake"`, `"milk"`, `"bun"`}, got) {
		t.Errorf("the new code is called with %s", got)
	}
	if err := c.fails("darn/compare", map[string]any{"id": id, "expression": "price(0)"}); err.Code() != finding.UnsupportedTarget {
		t.Errorf("a comparison is refused for %v", err)
	}
	c.breakpoints(path, line)
	c.resume("continue", stop.ThreadId)
	stop = c.stoppedFor("breakpoint")
	c.breakpoints(path)
	c.resume("stepIn", stop.ThreadId)
	if s := c.stoppedFor("step"); s.ThreadId != stop.ThreadId {
		t.Errorf("thread %d was to step into new code, %d has", stop.ThreadId, s.ThreadId)
	}
	if f := c.frames(stop.ThreadId)[0]; f.Name != "price" || f.Source.Path != fix {
		t.Errorf("the step into new code ends in %+v", f)
	}
	c.patch("deactivate", map[string]any{"id": id})
	c.disconnect(false)
	eventually(t, "the old prices", func() bool { return strings.HasSuffix(target.out.String(), "\n") })
	target.says(t, " total=14 ")
}

func TestACPatchIsActivatedAtAPointAndABreakpointFollowsIt(t *testing.T) {
	c, target := debugDesk(t, "-O0")
	path, line := source(t, deskSource, "// in total")
	fix, module := deskFix(t)
	c.configured()
	id := c.patch("load", map[string]any{"path": module}).ID
	c.patch("activate", map[string]any{"id": id, "at": map[string]any{"path": path, "line": line}})
	eventually(t, "the new prices", func() bool { return strings.Contains(target.out.String(), " total=114 ") })
	var r dap.SetBreakpointsResponseBody
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: "price"}}}, &r)
	stop := c.stoppedFor("function breakpoint")
	if f := c.frames(stop.ThreadId)[0]; f.Source.Path != fix {
		t.Errorf("the breakpoint is in %+v", f)
	}
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{}}, nil)
	c.disconnect(false)
	target.says(t, " total=114 ")
}

func TestTheEndOfACProgramThatIsMakingThreadsIsTold(t *testing.T) {
	dir := t.TempDir()
	exe, path := filepath.Join(dir, "spawn"), filepath.Join(dir, "spawn.c")
	text := "#include <pthread.h>\n#include <unistd.h>\nstatic void *wait(void *a)\n{\n\tusleep(1000);\n\treturn a;\n}\n" +
		"int main(void)\n{\n\tpthread_t t[50];\n\tfor (;;) {\n\t\tfor (int i = 0; i < 50; i++)\n\t\t\tpthread_create(&t[i], 0, wait, 0);\n" +
		"\t\tfor (int i = 0; i < 50; i++)\n\t\t\tpthread_join(t[i], 0);\n\t}\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	compile(t, "gcc", "-g", "-pthread", "-o", exe, path)
	for i := range 12 { // one in ten meets the session at it
		c, _ := session(t)
		c.start("launch", map[string]any{"mode": "exec", "program": exe})
		var process dap.ProcessEventBody
		c.event("process", &process)
		c.configured()
		time.Sleep(time.Duration(i) * time.Millisecond / 2)
		if err := syscall.Kill(process.SystemProcessId, syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
		if event, err := c.Event(c.ctx, nil, "terminated", "stopped"); err != nil || event != "terminated" {
			t.Fatalf("the end is told as %s (%v)", event, err)
		}
		c.disconnect(true)
	}
}
