package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-dap"
)

func TestAttachBreakStepDetach(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, adapter := session(t)
	c.attach(target.Process.Pid)
	path, line := source(t, "target/main.go", "step from here")
	if b := c.breakpoints(path, line); !b[0].Verified {
		t.Fatalf("breakpoint not verified: %+v", b)
	}
	c.configured()
	stop := c.stoppedFor("breakpoint")
	if got := c.top(stop.ThreadId); got != line {
		t.Fatalf("stopped in line %d, want %d", got, line)
	}
	c.breakpoints(path) // or another goroutine could run into it first
	c.resume("next", stop.ThreadId)
	stop = c.stoppedFor("step")
	if got := c.top(stop.ThreadId); got != line+1 {
		t.Fatalf("stepped to line %d, want %d", got, line+1)
	}
	if got := c.evaluate("a - n"); got != "1" {
		t.Errorf("a - n = %s, want 1", got)
	}
	c.resume("continue", stop.ThreadId)
	c.disconnect(false)
	if status := adapter.wait(t); status != 0 {
		t.Errorf("the adapter ended with %d", status)
	}
	mustGoOn(t, target)
}

func TestDisconnectWithTerminateEndsAnAttachedTarget(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	c.disconnect(true)
	if status := target.wait(t); status != -int(syscall.SIGINT) {
		t.Errorf("the target ended with %d, want %d as with dlv dap", status, -int(syscall.SIGINT))
	}
}

func TestTheFirstPauseAfterAttachIsAnswered(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	c.call("pause", dap.PauseArguments{}, nil)
	c.stoppedFor("pause")
	c.disconnect(false)
	mustGoOn(t, target)
}

func TestLaunchExecRunsToItsEnd(t *testing.T) {
	c, adapter := session(t)
	c.start("launch", map[string]any{
		"mode": "exec", "program": build(t, "target"), "args": []string{"5", "7"},
		"env": map[string]string{"TARGET_ENV": "world"}, "outputMode": "remote",
	})
	c.configured()
	var exited dap.ExitedEventBody
	c.event("exited", &exited)
	if exited.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", exited.ExitCode)
	}
	c.event("terminated", nil)
	streams := make(map[string]string)
	for _, name := range c.Pending() {
		if name == "output" {
			var out dap.OutputEventBody
			c.event("output", &out)
			streams[out.Category] += out.Output
		}
	}
	if got := streams["stdout"]; got != "hello world\nbye\n" {
		t.Errorf("standard output %q", got)
	}
	if got := streams["stderr"]; got != "to standard error\n" {
		t.Errorf("standard error %q", got)
	}
	c.disconnect(false)
	adapter.wait(t)
}

func TestLaunchDebugBuildsStopsRestartsAndCleansUp(t *testing.T) {
	dir := t.TempDir()
	output := filepath.Join(dir, "debugged")
	c, adapter := session(t)
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	c.start("launch", map[string]any{
		"mode": "debug", "program": "./steps", "dlvCwd": folder, "cwd": dir, "output": output,
		"buildFlags": "-ldflags=-X=main.unused=1", "stopOnEntry": true,
	})
	var process dap.ProcessEventBody
	c.event("process", &process)
	if process.StartMethod != "launch" || process.SystemProcessId == 0 {
		t.Errorf("process event %+v", process)
	}
	path, line := source(t, "steps/main.go", "// in the loop")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("entry")
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", process.SystemProcessId)); cwd != dir {
		t.Errorf("the target runs in %s, want %s", cwd, dir)
	}
	c.resume("continue", 1)
	c.stoppedFor("breakpoint")

	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "rebuild": true, "args": []string{"x"}}}, nil)
	c.event("initialized", nil)
	c.breakpoints(path, line)
	c.configured() // the new arguments say nothing of stopOnEntry
	stop := c.stoppedFor("breakpoint")
	if got := c.evaluate("len(os.Args)"); got != "2" {
		t.Errorf("%s arguments after a restart with one", got)
	}
	if got := c.top(stop.ThreadId); got != line {
		t.Errorf("stopped in line %d, want %d", got, line)
	}
	c.disconnect(true)
	adapter.wait(t)
	if _, err := os.Stat(output); !os.IsNotExist(err) {
		t.Errorf("%s was not removed: %v", output, err)
	}
	mustBeGone(t, process.SystemProcessId)
}

func TestLaunchTestStopsInThePackage(t *testing.T) {
	c, adapter := session(t)
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	c.start("launch", map[string]any{"mode": "test", "program": "./tested", "dlvCwd": folder, "output": filepath.Join(t.TempDir(), "t")})
	path, line := source(t, "tested/sum.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	if got := c.evaluate("a + b"); got != "3" {
		t.Errorf("a + b = %s, want 3", got)
	}
	c.breakpoints(path)
	c.resume("continue", stop.ThreadId)
	c.event("terminated", nil)
	c.disconnect(false)
	adapter.wait(t)
}

func TestLaunchOfWhatDoesNotBuildSaysWhy(t *testing.T) {
	c, _ := session(t)
	if _, err := c.Initialize(c.ctx); err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	e := c.fails("launch", map[string]any{"mode": "debug", "program": "./broken", "dlvCwd": folder, "output": filepath.Join(t.TempDir(), "b")})
	if !strings.Contains(e.Format, "Build error") {
		t.Errorf("got %q", e.Format)
	}
	all := ""
	for range 2 {
		var out dap.OutputEventBody
		c.event("output", &out)
		all += out.Output
	}
	if !strings.Contains(all, "undefined: undefined") {
		t.Errorf("the compiler's words are missing in %q", all)
	}
}

func TestNoDebugRunsWithoutTheDebugger(t *testing.T) {
	c, _ := session(t)
	if _, err := c.Initialize(c.ctx); err != nil {
		t.Fatal(err)
	}
	c.call("launch", map[string]any{"mode": "exec", "program": build(t, "target"), "args": []string{"100000000"}, "noDebug": true, "outputMode": "remote"}, nil)
	var out dap.OutputEventBody
	c.event("output", &out)
	e := c.fails("darn/list", nil)
	if e.Code() != "wrong-state" || !strings.Contains(e.Message, "noDebug") {
		t.Errorf("darn/list: %v", e)
	}
	c.disconnect(true)
}

func TestACrashOfTheTargetIsReported(t *testing.T) {
	c, _ := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "panics")})
	c.configured()
	stop := c.stoppedFor("exception")
	if stop.Text != `"out of luck"` {
		t.Errorf("text %q", stop.Text)
	}
	c.disconnect(true)
}

func TestCapabilities(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, _ := session(t)
	capabilities, err := c.Initialize(c.ctx)
	c.must(err)
	if string(capabilities["supportsDarn"]) != "true" || string(capabilities["supportsRestartRequest"]) != "true" {
		t.Errorf("capabilities %s", capabilities)
	}
	c.must(c.Start(c.ctx, "attach", map[string]any{"processId": target.Process.Pid}))
	var now struct{ Capabilities map[string]any }
	c.event("capabilities", &now)
	if now.Capabilities["supportTerminateDebuggee"] != true || now.Capabilities["supportsRestartRequest"] != false {
		t.Errorf("capabilities of an attached target: %v", now)
	}
	c.disconnect(false)
}

func TestAttachToNoProcessIsRefused(t *testing.T) {
	c, adapter := session(t)
	_, err := c.Initialize(c.ctx)
	c.must(err)
	e := c.fails("attach", map[string]any{"processId": 1 << 22})
	if !strings.Contains(e.Format, "Failed to attach") {
		t.Errorf("got %q", e.Format)
	}
	c.Close()
	adapter.wait(t)
}

// mustBeGone fails the test unless a process has ended.
func mustBeGone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d to end", pid), func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		return os.IsNotExist(err)
	})
}
