package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

// strippedTeahouse is a demo server without symbols, and a cache without
// any of programs.
func strippedTeahouse(t *testing.T) *teahouse {
	t.Helper()
	house := buildTeahouse(t, "-ldflags=-s -w")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return house
}

// buildFor runs darn build on the server's edit.
func (h *teahouse) buildFor(t *testing.T, out string, flags ...string) result {
	t.Helper()
	cmd := command(append([]string{"build", "--base", h.base, "-o", out, "."}, flags...)...)
	cmd.Dir = h.source
	return run(t, cmd)
}

func TestStrippedTargetIsPatchedByItsSymbols(t *testing.T) {
	house := strippedTeahouse(t)
	s := house.start(t)
	module := filepath.Join(t.TempDir(), "fix.so")
	house.buildFor(t, module, s.flag()).ok(t)
	darn(t, "inspect", s.flag(), module).ok(t)
	darn(t, "load", s.flag(), module).ok(t)
	darn(t, "activate", s.flag(), module).ok(t)
	s.mustAnswer(newBill)
	darn(t, "deactivate", s.flag(), module).ok(t)
	s.mustAnswer(oldBill)
	darn(t, "unload", s.flag(), module).ok(t)
	s.mustAnswer(oldBill)
}

func TestStrippedTargetWithoutItsSymbolsIsRefusedBeforeItIsTouched(t *testing.T) {
	house := strippedTeahouse(t)
	module := buildTeahouse(t).patch(t)
	s := house.start(t)
	before := s.snapshot()
	for _, args := range [][]string{{"load", module}, {"inspect", module}, {"activate", "1"}, {"list"}} {
		darn(t, append(args, s.flag())...).mustRefuse(t, finding.UnsupportedTarget, "make them with `darn build`")
	}
	darn(t, "list", s.flag(), "--symbols", buildTeahouse(t).program).mustRefuse(t, finding.UnsupportedTarget, "its GNU build id is")
	s.mustEqual(before)
	s.mustAnswer(oldBill)
}

// A debug session has breakpoints, stacks and variables of a stripped program
// once its symbols are known, and patches it.
func TestStrippedTargetIsDebugged(t *testing.T) {
	house := strippedTeahouse(t)
	module := filepath.Join(t.TempDir(), "fix.so")
	house.buildFor(t, module, "--target", house.program).ok(t)
	s := house.start(t)
	c := dial(t, startLine(t, command("dap"), listening))
	ctx := t.Context()
	if _, err := c.Initialize(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(ctx, "attach", map[string]any{"mode": "local", "processId": s.pid}); err != nil {
		t.Fatal(err)
	}
	var set dap.SetBreakpointsResponseBody
	err := c.Call(ctx, "setBreakpoints", dap.SetBreakpointsArguments{
		Source:      dap.Source{Path: filepath.Join(house.source, "bill.go")},
		Breakpoints: []dap.SourceBreakpoint{{Line: 10}},
	}, &set)
	if err != nil || len(set.Breakpoints) != 1 || !set.Breakpoints[0].Verified {
		t.Fatalf("setBreakpoints: %+v, %v", set, err)
	}
	if err := c.Configured(ctx); err != nil {
		t.Fatal(err)
	}
	bill := make(chan string, 1)
	go func() {
		got, _ := load.Get(s.url + "/bill?cups=3")
		bill <- got
	}()
	var stop dap.StoppedEventBody
	if _, err := c.Event(ctx, &stop, "stopped"); err != nil || stop.Reason != "breakpoint" {
		t.Fatalf("stopped: %+v, %v", stop, err)
	}
	var stack dap.StackTraceResponseBody
	if err := c.Call(ctx, "stackTrace", dap.StackTraceArguments{ThreadId: stop.ThreadId}, &stack); err != nil {
		t.Fatal(err)
	}
	if len(stack.StackFrames) < 3 || stack.StackFrames[0].Name != "main.bill" || stack.StackFrames[0].Line != 10 {
		t.Fatalf("the stack is %+v", stack.StackFrames)
	}
	var value dap.EvaluateResponseBody
	err = c.Call(ctx, "evaluate", dap.EvaluateArguments{Expression: "cups", FrameId: stack.StackFrames[0].Id}, &value)
	if err != nil || value.Result != "3" {
		t.Errorf("cups is %+v, %v", value, err)
	}
	err = c.Call(ctx, "setBreakpoints", dap.SetBreakpointsArguments{Source: dap.Source{Path: filepath.Join(house.source, "bill.go")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(ctx, "continue", dap.ContinueArguments{ThreadId: stop.ThreadId}, nil); err != nil {
		t.Fatal(err)
	}
	if got := <-bill; got != oldBill {
		t.Errorf("the answer at the breakpoint was %q", got)
	}
	var loaded struct{ Patch patcher.Patch }
	if err := c.Call(ctx, "darn/load", map[string]any{"path": module}, &loaded); err != nil {
		t.Fatal(err)
	}
	if err := c.Call(ctx, "darn/activate", map[string]any{"id": loaded.Patch.ID}, nil); err != nil {
		t.Fatal(err)
	}
	s.mustAnswer(newBill)
	if err := c.Disconnect(ctx, false); err != nil {
		t.Error(err)
	}
	s.mustAnswer(newBill)
}

// The machine that the program runs on may have no source, but a copy of the
// file that darn build made elsewhere.
func TestSymbolsOfAStrippedTargetCanBeGiven(t *testing.T) {
	house := strippedTeahouse(t)
	module := filepath.Join(t.TempDir(), "fix.so")
	house.buildFor(t, module, "--target", house.program).ok(t)
	symbols, err := filepath.Glob(filepath.Join(exe.CompanionDir(), ".build-id", "*", "*.debug"))
	if err != nil || len(symbols) != 1 {
		t.Fatalf("darn build left %q (%v)", symbols, err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	s := house.start(t)
	darn(t, "load", s.flag(), "--symbols", symbols[0], module).ok(t)
	darn(t, "activate", s.flag(), module).ok(t) // from now on they are known
	s.mustAnswer(newBill)
}

func TestStrippedTargetFromOtherSourceIsRefused(t *testing.T) {
	house := strippedTeahouse(t)
	base := filepath.Join(t.TempDir(), "base")
	if err := os.CopyFS(base, os.DirFS(house.base)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "bill.go")
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(source), "= 235", "= 200 + 36", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := command("build", "--target", house.program, "--base", base, "-o", filepath.Join(t.TempDir(), "fix.so"), ".")
	cmd.Dir = house.source
	run(t, cmd).mustRefuse(t, finding.TextMismatch, "building the base anew does not give what runs")
}
