package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo runs the demo outside the repository.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	cmd := command("demo")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out := run(t, cmd).ok(t).stdout
	t.Log("\n" + out)
	for _, want := range []string{
		"A web server with a bug", "fix.so", "main.handleBill", "has attached",
		"darn/load", "darn/activate", "darn/deactivate", "darn/unload",
		"GET /bill?cups=3  ->  3 cups of tea: 7.5 EUR", "GET /bill?cups=3  ->  3 cups of tea: 7.05 EUR",
		"activate took", "no halt",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if regexp.MustCompile(`activate took .* halts? \(`).MatchString(out) {
		t.Error("an activation has halted the server")
	}
	if !regexp.MustCompile(`(?m)^requests: \d{3,}, failed: 0\n$`).MatchString(out) {
		t.Error("no last line with the requests")
	}
	mustBeEmpty(t, dir)
}

func TestDemoAsJSON(t *testing.T) {
	var steps []demoStep
	var last struct {
		Requests int
		Failed   *int
	}
	for line := range strings.Lines(darn(t, "demo", "--json").ok(t).stdout) {
		var step demoStep
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	receipts := 0
	for _, step := range steps {
		if step.Receipt != nil {
			receipts++
		}
	}
	if receipts != 6 || last.Requests < 100 || last.Failed == nil || *last.Failed != 0 {
		t.Errorf("%d receipts, last line %+v", receipts, last)
	}
}

// TestDemoInterrupted presses Ctrl-C in the middle.
func TestDemoInterrupted(t *testing.T) {
	dir := t.TempDir()
	cmd := command("demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := readLine(t, out, " 1. A web server with a bug")
	var pid int
	if _, err := fmt.Sscanf(line[strings.Index(line, "process"):], "process %d", &pid); err != nil {
		t.Fatal(err)
	}
	readLine(t, out, " 3. ")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitRefused || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d, stderr %q", code, stderr.String())
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the server is still there: %v", err)
	}
	mustBeEmpty(t, dir)
}

func TestDemoWithoutGo(t *testing.T) {
	cmd := command("demo")
	cmd.Env = append(os.Environ(), "PATH=/nonexistent")
	if r := run(t, cmd); r.code != exitRefused || !strings.Contains(r.stderr, "the demo needs Go") {
		t.Errorf("exit status %d, stderr %q", r.code, r.stderr)
	}
}

// mustBeEmpty fails the test if dir holds anything.
func mustBeEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s stayed behind", e.Name())
	}
}
