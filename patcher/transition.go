package patcher

import (
	"errors"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/internal/fault"
	"github.com/darn-dev/darn/patcher/process"
)

// transition is one change of a patch's state. What it does is undone in
// reverse unless it commits.
type transition struct {
	e      *Engine
	op     Operation
	id     string
	reg    *registry // the registry as it will be
	undo   []func() error
	done   bool
	data   []goruntime.Block // what takeData gave
	thunks []goruntime.Write // of a load, not written yet
	used   *taken            // by a load so far, once it had to know
	// h is the halt that it is in; nil while the target runs. See reach.go.
	h *process.Halt
	// steady tells that it is in Process.Steady, in which there is no halt.
	steady bool
	// because is why it takes a halt, if so.
	because string
	// passing tells of an unload that only stubs were in use.
	passing bool
	// switches are those that it sets, in their new positions.
	switches []arena.Position
}

// transit begins a transition on a copy of the registry.
func (e *Engine) transit(op Operation, id string) *transition {
	return &transition{e: e, op: op, id: id, reg: e.reg.clone()}
}

// onUndo registers what takes back a step that was done.
func (t *transition) onUndo(f func() error) { t.undo = append(t.undo, f) }

// journal saves the old registry with the writes that are about to be made,
// so that a Darn that is killed among them leaves a record of how to go back.
// By then all memory that the transition needs is mapped. The program may run
// on, half changed, before the next Darn comes: so what it may have got hold of
// is recorded too, and is not used for anything else.
func (t *transition) journal(writes []goruntime.Write) error {
	pending := t.e.reg.clone()
	pending.Pending = &pendingTransition{Operation: t.op, Patch: t.id, Writes: writes, Switches: t.before()}
	pending.Blocks, pending.Data = t.reg.Blocks, t.reg.Data
	pending.Runtime.Retired = append(pending.Runtime.Retired, t.data...)
	if t.op == OpLoad {
		p, err := t.reg.patch(t.id)
		if err != nil {
			return err
		}
		pending.Lost = append(pending.Lost, block{Addr: p.Base, Size: p.Size})
	}
	if err := pending.save(t.e.arena); err != nil {
		return err
	}
	t.onUndo(func() error { return t.e.reg.save(t.e.arena) })
	return nil
}

// before returns the switches in the positions that they have before the
// transition.
func (t *transition) before() []arena.Position {
	before := slices.Clone(t.switches)
	for i := range before {
		before[i].On = !before[i].On
	}
	return before
}

// apply makes the writes, in order. Each is made only where the bytes that are
// there are the bytes expected. Without a halt each is one store, and the
// language's runtime may want an instant between two.
func (t *transition) apply(writes []goruntime.Write) error {
	for _, w := range writes {
		if len(w.Old) == 0 {
			// Memory of Darn's own that nobody reads yet. It keeps what is written if the
			// transition is undone: somebody may be reading it by then.
			if err := t.e.p.WriteMemory(w.Addr, w.New); err != nil {
				return err
			}
			continue
		}
		// In a program that is stopped, or about to be, there is no such instant: that
		// is better known before.
		if err := t.settle(w); err != nil {
			return err
		}
		if err := t.WriteText(w.Addr, w.Old, w.New); err != nil {
			return err
		}
		fault.Point()
		t.onUndo(func() error {
			if err := t.settle(w); finding.CodeOf(err) == finding.GCTimeout {
				return nil // it may stay: Register knows it again
			} else if err != nil {
				return err
			}
			return t.WriteText(w.Addr, w.New, w.Old)
		})
		if err := t.settle(w); err != nil {
			return err
		}
	}
	return nil
}

// commit makes the new registry the valid one.
func (t *transition) commit() error {
	if err := t.reg.save(t.e.arena); err != nil {
		return err
	}
	t.e.reg = t.reg
	t.done = true
	return nil
}

// rollback undoes every step in reverse, unless the transition has committed.
// It returns err, with what could not be undone: then the steps before that
// stay done, as the program may still need them (memory that it still refers
// to), and so does the journal; the engine does nothing more.
func (t *transition) rollback(err error) error { return t.rollbackTo(0, err) }

// rollbackTo is rollback of the steps that were registered since there were that
// many.
func (t *transition) rollbackTo(mark int, err error) error {
	if t.done {
		return err
	}
	undo := slices.Clone(t.undo[mark:])
	t.undo = t.undo[:mark]
	for _, step := range slices.Backward(undo) {
		uerr := step()
		if uerr == nil {
			continue
		}
		if finding.CodeOf(uerr) == finding.TargetExited {
			return uerr
		}
		uerr = fmt.Errorf("undoing %s of patch %s: %w", t.op, t.id, uerr)
		t.e.failed = finding.Refuse(finding.UnsupportedTarget,
			"the process is in no known state: "+uerr.Error(),
			"detach and attach again: what is left is then rolled back")
		return errors.Join(err, uerr)
	}
	return err
}
