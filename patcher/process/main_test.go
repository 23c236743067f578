package process

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

func TestMain(m *testing.M) {
	GuardMain(nil, nil)
	os.Exit(targettest.Run(m))
}

// goServer starts a Go target, by default with threads that compute and that
// wait, and signals. It takes seconds to attach to under the race detector:
// where the language does not matter cThreads is quicker.
func goServer(t testing.TB, args ...string) *targettest.Target {
	t.Helper()
	if args == nil {
		args = []string{"-busy", "1", "-signals"}
	}
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "goserver"), Args: args})
	target.Line("addr ")
	return target
}

func cThreads(t testing.TB) *targettest.Target {
	t.Helper()
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "cthreads.c")})
	target.Line("ready")
	return target
}

func attach(t testing.TB, target *targettest.Target) *Process {
	t.Helper()
	p, err := Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return p
}

func halt(t testing.TB, p *Process, fn func(h *Halt)) {
	t.Helper()
	err := p.Halt(context.Background(), func(h *Halt) error { fn(h); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// mustSay fails the test unless err is a Refusal of the code that contains the
// words.
func mustSay(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}
