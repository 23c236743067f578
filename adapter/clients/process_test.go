package clients

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is for anything that a client or a program is waited for.
const patience = 30 * time.Second

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// output is what a process writes while a test reads it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a process that ends with the test at the latest; what it wrote
// is shown if the test has failed.
func start(t *testing.T, cmd *exec.Cmd) *output {
	t.Helper()
	out := new(output)
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	cmd.WaitDelay = time.Second // its children may have its output open still
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(cmd.Path), out)
		}
	})
	return out
}

// run runs a command to its end and returns its output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// live is a running shop.
type live struct {
	*shop
	t       *testing.T
	pid     int
	address string
}

func openShop(t *testing.T) *live {
	t.Helper()
	s, err := buildShop()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.exe)
	out := start(t, cmd)
	l := &live{shop: s, t: t, pid: cmd.Process.Pid}
	eventually(t, "the shop's address", func() bool {
		_, rest, ok := strings.Cut(out.String(), "addr ")
		address, _, whole := strings.Cut(rest, "\n")
		l.address = address
		return ok && whole
	})
	return l
}

// total asks the shop for the total, whose digits the patch changes.
func (l *live) total() string {
	r, err := (&http.Client{Timeout: patience}).Get("http://" + l.address + "/total")
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(body))
}

// mustSell fails the test unless the shop's total is as wanted.
func (l *live) mustSell(want string) {
	l.t.Helper()
	if got := l.total(); got != want {
		l.t.Errorf("the total is %s, want %s", got, want)
	}
}

// mustBeFree waits until nobody debugs the shop any more.
func (l *live) mustBeFree() {
	l.t.Helper()
	eventually(l.t, "the end of the session", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.pid))
		if err != nil {
			l.t.Fatal(err)
		}
		return strings.Contains(string(status), "TracerPid:\t0\n")
	})
}
