package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/internal/load"
)

func TestMain(m *testing.M) {
	if pid := os.Getenv(asTracer); pid != "" {
		trace(pid)
	}
	demo, err := filepath.Abs("../../testdata/demo")
	if err != nil {
		panic(err)
	}
	demoDir = demo
	// Readable by other users, as the test with one needs.
	if shared, err = os.MkdirTemp("", "darn-cli-test-"); err != nil {
		panic(err)
	}
	if err := os.Chmod(shared, 0o755); err != nil {
		panic(err)
	}
	// The bases that darn build keeps are not for the user's cache; what the
	// compiler keeps is.
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		panic(err)
	}
	os.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
	os.Setenv("XDG_CACHE_HOME", filepath.Join(shared, "cache"))
	program = filepath.Join(shared, "darn")
	// Not the policy of this machine, nor its quarantine; and no test but those of
	// that waits after an activation. It stops at no step unless a test asks for it.
	const set = "-X=github.com/darn-dev/darn/internal/cli."
	flags := "-ldflags=" + set + "policyFile=" + testPolicy() + " " + set + "stateDir=" + testState() + " " + set + "watchTime=0s"
	if out, err := exec.Command("go", "build", "-tags", "darnfault", flags, "-o", program, "../..").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(shared)
	os.Exit(code)
}

var (
	demoDir string
	shared  string // a folder for what is built once
	program string // the darn command
)

// testPolicy and testState are what the darn command takes for the machine's
// policy and for the place of its quarantine.
func testPolicy() string { return filepath.Join(shared, "policy") }
func testState() string  { return filepath.Join(shared, "state") }

// result is how a darn process ended.
type result struct {
	code           int
	stdout, stderr string
}

// command prepares a darn process. It is the real command and without the race
// detector: the tests of the packages below have that, and here each process
// reads a whole program's debugging information anew.
func command(args ...string) *exec.Cmd { return exec.Command(program, args...) }

// darn runs darn to its end.
func darn(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, command(args...))
}

func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok fails the test unless darn did what it was asked to do.
func (r result) ok(t *testing.T) result {
	t.Helper()
	if r.code != exitDone {
		t.Fatalf("exit status %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	return r
}

// decode decodes the JSON that darn printed.
func (r result) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("%v in %q", err, r.stdout)
	}
}

// teahouse is the demo's source, a copy of it and the program, with an edit
// made after the build.
type teahouse struct{ demoPaths }

// buildTeahouse builds the demo server with go build's flags; once for each.
func buildTeahouse(t *testing.T, flags ...string) *teahouse {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	key := strings.Join(flags, " ")
	if h := built[key]; h != nil {
		return h
	}
	dir := filepath.Join(shared, fmt.Sprint("teahouse", len(built)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a := &app{demo: os.DirFS(demoDir)}
	paths, err := a.prepareDemo(context.Background(), dir)
	if err == nil && len(flags) > 0 {
		err = goBuild(context.Background(), paths.source, append(slices.Clone(flags), "-o", paths.program, ".")...)
	}
	if err == nil {
		_, err = a.editDemo(paths)
	}
	if err != nil {
		t.Fatal(err)
	}
	built[key] = &teahouse{paths}
	return built[key]
}

var (
	buildMu sync.Mutex
	built   = map[string]*teahouse{}
)

// patch returns the module that fixes the server's bug, built by darn build.
func (h *teahouse) patch(t *testing.T) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if _, err := os.Stat(h.module); err != nil {
		cmd := command("build", "--target", h.program, "--base", h.base, "-o", h.module, ".")
		cmd.Dir = h.source
		run(t, cmd).ok(t)
	}
	return h.module
}

// server is a running demo server.
type server struct {
	t   *testing.T
	pid int
	url string
}

// start starts the server. At the end of the test it must still be there and
// answer, unless the test has ended it.
func (h *teahouse) start(t *testing.T) *server {
	t.Helper()
	c, url, err := startChild("teahouse: ", h.program)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t, c.pid(), url}
	t.Cleanup(func() {
		c.kill()
		if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("the target ended by itself: %v", c.cmd.ProcessState)
		}
	})
	return s
}

// flag is --pid for the server.
func (s *server) flag() string { return fmt.Sprint("--pid=", s.pid) }

// mustAnswer fails the test unless the server's answer about three cups is want.
func (s *server) mustAnswer(want string) {
	s.t.Helper()
	got, err := load.Get(fmt.Sprintf("%s/bill?cups=%d", s.url, demoCups))
	if err != nil || got != want {
		s.t.Fatalf("the server answers %q (%v), want %q", got, err, want)
	}
}

// snapshot is what Darn must leave alone in a target.
type snapshot struct {
	maps []string // all mappings but the Go runtime's own
	text [sha256.Size]byte
	// rest holds the descriptors, and the signals that it handles and ignores.
	rest []string
}

// snapshot reads the server's mappings and text.
func (s *server) snapshot() (n snapshot) {
	s.t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	defer memory.Close()
	text := sha256.New()
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		var start uint64
		if _, err := fmt.Sscanf(fields[0], "%x-", &start); err != nil {
			s.t.Fatal(err)
		}
		// What the Go runtime maps far from the program, without a file, comes
		// and goes as it likes.
		if len(fields) > 5 && fields[5] != "[heap]" || strings.Contains(fields[1], "x") || start < 4<<30 {
			n.maps = append(n.maps, line)
		}
		if len(fields) > 5 && strings.HasPrefix(fields[1], "r-x") && fields[5] != "[vdso]" && !strings.HasPrefix(fields[5], "/memfd:darn") {
			var from, to int64
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
				s.t.Fatal(err)
			}
			if _, err := io.Copy(text, io.NewSectionReader(memory, from, to-from)); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	text.Sum(n.text[:0])
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.pid, fd.Name()))
		if err == nil && !strings.HasPrefix(to, "socket:") { // connections come and go
			n.rest = append(n.rest, fd.Name()+" "+to)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "SigIgn") || strings.HasPrefix(line, "SigCgt") || strings.HasPrefix(line, "TracerPid") {
			n.rest = append(n.rest, line)
		}
	}
	return n
}

// mustEqual fails the test if the target was changed since the snapshot.
func (s *server) mustEqual(before snapshot) {
	s.t.Helper()
	s.mustBeEqual(before, s.snapshot())
}

func (s *server) mustBeEqual(before, after snapshot) {
	s.t.Helper()
	if !slices.Equal(before.maps, after.maps) {
		s.t.Errorf("the mappings changed:\n%s\n->\n%s", strings.Join(before.maps, ""), strings.Join(after.maps, ""))
	}
	if before.text != after.text {
		s.t.Error("the text changed")
	}
	if !slices.Equal(before.rest, after.rest) {
		s.t.Errorf("descriptors or signals changed:\n%q\n->\n%q", before.rest, after.rest)
	}
}

// startLine starts cmd and returns what follows prefix in the first line of
// its output that begins so. The process is killed at the end of the test.
func startLine(t *testing.T, cmd *exec.Cmd, prefix string) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(stderr.String())
		}
	})
	return readLine(t, out, prefix)
}

// readLine returns what follows prefix in the first line that begins so.
func readLine(t *testing.T, from io.Reader, prefix string) string {
	t.Helper()
	for lines := bufio.NewScanner(from); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return rest
		}
	}
	t.Fatalf("no line that begins with %q", prefix)
	return ""
}

// eventually polls ok for up to a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
