// Package targettest starts real programs for tests to patch, as processes
// that survive being traced by the test and never survive the test.
package targettest

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long the tests wait for what must happen.
const patience = time.Minute

// Command is a program to be started.
type Command struct {
	Path       string
	Args       []string // without the program's name
	Env        []string // in addition to the test's own
	Dir        string
	Credential *syscall.Credential // nil: the test's user
}

// Target is a running program.
type Target struct {
	t      testing.TB
	pid    int
	name   string
	output string        // file
	ended  chan struct{} // closed when status is valid
	status int
}

// Start starts a program, which is killed when the test ends.
func Start(t testing.TB, c Command) *Target {
	t.Helper()
	g := &Target{t: t, name: filepath.Base(c.Path), output: filepath.Join(t.TempDir(), "output"), ended: make(chan struct{})}
	output, err := os.OpenFile(g.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	reports, report, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	launcher := exec.Command(self, append([]string{c.Path}, c.Args...)...)
	launcher.Env = append(os.Environ(), c.Env...)
	launcher.Env = append(launcher.Env, launcherEnv+"=1")
	if c.Credential != nil {
		launcher.Env = append(launcher.Env, fmt.Sprintf("%s=%d:%d", credentialEnv, c.Credential.Uid, c.Credential.Gid))
	}
	launcher.Dir = c.Dir
	launcher.Stdout, launcher.Stderr = output, output
	launcher.ExtraFiles = []*os.File{report}
	stdin, err := launcher.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	report.Close()
	lines := bufio.NewScanner(reports)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "pid ") {
		t.Fatalf("starting %s: %s", c.Path, lines.Text())
	}
	if g.pid, err = strconv.Atoi(strings.TrimPrefix(lines.Text(), "pid ")); err != nil {
		t.Fatal(err)
	}
	g.awaitExec()
	go func() {
		defer close(g.ended)
		defer reports.Close()
		for lines.Scan() {
			_, _ = fmt.Sscanf(lines.Text(), "exit %d", &g.status)
		}
		_ = launcher.Wait() // fails if a debugger was faster
	}()
	t.Cleanup(func() {
		_ = stdin.Close() // the launcher kills the target
		// A target that was stopped by a tracer of this process is reaped by it,
		// perhaps only when this process ends: dead is enough.
		Eventually(t, g.name+" is gone", func() bool { return !g.Alive() })
		if t.Failed() {
			t.Logf("output of %s:\n%s", g.name, tail(g.Output()))
		}
	})
	return g
}

// awaitExec waits until the program is mapped: the pipe by which os/exec learns that
// exec has succeeded is closed earlier. The auxiliary vector is written later.
func (g *Target) awaitExec() {
	const end = 16 // AT_NULL alone
	Eventually(g.t, g.name+" is mapped", func() bool {
		auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", g.pid))
		return err != nil || len(auxv) > end || !g.Alive()
	})
}

// Pid returns the process id.
func (g *Target) Pid() int { return g.pid }

// Line waits for a line of output that starts with prefix, and returns the
// rest of it. It fails the test if none comes, or the program ends.
func (g *Target) Line(prefix string) string {
	g.t.Helper()
	var rest string
	Eventually(g.t, fmt.Sprintf("%s prints %q", g.name, prefix), func() bool {
		alive := g.Alive()
		for line := range strings.Lines(g.Output()) {
			if r, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(line, "\n") {
				rest = strings.TrimSuffix(r, "\n")
				return true
			}
		}
		if !alive {
			g.t.Fatalf("%s has ended without printing %q:\n%s", g.name, prefix, tail(g.Output()))
		}
		return false
	})
	return rest
}

// Output returns all that the program has written so far, both streams.
func (g *Target) Output() string {
	data, err := os.ReadFile(g.output)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// Alive tells whether the program has not ended.
func (g *Target) Alive() bool {
	select {
	case <-g.ended:
		return false
	default:
	}
	state := g.state()
	return state != 0 && state != 'Z' && state != 'X'
}

// state is the letter in /proc/PID/stat, 0 if there is no such process.
func (g *Target) state() byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.pid))
	if err != nil {
		return 0
	}
	i := strings.LastIndex(string(stat), ") ")
	if i < 0 || i+2 >= len(stat) {
		return 0
	}
	return stat[i+2]
}

// MustLive fails the test if the program has ended, or is stopped while nobody
// traces it.
func (g *Target) MustLive() {
	g.t.Helper()
	if !g.Alive() {
		g.t.Fatalf("%s (process %d) has ended", g.name, g.pid)
	}
	if g.state() == 'T' {
		g.t.Fatalf("%s (process %d) is stopped", g.name, g.pid)
	}
}

var client = http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// Get returns the answer to a GET of path (with its slash) from the address
// the program printed after "addr ". Any status but 200 fails the test.
func (g *Target) Get(path string) string {
	g.t.Helper()
	resp, err := client.Get("http://" + g.Line("addr ") + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		g.t.Fatalf("%s: %s: %s", path, resp.Status, body)
	}
	return string(body)
}

// Wait waits until the program has ended and returns its status: its exit
// code, or minus the signal that ended it.
func (g *Target) Wait() int {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(patience):
		g.t.Fatalf("%s (process %d) does not end", g.name, g.pid)
	}
	return g.status
}

// Kill sends SIGKILL. It does not wait: a traced process may have to be
// reaped by its tracer first.
func (g *Target) Kill() { _ = syscall.Kill(g.pid, syscall.SIGKILL) }

// Eventually waits until ok returns true; after a minute it fails the test.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
