package patcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// threads returns how many threads the target has.
func threads(t testing.TB, target *targettest.Target) int {
	tasks, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(target.Pid()), "task"))
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}

// BenchmarkHalts reports for how long a mostly idle target with at least 16
// threads is kept from running by a load and a first activation together, and
// by an unload.
func BenchmarkHalts(b *testing.B) {
	s := newShop(b)
	m := s.module(b, "discount", discount)
	target := s.start(b)
	target.Get("/threads?n=16")
	targettest.Eventually(b, "16 threads", func() bool { return threads(b, target) >= 16 })
	e, _ := attach(b, target)
	var on, off int64
	b.ResetTimer()
	for range b.N {
		p, r, err := e.Load(b.Context(), m)
		if err != nil {
			b.Fatal(err)
		}
		on += r.HaltMicros + activate(b, e, p).HaltMicros
		deactivate(b, e, p)
		if r, err = e.Unload(b.Context(), p.ID); err != nil {
			b.Fatal(err)
		}
		off += r.HaltMicros
	}
	b.ReportMetric(float64(on)/float64(b.N)/1000, "load+activate-halt-ms")
	b.ReportMetric(float64(off)/float64(b.N)/1000, "unload-halt-ms")
	b.ReportMetric(float64(threads(b, target)), "threads")
}

// BenchmarkToggle is an activation and a deactivation after the first.
func BenchmarkToggle(b *testing.B) {
	s := newShop(b)
	m := s.module(b, "discount", discount)
	e, _ := attach(b, s.start(b))
	p := load(b, e, m)
	activate(b, e, p)
	b.ResetTimer()
	for range b.N {
		deactivate(b, e, p)
		activate(b, e, p)
	}
}
