package goruntime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// function returns the addresses of a function of the program.
func (s *subject) function(h *process.Halt, name string) Range {
	s.t.Helper()
	fns, err := h.Target().BinInfo().FindFunction(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return Range{Start: fns[0].Entry, End: fns[0].End}
}

func TestPositionsFindAParkedGoroutine(t *testing.T) {
	s := start(t, nil)
	look := func() (found []Holder, frames []int) {
		s.halt(func(h *process.Halt) (err error) {
			park := s.function(h, "main.park")
			main := s.function(h, "main.main")
			all, err := s.rt.Positions(h, park, main)
			frames, found = make([]int, 2), nil
			for _, x := range all {
				switch {
				case park.Holds(x.Value, 1):
					found = append(found, x)
					frames[0]++
				case x.Frame && x.Function == "main.main":
					frames[1]++
				}
			}
			return err
		})
		return found, frames
	}
	if found, frames := look(); len(found) != 0 || frames[0] != 0 || frames[1] != 1 {
		t.Fatalf("nobody is in park and one in main, but %v are:\n%s", frames, where(found))
	}
	s.Get("/stack")
	s.Get("/stack")
	found, frames := look()
	if frames[0] != 2 {
		t.Errorf("%d frames in park, want 2", frames[0])
	}
	if got := where(found); len(found) != 2 || strings.Count(got, "[waiting] is in main.park\n") != 2 {
		t.Errorf("got:\n%s", got)
	}
}

func TestPositionsFindARunningGoroutine(t *testing.T) {
	s := start(t, nil)
	s.Get("/spin")
	targettest.Eventually(t, "it is seen in worker", func() (seen bool) {
		s.halt(func(h *process.Halt) error {
			found, err := s.rt.Positions(h, s.function(h, "main.worker"))
			for _, x := range found {
				seen = seen || x.Frame && strings.Contains(x.Where, "[running]) is in main.worker")
			}
			return err
		})
		return seen
	})
}

func TestGoroutinesAreAllThere(t *testing.T) {
	s := start(t, nil)
	const n = 1000
	s.Get(fmt.Sprint("/many?", n))
	waiters := 0
	look := func(h *process.Halt) error {
		gs, err := s.rt.Goroutines(h)
		seen := make(map[uint64]bool)
		waiters = 0
		for _, g := range gs {
			if g.Dead() {
				continue
			}
			if seen[g.ID] {
				t.Errorf("goroutine %d is there twice", g.ID)
			}
			seen[g.ID] = true
			if g.Status == waiting {
				if !g.Stack.Holds(g.SP, 0) {
					t.Errorf("%v: sp %#x is not in its stack %#x", &g, g.SP, g.Stack)
				}
				waiters++
			}
		}
		return err
	}
	// They are answered for when they are made, not when they wait.
	targettest.Eventually(t, fmt.Sprint(n, " goroutines wait"), func() bool {
		s.halt(look)
		return waiters >= n || t.Failed()
	})
}

func BenchmarkPositions(b *testing.B) {
	for _, n := range []int{10, 1000, 50000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := start(b, nil)
			s.Get(fmt.Sprint("/many?", n))
			s.halt(func(h *process.Halt) error {
				park := s.function(h, "main.park")
				begin := time.Now()
				for b.Loop() {
					if _, err := s.rt.Positions(h, park); err != nil {
						return err
					}
				}
				b.ReportMetric(float64(time.Since(begin).Microseconds())/float64(b.N), "µs/halt")
				return nil
			})
		})
	}
}

func BenchmarkReferences(b *testing.B) {
	for _, n := range []int{10, 50000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := start(b, nil)
			s.Get(fmt.Sprint("/many?", n))
			thing := s.thing()
			s.halt(func(h *process.Halt) error {
				for b.Loop() {
					if _, _, err := s.rt.References(h, &Ledger{}, thing, nil, nil); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
