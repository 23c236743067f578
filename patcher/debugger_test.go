package patcher_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/api"
	"github.com/go-delve/delve/service/debugger"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// debugged is an edit that is worth looking into.
var debugged = edit{
	"//go:noinline\nfunc total(n, price int) int {\n\treturn n * price\n}", `type bill struct {
	lines []string
	sum   int
	next  *bill
}

var bills any

//go:noinline
func total(n, price int) int {
	b := &bill{sum: n * price, next: &bill{lines: []string{"old"}}}
	for i := range n {
		b.lines = append(b.lines, fmt.Sprint("line ", i))
	}
	bills = b
	half := halve(b.sum)
	reduced := b.less(30)
	return reduced + half - halve(b.sum)
}

func halve(n int) int { return n / 2 }

//go:noinline
func (b *bill) less(n int) int {
	left := b.sum - n
	return left
}`}

// session is a Delve that looks into a patched shop.
type session struct {
	*debugger.Debugger
	t    testing.TB
	file string
}

// debug attaches a Delve to a target and tells it of the modules in it.
func (s *shop) debug(t testing.TB, target *targettest.Target, images []patcher.Image) *session {
	t.Helper()
	d, err := debugger.New(&debugger.Config{AttachPid: target.Pid(), Backend: "native", WorkingDir: "."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Detach(false); err != nil {
			t.Errorf("detaching: %v", err)
		}
	})
	group, unlock := d.LockTargetGroup()
	defer unlock()
	bi := group.Selected.BinInfo()
	for _, i := range images {
		if err := bi.AddImage(i.Path, i.Base); err != nil {
			t.Fatal(err)
		}
		if err := bi.Images[len(bi.Images)-1].LoadError(); err != nil {
			t.Fatal(err)
		}
	}
	group.Selected.ClearCaches()
	return &session{d, t, filepath.Join(s.dir, "main.go")}
}

// command runs the target until its next stop, and returns where that is.
func (s *session) command(name string) string {
	s.t.Helper()
	state, err := s.Command(&api.DebuggerCommand{Name: name}, nil, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	th := state.CurrentThread
	return fmt.Sprintf("%s %s:%d", th.Function.Name(), filepath.Base(th.File), th.Line)
}

var everything = proc.LoadConfig{FollowPointers: true, MaxVariableRecurse: 3, MaxStringLen: 64, MaxArrayValues: 8, MaxStructFields: -1}

func (s *session) eval(expr string) string {
	s.t.Helper()
	v, err := s.EvalVariableInScope(-1, 0, 0, expr, everything)
	if err != nil {
		return err.Error()
	}
	return api.ConvertVar(v).SinglelineString()
}

func TestADebuggerSeesIntoAPatch(t *testing.T) {
	for _, build := range []struct {
		name      string
		toolchain string
		flags     []string
	}{
		{"optimised", "", nil},
		{"not optimised", "", []string{"-gcflags=all=-N -l"}},
		{"position independent", "", []string{"-buildmode=pie"}},
		{"Go 1.25", "go1.25.1", nil},
		{"Go 1.24", "go1.24.6", nil},
	} {
		t.Run(build.name, func(t *testing.T) {
			if build.toolchain != "" {
				t.Setenv("GOTOOLCHAIN", build.toolchain)
				build.flags = []string{"-tags=" + build.toolchain} // by which newShop tells them apart
			}
			s := newShop(t, build.flags...)
			m := s.module(t, "bill", debugged)
			target := s.start(t)
			e, detach := attach(t, target)
			activate(t, e, load(t, e, m))
			view, err := e.View(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			detach()
			s.debug(t, target, view.Images).lookInto(target)
		})
	}
}

// lookInto stops in the function that was edited, and looks around.
func (s *session) lookInto(target *targettest.Target) {
	t := s.t
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	line := func(mark string) int {
		before, _, ok := strings.Cut(string(text), mark)
		if !ok {
			t.Fatalf("the source has no %q", mark)
		}
		return strings.Count(before, "\n") + 1
	}
	at := line("half := halve(b.sum)")
	bp, err := s.CreateBreakpoint(&api.Breakpoint{File: s.file, Line: at}, "", nil, false)
	if err != nil {
		t.Fatal(err)
	}
	addr := target.Line("addr ")
	answered := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + addr + "/total")
		if err != nil {
			answered <- err.Error()
			return
		}
		r.Body.Close()
		answered <- r.Status
	}()
	expect := func(what, got string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if strings.Contains(got, want) {
				return
			}
		}
		t.Errorf("%s: %s, want %q", what, got, wants)
	}
	expect("the breakpoint", s.command(api.Continue), fmt.Sprintf("main.total main.go:%d", at))
	frames, err := s.Stacktrace(-1, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	var stack []string
	for _, f := range frames {
		if f.Call.Fn != nil {
			stack = append(stack, fmt.Sprintf("%s:%d", f.Call.Fn.Name, f.Call.Line))
		}
	}
	expect("the stack", strings.Join(stack, " "), fmt.Sprintf("main.total:%d main.main.func1:", at))
	expect("the stack", strings.Join(stack, " "), "example.com/shop/http.HandlerFunc.ServeHTTP:")
	expect("an argument", s.eval("n"), "3")
	expect("a structure", s.eval("b"), `*main.bill {lines: []string len: 3, cap: 4, ["line 0","line 1","line 2"], sum: 300, next: *main.bill {lines: []string len: 1, cap: 1, ["old"]`)
	expect("an element", s.eval("b.lines[1]"), `"line 1"`)
	expect("a new variable of a new type", s.eval("main.bills"), `interface {}(*main.bill) *{lines: []string len: 3`)
	expect("an expression", s.eval("main.bills.(*main.bill).sum + n"), "303")
	expect("a variable of the program", s.eval("main.visitors"), "main.counter {")
	expect("a step", s.command(api.Next), fmt.Sprintf("main.total main.go:%d", line("reduced := b.less(30)")))
	expect("a local", s.eval("half"), "150")
	expect("a step in", s.command(api.Step), fmt.Sprintf("main.(*bill).less main.go:%d", line("left := b.sum - n")), fmt.Sprintf("main.(*bill).less main.go:%d", line("func (b *bill) less")))
	expect("an argument", s.eval("n"), "30")
	call, after := fmt.Sprintf("main.total main.go:%d", line("reduced := b.less(30)")), fmt.Sprintf("main.total main.go:%d", line("return reduced"))
	out := s.command(api.StepOut)
	expect("a step out", out, call, after)
	if out == call {
		out = s.command(api.Next)
	}
	expect("a step", out, after)
	expect("a result", s.eval("reduced"), "270")
	expect("a step out", s.command(api.StepOut), "main.main.func1 main.go:")

	locs, _, err := s.FindLocation(-1, 0, 0, "main.total", false, nil)
	if err != nil || len(locs) != 1 || len(locs[0].PCs) != 2 {
		t.Errorf("main.total is at %+v, %v; want the old and the new one", locs, err)
	}
	if _, err := s.ClearBreakpoint(bp); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = s.Command(&api.DebuggerCommand{Name: api.Continue}, nil, nil, nil) }()
	if got := <-answered; got != "200 OK" {
		t.Errorf("the request ended in %s", got)
	}
	if _, err := s.Command(&api.DebuggerCommand{Name: api.Halt}, nil, nil, nil); err != nil {
		t.Fatal(err)
	}
}
