package process

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// TestExclusive: a page that is shared with a forked child is known, and known to be
// the process's own when it has written there again.
func TestExclusive(t *testing.T) {
	exe := targettest.Build(t, filepath.Join(targettest.Root(t), "testdata", "targets", "forker.c"), "-O2")
	// Nobody writes where the environment is: the last page of the stack is full of it,
	// and without it would have main's frame as often as not.
	target := targettest.Start(t, targettest.Command{Path: exe, Env: []string{"PAGES=" + strings.Repeat("x", 2*4096)}})
	target.Line("ready")
	p, err := Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var at uint64
	for _, m := range maps {
		if m.Path == "[stack]" {
			at = m.End - 4096
		}
	}
	touch := func() {
		b := make([]byte, 1)
		if err := p.ReadMemory(b, at); err != nil {
			t.Fatal(err)
		}
		if err := p.WriteMemory(at, b); err != nil {
			t.Fatal(err)
		}
	}
	touch()
	if own, err := p.Exclusive(at); err != nil || !own {
		t.Errorf("before the fork: %v, %v", own, err)
	}
	child, err := os.FindProcess(target.Pid())
	if err == nil {
		err = child.Signal(syscall.SIGUSR1)
	}
	if err != nil {
		t.Fatal(err)
	}
	target.Line("child ")
	if own, err := p.Exclusive(at); err != nil || own {
		t.Errorf("after the fork: %v, %v", own, err)
	}
	touch()
	if own, err := p.Exclusive(at); err != nil || !own {
		t.Errorf("after it has written there: %v, %v", own, err)
	}
}
