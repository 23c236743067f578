package goruntime

import (
	"context"
	"fmt"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

const (
	// ownPeriod is what ForceGC puts into runtime.forcegcperiod, in
	// nanoseconds: a number that nobody else has there, so that one which was
	// left behind by a Darn that was killed is known.
	ownPeriod = 1_000_003
	// defaultPeriod is what the runtime starts with (proc.go).
	defaultPeriod = 2 * 60 * 1e9
	// forcedCycles: the first may be under way already, and what a sync.Pool
	// holds goes in the second to come.
	forcedCycles = 3
	// sweepDrained is the bit that says so (mgcsweep.go, sweepDrainedMask).
	sweepDrained = 1 << 31
)

// ForceGC makes the collector of a running target run until what was garbage
// when ForceGC was called is known to be. It does so by lowering the time
// after which the runtime collects by itself (runtime.forcegcperiod), and
// restores that in any case. It must not be called under a halt; it may halt
// the target for an instant, to wake the runtime's monitor from a deep sleep.
//
// In a target that is stopped, or that has turned its collector off, nothing
// can be collected: there it does nothing. It is refused with gc-timeout if
// ctx ends first.
func (r *Runtime) ForceGC(ctx context.Context, p *process.Process) (err error) {
	percent, err := r.word32(r.gcPercent)
	if err != nil || int32(percent) < 0 {
		return err
	}
	start, err := r.word32(r.numgc)
	if err != nil {
		return err
	}
	period, err := r.word(r.forcegcperiod)
	if err != nil {
		return err
	}
	if period == ownPeriod {
		period = defaultPeriod
	}
	if err := r.mem.WriteMemory(r.forcegcperiod, bytesOf(ownPeriod)); err != nil {
		return err
	}
	defer func() {
		if restored := r.mem.WriteMemory(r.forcegcperiod, bytesOf(period)); err == nil {
			err = restored
		}
	}()
	// gcTrigger.test does not collect by time before the first collection.
	if last, err := r.word(r.lastGC); err != nil {
		return err
	} else if last == 0 {
		if err := r.mem.WriteMemory(r.lastGC, bytesOf(1)); err != nil {
			return err
		}
	}
	// The first look comes soon: an idle target needs waking, a stopped one
	// must be known.
	last, since := start, time.Now().Add(-stuck+20*time.Millisecond)
	for tick := time.Millisecond; ; tick = min(2*tick, 20*time.Millisecond) {
		n, err := r.word32(r.numgc)
		if err != nil {
			return err
		}
		if n-start >= forcedCycles {
			break
		}
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) >= stuck {
			running, err := r.wakeMonitor(ctx, p)
			if err != nil || !running {
				return err
			}
			since = time.Now()
		}
		if err := wait(ctx, tick); err != nil {
			return err
		}
	}
	if err := r.mem.WriteMemory(r.forcegcperiod, bytesOf(period)); err != nil {
		return err
	}
	for tick := time.Millisecond; ; tick = min(2*tick, 20*time.Millisecond) {
		sweep, err := r.word32(r.sweepState)
		if err != nil {
			return err
		}
		phase, err := r.word32(r.gcphase)
		if err != nil || phase == 0 && sweep == sweepDrained {
			return err
		}
		if err := wait(ctx, tick); err != nil {
			return err
		}
	}
}

// stuck is after what time without a collection the monitor is looked after.
const stuck = 200 * time.Millisecond

// wait lets the target run for a while.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return finding.Refuse(finding.GCTimeout,
			fmt.Sprintf("the program's garbage collector did not finish in time: %v", context.Cause(ctx)), "try again")
	case <-time.After(d):
		return nil
	}
}

// wakeMonitor wakes sysmon, which starts collections, if it sleeps because the
// program is idle: up to a minute, or until a system call returns. It does
// what exitsyscall does under sched.lock (notewakeup). running is false if the
// target was stopped anyway. The sleeper looks at the
// note again when it is resumed from the halt, since that has interrupted its
// futex.
func (r *Runtime) wakeMonitor(ctx context.Context, p *process.Process) (running bool, err error) {
	err = p.HaltFor(ctx, "a thread of the runtime has to be woken", func(h *process.Halt) error {
		running = h.WasRunning()
		var asleep [1]byte
		if err := r.mem.ReadMemory(asleep[:], r.sysmonwait); err != nil || !running || asleep[0] == 0 {
			return err
		}
		lock, err := r.word(r.schedLock)
		if err != nil || lock != 0 {
			return err
		}
		note, err := r.word(r.sysmonnote)
		if err != nil || note != 0 {
			return err
		}
		if err := r.mem.WriteMemory(r.sysmonwait, []byte{0}); err != nil {
			return err
		}
		return r.mem.WriteMemory(r.sysmonnote, bytesOf(1))
	})
	return running, err
}
