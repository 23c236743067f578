package adapter

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// list asks for the patches and checks what is said of the target.
func (c *client) list(target *child) {
	c.t.Helper()
	var l patcher.Listing
	c.call("darn/list", nil, &l)
	if l.Target.PID != target.Process.Pid || l.Target.Language != "go" || l.Target.BuildID == "" || len(l.Patches) != 0 {
		c.t.Fatalf("listing %+v", l)
	}
}

func TestListInEveryStateOfTheSession(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.list(target) // before configurationDone
	path, line := source(t, "target/main.go", "step from here")
	c.configured()
	c.list(target) // running
	c.breakpoints(path, line)
	stop := c.stoppedFor("breakpoint")
	c.list(target)      // at a breakpoint
	c.breakpoints(path) // other goroutines would interrupt the step
	c.resume("next", stop.ThreadId)
	c.list(target) // during or after a step
	c.stoppedFor("step")
	c.resume("continue", stop.ThreadId)
	c.list(target)
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestRequestsAreRefusedWithTheReason(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	notELF := filepath.Join(t.TempDir(), "notelf.so")
	if err := os.WriteFile(notELF, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	for _, test := range []struct {
		command   string
		arguments any
		id        int
		code      finding.Code
		text      string
	}{
		{"darn/load", map[string]any{"path": "/no/such/module.so"}, errorFailed, "", "/no/such/module.so"},
		{"darn/inspect", map[string]any{"path": "/no/such/module.so"}, errorFailed, "", "/no/such/module.so"},
		{"darn/load", map[string]any{"path": notELF}, errorRefused, finding.ModuleMalformed, "ELF"},
		{"darn/inspect", map[string]any{"path": notELF}, errorRefused, finding.ModuleMalformed, "ELF"},
		{"darn/load", nil, errorFailed, "", "needs the argument path"},
		{"darn/load", []int{1}, errorFailed, "", "make no sense"},
		{"darn/activate", map[string]any{}, errorFailed, "", "needs the argument id"},
		{"darn/activate", map[string]any{"id": "p1"}, errorRefused, finding.NotLoaded, `"p1"`},
		{"darn/deactivate", map[string]any{"id": "p1"}, errorRefused, finding.NotLoaded, `"p1"`},
		{"darn/unload", map[string]any{"id": "p1"}, errorRefused, finding.NotLoaded, `"p1"`},
		{"darn/activate", map[string]any{"id": "p1", "at": map[string]any{"path": "x.go", "line": 1}}, errorRefused, finding.NotLoaded, `"p1"`},
		{"darn/activate", map[string]any{"id": "p1", "stopOnFirstCall": true}, errorRefused, finding.NotLoaded, `"p1"`},
		{"darn/activate", map[string]any{"id": "p1", "at": "x.go:1"}, errorFailed, "", "make no sense"},
		{"darn/nosuch", nil, errorFailed, "", "not a request that Darn knows"},
	} {
		e := c.fails(test.command, test.arguments)
		if e.ID != test.id || e.Code() != test.code || !strings.Contains(e.Format, test.text) {
			t.Errorf("%s %v: id %d, code %q, %q", test.command, test.arguments, e.ID, e.Code(), e.Format)
		}
		if test.code != "" && !strings.Contains(e.Message, "["+string(test.code)+"]") {
			t.Errorf("%s: the message %q lacks the code", test.command, e.Message)
		}
	}
	mustBeQuiet(t, c)
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestRequestsWithoutATargetAreRefused(t *testing.T) {
	c, adapter := session(t)
	if e := c.fails("darn/list", nil); e.Code() != finding.WrongState {
		t.Errorf("before initialize: %v", e)
	}
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target"), "args": []string{"3"}})
	c.configured()
	c.event("terminated", nil)
	if e := c.fails("darn/list", nil); e.Code() != finding.TargetExited {
		t.Errorf("after the end: %v", e)
	}
	c.disconnect(false)
	adapter.wait(t)
}

func TestAnOperationIsRefusedDuringAStepThatDoesNotEnd(t *testing.T) {
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "waits")})
	path, line := source(t, "waits/main.go", "step over this")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	c.resume("next", stop.ThreadId)
	c.call("initialize", dap.InitializeRequestArguments{PathFormat: "path", LinesStartAt1: true, ColumnsStartAt1: true, SupportsProgressReporting: true}, nil)
	if e := c.fails("darn/list", nil); e.Code() != finding.Busy || !strings.Contains(e.Message, "step") {
		t.Errorf("got %v", e)
	}
	var begun, over struct{ ProgressID string }
	c.event("progressStart", &begun)
	c.event("progressEnd", &over)
	if begun != over || begun.ProgressID == "" {
		t.Errorf("progress %q began and %q ended", begun.ProgressID, over.ProgressID)
	}
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	c.call("darn/list", nil, nil)
	c.disconnect(true)
}

func TestAnOperationWaitsForAFunctionCallInTheTarget(t *testing.T) {
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target")})
	path, line := source(t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("breakpoint")
	c.breakpoints(path)
	call, err := c.Send("evaluate", map[string]any{"expression": "call step(1)", "context": "repl"})
	c.must(err)
	list, err := c.Send("darn/list", nil)
	c.must(err)
	var r dap.EvaluateResponseBody
	c.must(c.Await(c.ctx, call, &r))
	if r.Result != "3" {
		t.Errorf("step(1) = %s", r.Result)
	}
	c.must(c.Await(c.ctx, list, nil))
	mustBeQuiet(t, c)
	c.disconnect(true)
}

func TestAfterARestartTheNewProcessIsListed(t *testing.T) {
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target"), "stopOnEntry": false})
	c.configured()
	var before, after patcher.Listing
	c.call("darn/list", nil, &before)
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "rebuild": false, "args": []string{}}}, nil)
	c.event("initialized", nil)
	c.configured()
	c.call("darn/list", nil, &after)
	if before.Target.PID == after.Target.PID || after.Target.PID == 0 {
		t.Errorf("process %d before the restart, %d after it", before.Target.PID, after.Target.PID)
	}
	c.disconnect(true)
}

func TestConsole(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	if got := c.evaluate("darn help"); got != consoleHelp() {
		t.Errorf("darn help: %q", got)
	}
	if got := c.evaluate(" darn list "); !strings.HasSuffix(got, ": no patches") {
		t.Errorf("darn list: %q", got)
	}
	for _, test := range []struct{ command, text string }{
		{"darn load /no/such/module.so", "/no/such/module.so"},
		{"darn inspect /no/such/module.so", "/no/such/module.so"},
		{"darn activate p1", "[not-loaded]"},
		{"darn deactivate p1", "[not-loaded]"},
		{"darn unload p1", "[not-loaded]"},
		{"darn load", "needs an argument"},
		{"darn nosuch", "no command nosuch"},
	} {
		e := c.fails("evaluate", dap.EvaluateArguments{Expression: test.command, Context: "repl"})
		if !strings.Contains(e.Format, test.text) {
			t.Errorf("%s: %q", test.command, e.Format)
		}
	}
	var r dap.EvaluateResponseBody
	c.call("evaluate", map[string]any{"expression": "darn list"}, &r)
	if !strings.HasSuffix(r.Result, ": no patches") {
		t.Errorf("without a context: %q", r.Result)
	}
	// In other places it's an expression like any other.
	e := c.fails("evaluate", dap.EvaluateArguments{Expression: "darn list", Context: "watch"})
	if !strings.Contains(e.Format, "debuggee is running") {
		t.Errorf("a watch: %q", e.Format)
	}
	c.disconnect(false)
	mustGoOn(t, target)
}
