package goruntime

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// cycles returns how often the program's collector has run.
func (s *subject) cycles() int {
	s.t.Helper()
	n, err := strconv.Atoi(s.Get("/gc"))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *subject) period() uint64 {
	s.t.Helper()
	period, err := s.rt.word(s.rt.forcegcperiod)
	if err != nil {
		s.t.Fatal(err)
	}
	return period
}

func TestForceGCCollectsInAnIdleProgram(t *testing.T) {
	s := start(t, nil)
	before := s.cycles()
	// Its monitor has gone to sleep for a minute.
	targettest.Eventually(t, "the monitor sleeps", func() bool {
		var b [1]byte
		if err := s.p.ReadMemory(b[:], s.rt.sysmonwait); err != nil {
			t.Fatal(err)
		}
		return b[0] != 0
	})
	s.collect()
	if after := s.cycles(); after < before+forcedCycles {
		t.Errorf("%d collections before, %d after", before, after)
	}
	if got := s.period(); got != defaultPeriod {
		t.Errorf("the period is %d", got)
	}
}

func TestForceGCCollectsInABusyProgram(t *testing.T) {
	s := start(t, nil)
	s.Get("/spin")
	before := s.cycles()
	for range 5 {
		s.collect()
	}
	if after := s.cycles(); after < before+5*forcedCycles {
		t.Errorf("%d collections before, %d after", before, after)
	}
}

func TestForceGCRepairsWhatAKilledOneLeft(t *testing.T) {
	s := start(t, nil)
	if err := s.p.WriteMemory(s.rt.forcegcperiod, bytesOf(ownPeriod)); err != nil {
		t.Fatal(err)
	}
	s.collect()
	if got := s.period(); got != defaultPeriod {
		t.Errorf("the period is %d", got)
	}
}

func TestForceGCDoesNothingWhereNothingCanBeCollected(t *testing.T) {
	s := start(t, nil, "gcoff")
	before := s.cycles()
	s.collect()
	if after := s.cycles(); after != before {
		t.Errorf("%d collections before, %d after", before, after)
	}
}

func TestForceGCEndsWithItsContext(t *testing.T) {
	s := start(t, nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(context.DeadlineExceeded)
	err := s.rt.ForceGC(ctx, s.p)
	if finding.CodeOf(err) != finding.GCTimeout || !strings.Contains(err.Error(), "did not finish in time") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if got := s.period(); got != defaultPeriod {
		t.Errorf("the period is %d", got)
	}
}

func TestIdleTellsWhenTheCollectorRests(t *testing.T) {
	s := start(t, nil)
	targettest.Eventually(t, "the runtime is idle", func() (idle bool) {
		s.halt(func(h *process.Halt) (err error) {
			idle, err = s.rt.Idle(h)
			return err
		})
		return idle
	})
	s.halt(func(h *process.Halt) error {
		if err := s.p.WriteMemory(s.rt.itabLock, bytesOf(1)); err != nil {
			return err
		}
		idle, err := s.rt.Idle(h)
		if idle {
			t.Error("it is said to be idle while itabLock is held")
		}
		if undo := s.p.WriteMemory(s.rt.itabLock, bytesOf(0)); undo != nil {
			return undo
		}
		return err
	})
}
