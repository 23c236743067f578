package resident

import (
	"context"
	"debug/elf"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

func TestMain(m *testing.M) { os.Exit(targettest.Run(m)) }

// TestStore: code is changed while threads run it, at an instant at which nobody
// is halted, and nothing else of the process is; what can't be stored at once, or is
// not what was expected, is not stored.
func TestStore(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "cthreads.c", "-no-pie")})
	target.Line("rounds=")
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	before, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	at := answer(t, p)
	var a *arena.Arena
	for _, m := range before {
		if m.Start <= at && at < m.End {
			if a, err = arena.Plan(p, arena.Range{Start: m.Start, End: m.End}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var r *Resident
	if err := p.Halt(context.Background(), func(h *process.Halt) (err error) {
		if err = a.Reserve(h); err == nil {
			r, err = Start(h, a)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = r.End()
		}
		_ = a.Close()
	})

	halts := p.Measure()
	if got, err := r.Syscall(unix.SYS_GETPID); err != nil || got != uint64(target.Pid()) {
		t.Errorf("getpid says %d, %v", got, err)
	}
	if _, err := r.Syscall(unix.SYS_CLOSE, 1<<30); err != unix.EBADF {
		t.Errorf("close says %v", err)
	}
	// Two nops in the function become one of two bytes, and again two: which of
	// them runs is all the same, but a half of one would be another instruction.
	nops := at
	code := make([]byte, 64)
	if err := p.ReadMemory(code, at); err != nil {
		t.Fatal(err)
	}
	for nops%8 == 7 || code[nops-at] != 0x90 || code[nops-at+1] != 0x90 {
		if nops++; nops >= at+62 {
			t.Fatalf("the function has no nops: % x", code)
		}
	}
	two, one := []byte{0x90, 0x90}, []byte{0x66, 0x90}
	for range 200 {
		if err := errors.Join(r.Store(nops, two, one), r.Store(nops, one, two)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Store(nops, one, two); !errors.Is(err, ErrStore) {
		t.Errorf("over other bytes: %v", err)
	}
	word, aligned := make([]byte, 16), at&^7
	if err := p.ReadMemory(word, aligned); err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(word)
	other[7]++
	other[8]++
	if err := r.Store(aligned, word, other); !errors.Is(err, ErrStore) {
		t.Errorf("in two words: %v", err)
	}
	if err := r.Store(a.Base(), make([]byte, 8), slices.Repeat([]byte{1}, 8)); !errors.Is(err, ErrStore) {
		t.Errorf("in shared memory: %v", err)
	}
	if now := make([]byte, 16); p.ReadMemory(now, aligned) != nil || !slices.Equal(now, word) {
		t.Errorf("the code is % x, was % x", now, word)
	}
	if s := halts(); s.Halts != 0 {
		t.Errorf("that took %d halts", s.Halts)
	}
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	ended = true
	if err := r.Store(nops, two, one); !errors.Is(err, ErrGone) {
		t.Errorf("when it has ended: %v", err)
	}
	if err := p.Halt(context.Background(), a.Release); err != nil {
		t.Fatal(err)
	}
	if now, err := p.Maps(); err != nil || !slices.Equal(now, before) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, before)
	}
	target.MustLive()
}

// answer returns the address of the function that all threads call.
func answer(t *testing.T, p *process.Process) uint64 {
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
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "answer" })
	if i < 0 {
		t.Fatal("the program has no answer")
	}
	return symbols[i].Value + p.LoadBias()
}
