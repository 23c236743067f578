package patcher

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
)

// transition is one change of a patch's state. What it does is undone in
// reverse unless it commits.
type transition struct {
	e    *Engine
	op   Operation
	id   string
	reg  *registry // the registry as it will be
	undo []func() error
	done bool
}

// transit begins a transition on a copy of the registry.
func (e *Engine) transit(op Operation, id string) *transition {
	return &transition{e: e, op: op, id: id, reg: e.reg.clone()}
}

// onUndo registers what takes back a step that was done.
func (t *transition) onUndo(f func() error) { t.undo = append(t.undo, f) }

// journal saves the old registry with the writes that are about to be made,
// so that a Darn that is killed among them leaves a record of how to go back.
func (t *transition) journal(writes []goruntime.Write) error {
	pending := t.e.reg.clone()
	pending.Pending = &pendingTransition{Operation: t.op, Patch: t.id, Writes: writes}
	if err := pending.save(t.e.arena); err != nil {
		return err
	}
	t.onUndo(func() error { return t.e.reg.save(t.e.arena) })
	return nil
}

// apply makes the writes, in order, while the target is halted. Each is made
// only where the bytes that are there are the bytes expected.
func (t *transition) apply(h *process.Halt, writes []goruntime.Write) error {
	for _, w := range writes {
		if len(w.Old) == 0 { // memory of Darn's own that nobody reads yet
			if err := t.e.p.WriteMemory(w.Addr, w.New); err != nil {
				return err
			}
			continue
		}
		if err := h.WriteText(w.Addr, w.Old, w.New); err != nil {
			return err
		}
		t.onUndo(func() error { return h.WriteText(w.Addr, w.New, w.Old) })
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
// It returns err, with what could not be undone.
func (t *transition) rollback(err error) error {
	if t.done {
		return err
	}
	for i := len(t.undo) - 1; i >= 0; i-- {
		if uerr := t.undo[i](); uerr != nil {
			err = errors.Join(err, fmt.Errorf("undoing %s of patch %s: %w", t.op, t.id, uerr))
		}
	}
	t.undo = nil
	return err
}

// rollbackPending undoes what a killed Darn left half done: of each write of
// its journal that was made the old bytes are put back, last one first.
func rollbackPending(h *process.Halt, p *pendingTransition) error {
	for i := len(p.Writes) - 1; i >= 0; i-- {
		w := p.Writes[i]
		if len(w.Old) == 0 {
			continue
		}
		now := make([]byte, len(w.New))
		if err := h.ReadText(now, w.Addr); err != nil {
			return err
		}
		switch {
		case bytes.Equal(now, w.Old):
		case bytes.Equal(now, w.New):
			if err := h.WriteText(w.Addr, w.New, w.Old); err != nil {
				return err
			}
		default:
			return finding.Refuse(finding.TextMismatch,
				fmt.Sprintf("an interrupted %s of patch %s can't be rolled back: at %#x stand % x, neither the old bytes % x nor the new % x",
					p.Operation, p.Patch, w.Addr, now, w.Old, w.New),
				"something else writes into this process; restart it to patch it")
		}
	}
	return nil
}
