// Package meter measures from inside of a program for how long its threads were
// kept from running, and does to it what other tools do, to compare with.
package meter

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// Meter is a program that measures itself: some of its threads (in Go
// goroutines) read the clock in a loop, and others wake up at times that were
// set. What they see of a halt is a gap: the time between two readings of the
// clock, or by how much a thread woke up too late. They keep the longest one in
// memory that is shared with the test, which halts nobody to read it.
type Meter struct {
	Target *targettest.Target
	// Busy and Waiting are how many there are of the two kinds.
	Busy, Waiting int
	// Period is the time from one waking of a thread to its next. A gap that
	// lasts longer than it is noticed by every thread that waits.
	Period time.Duration

	t     testing.TB
	slots []slot
}

// Gaps are the longest gaps of a window.
type Gaps struct {
	// Of lists each thread's longest gap, the busy ones first.
	Of []time.Duration
	// Busy and Waiting are the longest ones of each kind.
	Busy, Waiting time.Duration
}

// Longest is the longest gap of any thread.
func (g Gaps) Longest() time.Duration { return max(g.Busy, g.Waiting) }

// wakings is how far apart, on average, any two wakings of waiting threads are,
// however many such threads there are: this finely a halt is sampled, and this
// much work the waiting is.
const wakings = 64 * time.Microsecond

// StartC starts exe, which is testdata/targets/meter.c, with this many threads,
// two at least. As many are busy as there are processors, at most half: more
// would measure how they wait for one another.
func StartC(t testing.TB, exe string, threads int) *Meter {
	busy := min(runtime.NumCPU(), threads/2)
	period := max(250*time.Microsecond, time.Duration(threads-busy)*wakings)
	return start(t, exe, busy, threads-busy, period)
}

// goWaiting is how many goroutines wake up. More would find the one thread busy
// that wakes them all.
const goWaiting = 8

// StartGo starts exe, which is testdata/targets/meter, with this many
// goroutines, ten at least. All but a few wait for ever. One processor is left to
// those that wake up: Go's scheduler would let them wait for 10 ms for one
// that is busy.
func StartGo(t testing.TB, exe string, goroutines int) *Meter {
	busy := max(1, runtime.NumCPU()-1)
	return start(t, exe, busy, goWaiting, 2*time.Millisecond, fmt.Sprint(max(goroutines, busy+goWaiting)))
}

func start(t testing.TB, exe string, busy, waiting int, period time.Duration, args ...string) *Meter {
	t.Helper()
	m := &Meter{Busy: busy, Waiting: waiting, Period: period, t: t}
	path := filepath.Join(t.TempDir(), "slots")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if m.slots, err = mapSlots(f, busy+waiting); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmapSlots(m.slots) })
	m.Target = targettest.Start(t, targettest.Command{
		Path: exe, Args: append([]string{path, fmt.Sprint(busy + waiting), fmt.Sprint(busy), fmt.Sprint(period.Nanoseconds())}, args...),
	})
	m.Target.Line("ready")
	m.settle()
	return m
}

// settle waits until every gap that there is now has ended and is recorded.
func (m *Meter) settle() {
	m.t.Helper()
	before := make([]int64, len(m.slots))
	for i := range m.slots {
		before[i] = m.slots[i].beats.Load()
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		waits := false
		for i := range m.slots {
			waits = waits || m.slots[i].beats.Load() == before[i]
		}
		if !waits {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not every thread of process %d runs", m.Target.Pid())
		}
	}
}

// window is the shortest one, so that those of short operations and of none
// compare.
const window = 20 * time.Millisecond

// During returns the gaps in the time in which op runs, and until 20 ms have
// passed since it began. Every gap that has begun before the end of op counts.
func (m *Meter) During(op func()) Gaps {
	m.t.Helper()
	for i := range m.slots {
		m.slots[i].longest.Store(0)
	}
	begun := time.Now()
	op()
	time.Sleep(window - time.Since(begun))
	m.settle()
	g := Gaps{Of: make([]time.Duration, len(m.slots))}
	for i := range m.slots {
		gap := time.Duration(m.slots[i].longest.Load())
		g.Of[i] = gap
		if i < m.Busy {
			g.Busy = max(g.Busy, gap)
		} else {
			g.Waiting = max(g.Waiting, gap)
		}
	}
	return g
}
