package patcher

import (
	"context"
	"errors"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/resident"
)

// A transition reaches into the target by the halt that it is in, if it is in one,
// and otherwise by the resident thread. If that has ended meanwhile, what was
// asked of it was not done, and a halt does it: a transition that was begun is
// completed, or undone, in any case.

// residentGone is why there is a halt in what was begun without one.
const residentGone = "the resident thread has ended meanwhile"

// Syscall implements process.Caller.
func (t *transition) Syscall(nr uintptr, args ...uint64) (result uint64, err error) {
	if t.h != nil {
		return t.h.Syscall(nr, args...)
	}
	if r := t.e.resident; r != nil {
		if result, err = r.Syscall(nr, args...); !errors.Is(err, resident.ErrGone) || t.steady {
			return result, err
		}
	}
	err = t.e.p.HaltFor(context.Background(), residentGone, func(h *process.Halt) (err error) {
		result, err = h.Syscall(nr, args...)
		return err
	})
	return result, err
}

// WriteText changes old at an address to new if it is there. Without a halt it is
// one store, or fails with resident.ErrStore if it can't be.
func (t *transition) WriteText(addr uint64, old, new []byte) error {
	if t.h != nil {
		return t.h.WriteText(addr, old, new)
	}
	if r := t.e.resident; r != nil {
		if err := r.Store(addr, old, new); !errors.Is(err, resident.ErrGone) || t.steady {
			return err
		}
	}
	return t.e.p.HaltFor(context.Background(), residentGone, func(h *process.Halt) error { return h.WriteText(addr, old, new) })
}

// settle returns when, after a write without a halt, the next one may be made.
func (t *transition) settle(w goruntime.Write) error {
	if t.h != nil {
		return nil
	}
	return t.e.lang.Settle(w)
}

// ForOneOperation is an option of Open for a caller that does one thing and closes
// the Engine: the resident thread is made only where that one can use it.
func ForOneOperation() func(*Engine) { return func(e *Engine) { e.once = true } }

// WithoutResident is an option of Open: no thread of Darn's is made in the target.
// What one would do is done under halts.
func WithoutResident() func(*Engine) {
	return func(e *Engine) { e.alone = "the resident thread is forbidden" }
}

// station makes the resident thread under a halt that is made anyway, unless there
// is one. Where it can't be made everything goes on under halts, and receipts say
// why.
func (e *Engine) station(h *process.Halt) {
	if e.alone != "" || e.arena == nil || e.resident != nil && e.resident.Fit() {
		return
	}
	if e.dismiss() != nil {
		return
	}
	r, err := resident.Start(h, e.arena)
	if err == nil {
		e.resident, e.unstationed = r, ""
		return
	}
	e.unstationed = "the resident thread can't be made: " + err.Error()
	if !errors.Is(err, resident.ErrOccupied) && finding.CodeOf(err) != finding.TargetExited {
		e.alone = e.unstationed // it won't be different next time
	}
}

// dismiss ends the resident thread. On an error it is still in the arena.
func (e *Engine) dismiss() error {
	if e.resident == nil {
		return nil
	}
	if err := e.resident.End(); err != nil {
		return err
	}
	e.resident = nil
	return nil
}

// needsHalt says why an operation can't do without a halt, "" if it can.
func (e *Engine) needsHalt() string {
	switch {
	case e.alone != "":
		return e.alone
	case e.resident != nil && e.resident.Fit():
		return ""
	case e.unstationed != "":
		return e.unstationed
	}
	return "there is no resident thread yet"
}
