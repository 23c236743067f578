package goruntime

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
)

func TestReferencesNameWhoHoldsAnAddress(t *testing.T) {
	s := start(t, nil)
	if found := s.holders(); len(found) != 0 {
		t.Fatalf("nobody holds it, but:\n%s", where(found))
	}
	for _, c := range []struct{ request, says string }{
		{"/variable", "variable main.kept has "},
		{"/heap", "a heap object of "},
		{"/map", "a heap object of "},
		{"/pool", "a heap object of "},
		{"/iface", "variable main.iface+0x8 has "},
		{"/stack", " in main.park has "},
		{"/spin", ""},
	} {
		t.Run(c.request[1:], func(t *testing.T) {
			s.Get(c.request)
			found := s.holders()
			if len(found) == 0 {
				t.Fatal("nobody is said to hold it")
			}
			if got := where(found); !strings.Contains(got, c.says) {
				t.Errorf("got:\n%swant one that says %q", got, c.says)
			} else {
				t.Log(got)
			}
			s.Get("/forget")
			defer func() {
				if t.Failed() {
					t.Logf("these still hold it:\n%s", where(found))
				}
			}()
			targettest.Eventually(t, "everybody has forgotten it", func() bool {
				s.collect()
				found = s.holders()
				return len(found) == 0
			})
		})
	}
}

// Without the bitmaps what is left behind an object would keep a module for ever.
func TestBitmapsOfPointersAreFound(t *testing.T) {
	for _, version := range []string{"local", "go1.25.1", "go1.24.6"} {
		t.Run(version, func(t *testing.T) {
			t.Setenv("GOTOOLCHAIN", version)
			program := targettest.Build(t, "shop", "-tags="+version) // a build of its own
			s := startProgram(t, targettest.Command{Path: program})
			s.halt(func(h *process.Halt) error {
				gs, err := s.rt.Goroutines(h)
				if err != nil {
					return err
				}
				heap, err := s.rt.snapshot().heap()
				if err == nil && !heap.checkBitmaps(gs) {
					t.Error("they are not where they are looked for")
				}
				return err
			})
		})
	}
}

func TestReferencesPassOverWhatIsBehindAG(t *testing.T) {
	s := start(t, nil)
	s.halt(func(h *process.Halt) error {
		gs, err := s.rt.Goroutines(h)
		if err != nil {
			return err
		}
		heap, err := s.rt.snapshot().heap()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(gs, func(g Goroutine) bool {
			o, ok := heap.object(g.Addr)
			return ok && !g.Dead() && o.size >= s.rt.layout.g.size+8
		})
		if i < 0 {
			t.Skip("a g fills its size class")
		}
		s.dead(h, "behind a g", gs[i].Addr+s.rt.layout.g.size)
		return nil
	})
}

// dead fails the test if the word at addr, which means nothing, is taken for a
// reference when it looks like one.
func (s *subject) dead(h *process.Halt, what string, addr uint64) {
	s.t.Helper()
	before, err := s.rt.words(addr, 1)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if err := s.p.WriteMemory(addr, bytesOf(s.thing().Base+8)); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	found, _, err := s.rt.References(h, &Ledger{}, s.thing(), nil, nil)
	if err != nil || len(found) != 0 {
		s.t.Errorf("what is %s holds nothing, but (%v):\n%s", what, err, where(found))
	}
	if err := s.p.WriteMemory(addr, bytesOf(before...)); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// A bitmap of a span's marks once kept a module for ever: it looked like the
// address of one.
func TestReferencesPassOverTheHeapsBookkeeping(t *testing.T) {
	s := start(t, nil)
	s.halt(func(h *process.Halt) error {
		heap, err := s.rt.snapshot().heap()
		if err != nil {
			return err
		}
		places, err := heap.bookkeeping(false)
		if err != nil {
			return err
		}
		inUse := scan.NewSet(places)
		b := &s.rt.bookkeeping
		marks, err := s.rt.word(b.bitArenas[1])
		if err != nil {
			return err
		}
		s.dead(h, "a bitmap of marks", marks+b.bitSize-8)
		var span, arena uint64 // of a span that is not a dead one
		for at := range heap.spans {
			if a := heap.arena(s.rt.snapshot().u64(at + s.rt.layout.span.start)); a != 0 {
				span, arena = at, a
			}
		}
		s.dead(h, "a number in a span", span+s.rt.layout.span.largeType-8)
		summary, err := s.rt.words(b.summaries, 1)
		if err != nil {
			return err
		}
		chunks, err := s.rt.words(b.chunks, b.chunksLen)
		if err != nil {
			return err
		}
		chunk := chunks[slices.IndexFunc(chunks, func(w uint64) bool { return w != 0 })]
		for what, addr := range map[string]uint64{"the sum of pages": summary[0], "the pages' bitmap": chunk, "the arena": arena} {
			if addr == 0 || !inUse.Holds(addr) {
				t.Errorf("%s at %#x is not known", what, addr)
			}
		}
		return nil
	})
}

// What a thread that sleeps has left below its stack pointer stays for ever.
func TestReferencesPassOverWhatIsBelowAStack(t *testing.T) {
	s := start(t, nil)
	s.halt(func(h *process.Halt) error {
		threads, err := h.Threads()
		if err != nil {
			return err
		}
		n := 0
		for i := range threads {
			if s.rt.snapshot().findFunc(threads[i].PC) == nil {
				continue
			}
			s.dead(h, fmt.Sprintf("below the stack of thread %d", threads[i].ID), threads[i].SP-16)
			n++
		}
		if n == 0 {
			t.Error("no thread is in Go code")
		}
		return nil
	})
}

func (s *subject) collect() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.rt.ForceGC(ctx, s.p); err != nil {
		s.t.Fatal(err)
	}
}

// builds are the ways in which targets are built that matter here.
var builds = map[string][]string{
	"default":     nil,
	"unoptimised": {"-gcflags=all=-N -l"},
	"pie":         {"-buildmode=pie"},
	"without cgo": {"-tags=netgo,osusergo"},
}

func TestReferencesPassOverWhatIsDead(t *testing.T) {
	for name, flags := range builds {
		t.Run(name, func(t *testing.T) {
			s := start(t, flags)
			for _, request := range []string{"/stale", "/garbage", "/number"} {
				s.Get(request)
				s.collect()
				if found := s.holders(); len(found) != 0 {
					t.Errorf("after %s nobody holds it, but:\n%s", request, where(found))
				}
			}
			s.Get("/stack")
			if got := where(s.holders()); !strings.Contains(got, "main.park has") {
				t.Errorf("a goroutine holds it, but:\n%s", got)
			}
		})
	}
}

func TestReferencesAreFoundInCsMemory(t *testing.T) {
	s := startProgram(t, targettest.Command{Path: targettest.Build(t, "runtime-cgo")})
	if found := s.holders(); len(found) != 0 {
		t.Fatalf("nobody holds it, but:\n%s", where(found))
	}
	s.Get("/heap")
	if got := where(s.holders()); !strings.Contains(got, "memory ") {
		t.Errorf("C's heap holds it, but:\n%s", got)
	} else {
		t.Log(got)
	}
	s.Get("/forget")
	if found := s.holders(); len(found) != 0 {
		t.Errorf("nobody holds it any more, but:\n%s", where(found))
	}
	s.Get("/call")
	if got := where(s.holders()); !strings.Contains(got, "stack") {
		t.Errorf("C's stack holds it, but:\n%s", got)
	} else {
		t.Log(got)
	}
	s.Get("/free")
	targettest.Eventually(t, "the call has returned", func() bool { return len(s.holders()) == 0 })
	s.Get("/thread")
	targettest.Eventually(t, "C's thread holds it", func() bool { return strings.Contains(where(s.holders()), " stack") })
	t.Log(where(s.holders()))
}
