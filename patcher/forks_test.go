package patcher_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// childrenOf returns the children of a process.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(data)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, child)
	}
	return children
}

// A child has its parent's registry for ever, but only the memory of the fork:
// one in which an entry is not what the registry says can't be worked on.
func TestAChildWhoseMemoryIsNotWhatTheRegistrySaysIsRefused(t *testing.T) {
	exe := targettest.Build(t, filepath.Join(targettest.Root(t), "testdata", "targets", "prefork.c"), "-O2")
	m := cModule(t, "int answer(int n) { return n + 100; }\n")
	target := targettest.Start(t, targettest.Command{Path: exe})
	t.Cleanup(func() { _ = syscall.Kill(-target.Pid(), syscall.SIGKILL) })
	targettest.Eventually(t, "two workers", func() bool { return len(childrenOf(t, target.Pid())) == 2 })
	e, detach := attach(t, target)
	p := load(t, e, m)
	entry := p.Functions[0].Address
	memory := func(pid int) *os.File {
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	old, now := make([]byte, 16), make([]byte, 16)
	parent := memory(target.Pid())
	if _, err := parent.ReadAt(old, int64(entry)); err != nil {
		t.Fatal(err)
	}
	activate(t, e, p)
	if _, err := parent.ReadAt(now, int64(entry)); err != nil || bytes.Equal(now, old) {
		t.Fatalf("the entry was not changed: %v", err)
	}
	detach()
	before := childrenOf(t, target.Pid())
	if err := syscall.Kill(target.Pid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "a third worker", func() bool { return len(childrenOf(t, target.Pid())) == len(before)+1 })
	children := childrenOf(t, target.Pid())
	child := children[len(children)-1]
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := memory(child).WriteAt(old, int64(entry)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	traced, err := process.Attach(child)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = traced.Close() }()
	_, err = patcher.Open(traced)
	if finding.CodeOf(err) != finding.UnsupportedTarget || !strings.Contains(err.Error(), "was never changed in it") {
		t.Errorf("attaching says %v", err)
	}
	target.MustLive()
}
