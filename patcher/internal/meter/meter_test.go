package meter_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/meter"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

func TestMain(m *testing.M) { os.Exit(targettest.Run(m)) }

// hold is for how long the tests keep threads from running. A machine that
// others use may do so too now and then, but does not all the time.
const hold = 100 * time.Millisecond

// unheld waits for a window in which nothing has kept these threads from
// running for nearly as long as hold. That is to be so unless the meter is
// wrong.
func unheld(t *testing.T, what string, longest func() time.Duration) {
	t.Helper()
	targettest.Eventually(t, what, func() bool { return longest() < hold/2 })
}

// atLeast checks the gaps of threads that were kept from running for held.
func atLeast(t *testing.T, m *meter.Meter, g meter.Gaps, held time.Duration) {
	t.Helper()
	for i, gap := range g.Of {
		want := held
		if i >= m.Busy {
			want -= m.Period // at the latest then it wanted to wake up
		}
		if gap < want {
			t.Errorf("thread %d of %d (%d busy) shows a gap of %v: it was stopped for %v", i, len(g.Of), m.Busy, gap, held)
		}
	}
}

// stopped tells whether every thread of a process is in job control's stop.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatal(stats, err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(stat), ") T ") {
			return false
		}
	}
	return true
}

func TestEveryThreadSeesAStopInItsWholeLength(t *testing.T) {
	for _, test := range []struct {
		name string
		stop func(t *testing.T, pid int, fn func())
	}{
		{"by SIGSTOP", func(t *testing.T, pid int, fn func()) {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			targettest.Eventually(t, "a stop", func() bool { return stopped(t, pid) })
			fn()
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}},
		{"by ptrace", func(t *testing.T, pid int, fn func()) {
			if err := meter.StopAll(pid, fn); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := meter.StartC(t, targettest.Build(t, "meter.c"), 16)
			var held time.Duration
			g := m.During(func() {
				test.stop(t, m.Target.Pid(), func() {
					begun := time.Now()
					time.Sleep(hold)
					held = time.Since(begun)
				})
			})
			atLeast(t, m, g, held)
			m.Target.MustLive()
		})
	}
}

func TestNoGapIsSeenWithoutAStop(t *testing.T) {
	m := meter.StartC(t, targettest.Build(t, "meter.c"), 16)
	// It does not come back either once it was seen.
	if err := meter.StopAll(m.Target.Pid(), func() { time.Sleep(hold) }); err != nil {
		t.Fatal(err)
	}
	unheld(t, "a window without a stop", func() time.Duration { return m.During(func() {}).Longest() })
}

// One thread that is held does not show in the others.
func TestEachThreadIsMeasuredByItself(t *testing.T) {
	m := meter.StartC(t, targettest.Build(t, "meter.c"), 4)
	// The program's first thread is the last one that is measured; it waits.
	first, last := m.Target.Pid(), m.Busy+m.Waiting-1
	unheld(t, "a stop of one thread that the others don't show", func() time.Duration {
		var held, others time.Duration
		g := m.During(func() {
			if err := meter.StopThreads([]int{first}, func() {
				begun := time.Now()
				time.Sleep(hold)
				held = time.Since(begun)
			}); err != nil {
				t.Fatal(err)
			}
		})
		if want := held - m.Period; g.Of[last] < want {
			t.Fatalf("the thread shows a gap of %v: it was stopped for %v", g.Of[last], held)
		}
		for _, gap := range g.Of[:last] {
			others = max(others, gap)
		}
		return others
	})
}
