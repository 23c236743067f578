package arena

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

func TestMain(m *testing.M) {
	if os.Getenv(saverEnv) != "" {
		saver()
	}
	os.Exit(targettest.Run(m))
}

func start(t testing.TB, source, ready string, args ...string) *targettest.Target {
	t.Helper()
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, source), Args: args})
	target.Line(ready)
	return target
}

func attach(t testing.TB, target *targettest.Target) *process.Process {
	t.Helper()
	p, err := process.Attach(target.Pid())
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

func halt(t testing.TB, p *process.Process, fn func(h *process.Halt) error) {
	t.Helper()
	if err := p.Halt(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// text returns the executable part of the target's program.
func text(t testing.TB, p *process.Process) Range {
	t.Helper()
	exe, err := os.Readlink(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps(t, p) {
		if m.Path == exe && strings.Contains(m.Perms, "x") {
			return Range{m.Start, m.End}
		}
	}
	t.Fatal("the program has no text")
	panic("unreachable")
}

func maps(t testing.TB, p *process.Process) []process.Mapping {
	t.Helper()
	ms, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func reserve(t testing.TB, p *process.Process) *Arena {
	t.Helper()
	a, err := Plan(p, text(t, p))
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, a.Reserve)
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// symbol returns the address of a function of the target and its code's size.
func symbol(t testing.TB, p *process.Process, name string) (addr, size uint64) {
	t.Helper()
	f, err := elf.Open(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return s.Value + p.LoadBias(), s.Size
		}
	}
	t.Fatalf("no symbol %s", name)
	panic("unreachable")
}

// descriptors lists what the target has open.
func descriptors(t testing.TB, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var fds []string
	for _, e := range entries {
		what, _ := os.Readlink(dir + "/" + e.Name())
		fds = append(fds, e.Name()+" "+what)
	}
	return fds
}

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
