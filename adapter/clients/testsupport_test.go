package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
)

// testsupport is Microsoft's client for tests of debug adapters, driven by
// testdata/testsupport/driver.js.
type testsupport struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Reader
	stops   int // how many stops have been seen
	set     []dap.SourceBreakpoint
	file    string // they are in
	running bool   // there is a session
}

func startTestsupport(t *testing.T) *testsupport {
	t.Helper()
	modules := filepath.Join(installed, "testsupport", "node_modules")
	requires(t, inPath("node") && exists(modules), "@vscode/debugadapter-testsupport")
	cmd := exec.Command("node", "testdata/testsupport/driver.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout = w
	start(t, cmd)
	t.Cleanup(func() { r.Close() })
	return &testsupport{t: t, in: in, out: bufio.NewReader(r)}
}

// try calls a method of the driver's.
func (c *testsupport) try(result any, method string, args ...any) error {
	c.t.Helper()
	line, err := json.Marshal(append([]any{method}, args...))
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c.in, "%s\n", line); err != nil {
		c.t.Fatal(err)
	}
	said, err := c.out.ReadBytes('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	var answer struct {
		Result json.RawMessage
		Error  string
	}
	if err := json.Unmarshal(said, &answer); err != nil {
		c.t.Fatalf("%s: %v", said, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", args[0], answer.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// request makes a request that must succeed.
func (c *testsupport) request(command string, arguments, result any) {
	c.t.Helper()
	if err := c.try(result, "request", command, arguments); err != nil {
		c.t.Fatal(err)
	}
}

// events returns the bodies of the events of a kind that have come.
func events[Body any](c *testsupport, kind string) (bodies []Body) {
	c.t.Helper()
	if err := c.try(&bodies, "events", kind); err != nil {
		c.t.Fatal(err)
	}
	return bodies
}

func (c *testsupport) setBreakpoints() {
	c.t.Helper()
	if !c.running || c.file == "" {
		return
	}
	c.request("setBreakpoints", dap.SetBreakpointsArguments{Source: dap.Source{Path: c.file}, Breakpoints: c.set}, nil)
}

func (c *testsupport) attach(pid int) {
	c.t.Helper()
	c.request("initialize", dap.InitializeRequestArguments{AdapterID: "go", PathFormat: "path", LinesStartAt1: true, ColumnsStartAt1: true}, nil)
	c.request("attach", map[string]any{"mode": "local", "processId": pid}, nil)
	eventually(c.t, "the event initialized", func() bool { return len(events[struct{}](c, "initialized")) > 0 })
	c.running = true
	c.setBreakpoints()
	c.request("configurationDone", nil, nil)
}

func (c *testsupport) toggle(file string, line int) {
	c.t.Helper()
	c.file = file
	at := dap.SourceBreakpoint{Line: line}
	if i := slices.Index(c.set, at); i >= 0 {
		c.set = slices.Delete(c.set, i, i+1)
	} else {
		c.set = append(c.set, at)
	}
	c.setBreakpoints()
}

// stop returns the thread that is stopped, 0 if none is.
func (c *testsupport) stop() int {
	c.t.Helper()
	stops := events[dap.StoppedEventBody](c, "stopped")
	if len(stops) == c.stops {
		return 0
	}
	return stops[len(stops)-1].ThreadId
}

func (c *testsupport) stack() string {
	c.t.Helper()
	thread := c.stop()
	if thread == 0 {
		return ""
	}
	var body dap.StackTraceResponseBody
	c.request("stackTrace", dap.StackTraceArguments{ThreadId: thread, Levels: 20}, &body)
	var stack strings.Builder
	for _, f := range body.StackFrames {
		fmt.Fprintf(&stack, "%s:%d\n", f.Name, f.Line)
	}
	return stack.String()
}

func (c *testsupport) resume() {
	c.t.Helper()
	thread := c.stop()
	c.stops = len(events[dap.StoppedEventBody](c, "stopped"))
	c.request("continue", dap.ContinueArguments{ThreadId: thread}, nil)
}

func (c *testsupport) command(text string) string {
	c.t.Helper()
	var body dap.EvaluateResponseBody
	c.request("evaluate", dap.EvaluateArguments{Expression: text, Context: "repl"}, &body)
	return body.Result
}

func (c *testsupport) detach() { c.t.Helper(); c.request("disconnect", dap.DisconnectArguments{}, nil) }

func TestTestsupport(t *testing.T) {
	tellStory(t, func(t *testing.T) client { return startTestsupport(t) })
}

// TestTestsupportLaunches uses the client's own way to hit a breakpoint.
func TestTestsupportLaunches(t *testing.T) {
	l := openShop(t)
	c := startTestsupport(t)
	text, err := os.ReadFile(l.source)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), `http.HandleFunc("/total"`)
	location := map[string]any{"path": l.source, "line": strings.Count(before, "\n") + 1}
	var stack dap.StackTraceResponseBody
	if err := c.try(&stack, "hitBreakpoint", map[string]any{"mode": "exec", "program": l.exe}, location); err != nil {
		t.Fatal(err)
	}
	if len(stack.StackFrames) == 0 || stack.StackFrames[0].Name != "main.main" {
		t.Errorf("the stack is %+v", stack.StackFrames)
	}
	c.request("disconnect", dap.DisconnectArguments{TerminateDebuggee: true}, nil)
}

// TestTestsupportLaunchesAProgramOfC sees the thread that has stopped, in a program
// that has no goroutines.
func TestTestsupportLaunchesAProgramOfC(t *testing.T) {
	openShop(t) // it has made darn
	c := startTestsupport(t)
	source, err := filepath.Abs("../../testdata/targets/cdesk.c")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "desk")
	if out, err := exec.Command("gcc", "-g", "-O0", "-pthread", "-o", exe, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before, _, _ := strings.Cut(string(text), "// in price")
	location := map[string]any{"path": source, "line": strings.Count(before, "\n") + 1}
	var stack dap.StackTraceResponseBody
	if err := c.try(&stack, "hitBreakpoint", map[string]any{"mode": "exec", "program": exe}, location); err != nil {
		t.Fatal(err)
	}
	if len(stack.StackFrames) < 2 || stack.StackFrames[0].Name != "price" || stack.StackFrames[1].Name != "total" {
		t.Errorf("the stack is %+v", stack.StackFrames)
	}
	c.request("disconnect", dap.DisconnectArguments{TerminateDebuggee: true}, nil)
}

// TestTestsupportPatchesByRequest patches a program that runs on, with Darn's
// own requests, and hears of it in events.
func TestTestsupportPatchesByRequest(t *testing.T) {
	l := openShop(t)
	c := startTestsupport(t)
	c.attach(l.pid)
	l.mustSell("300")

	var inspection patcher.Inspection
	c.request("darn/inspect", map[string]any{"path": l.module}, &inspection)
	if !inspection.OK || inspection.Module.ID != l.id {
		t.Errorf("darn/inspect says %+v", inspection)
	}
	type change struct {
		Reason  string
		Patch   *patcher.Patch
		Receipt *patcher.Receipt
	}
	var loaded, done change
	c.request("darn/load", map[string]any{"path": l.module}, &loaded)
	id := map[string]any{"id": loaded.Patch.ID}
	l.mustSell("300")
	for _, step := range []struct{ command, total string }{
		{"darn/activate", "270"}, {"darn/deactivate", "300"}, {"darn/activate", "270"}, {"darn/deactivate", "300"}, {"darn/unload", "300"},
	} {
		done = change{}
		c.request(step.command, id, &done)
		if "darn/"+string(done.Receipt.Operation) != step.command {
			t.Errorf("%s gave a receipt of %s", step.command, done.Receipt.Operation)
		}
		l.mustSell(step.total)
	}
	var listing patcher.Listing
	c.request("darn/list", nil, &listing)
	if listing.Target.PID != l.pid || len(listing.Patches) != 0 {
		t.Errorf("darn/list says %+v", listing)
	}
	err := c.try(nil, "request", "darn/activate", id)
	if err == nil || !strings.Contains(err.Error(), "[not-loaded]") {
		t.Errorf("activation of what is unloaded: %v", err)
	}

	var reasons []string
	for _, e := range events[change](c, "darn/patch") {
		reasons = append(reasons, e.Reason)
		if e.Patch.ID != loaded.Patch.ID || e.Receipt == nil {
			t.Errorf("the event %s is about %+v, with the receipt %+v", e.Reason, e.Patch, e.Receipt)
		}
	}
	if want := []string{"loaded", "activated", "deactivated", "activated", "deactivated", "unloaded"}; !slices.Equal(reasons, want) {
		t.Errorf("events darn/patch say %q, want %q", reasons, want)
	}
	c.detach()
	l.mustBeFree()
	l.mustSell("300")
}
