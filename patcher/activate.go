package patcher

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// Activate switches the patch on: from then on calls of its functions run the
// new code, in all threads from the same instant. What the patch brings is
// initialised before, the first time, by a goroutine of the target's that
// nobody waits for but Activate: meanwhile, and if that fails, calls run the old
// code. The first time the entries are redirected, each by one store while the
// target runs where the encodings of all allow it, else under a halt. After that,
// and if no function of the patch needs a direct redirect, it is one store.
//
// With Replace the other active patches are switched off at the same instant:
// no call runs neither the one nor the other. That too is one store without a
// halt if their switches lie in one word and callers ask them before this
// patch's own, and is done under a halt otherwise.
//
// With the consistency Quiescent it waits for an instant at which nobody is in
// the code that the patch replaces: the target is halted for a look again and
// again, with growing pauses, and the patch is activated in the halt that shows
// it. Other operations go on between the looks; Deactivate ends the wait. If
// the target's user has stopped it there is one look only.
//
// It may be called whether the target runs or is stopped. Refused with
// not-loaded, wrong-state, in-use (a goroutine stays in bytes that have to
// change), quiescence-timeout (with a finding for each call that holds it up),
// init-timeout (the initialisation goes on), init-failed (it panicked),
// breakpoint-at-entry (the debugger has one in them), text-mismatch,
// target-exited or busy. An error after ctx has ended is not always a Refusal.
func (e *Engine) Activate(ctx context.Context, id string, opts ActivateOptions) (*Patch, *Receipt, error) {
	if err := opts.check(); err != nil {
		return nil, nil, err
	}
	return e.newWait(id, opts).Activate(ctx)
}

// check refuses a consistency that there is not.
func (o *ActivateOptions) check() error {
	switch o.Consistency {
	case "", Immediate, Quiescent:
		return nil
	}
	return finding.Refuse(finding.WrongState,
		fmt.Sprintf("there is no consistency %q", o.Consistency), fmt.Sprintf("use %s or %s", Immediate, Quiescent))
}

// Deactivate switches the patch off: from then on calls of its functions run
// what they ran before it. Calls that are in the new code finish there. It
// needs no halt unless a function of the patch has a direct redirect, or a straight
// entry that can't be led to the stub without one (straight.go). For a
// patch that is pending it ends the wait: the activation that waits is refused
// with wrong-state.
//
// It may be called whether the target runs or is stopped. Refused with
// not-loaded, wrong-state, in-use, breakpoint-at-entry, text-mismatch,
// target-exited or busy.
func (e *Engine) Deactivate(ctx context.Context, id string) (*Patch, *Receipt, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	start, halts := time.Now(), e.p.Measure()
	defer halts()
	p, err := e.reg.patch(id)
	if err != nil {
		return nil, nil, err
	}
	if _, err := e.state(p).next(OpDeactivate, id); err != nil {
		return nil, nil, err
	}
	w := e.waits[id]
	if w == nil {
		if err := e.bend(ctx, OpDeactivate, id, false); err != nil {
			return nil, nil, err
		}
	}
	s, err := e.switching(OpDeactivate, id, false)
	if err != nil {
		return nil, nil, err
	}
	if w != nil {
		w.cancel()
	} else if err := s.carryOut(ctx); err != nil {
		return nil, nil, err
	}
	patch, r := s.outcome(start, halts())
	return patch, r, nil
}

// switching is a transition that switches a patch on or off, and others off
// with it.
type switching struct {
	*transition
	on, was bool // whether the patch is to be active, and is
	leading bool // no switch is set: the entries are made to lead to the patch
	// rerouting tells that no switch is set and no call goes elsewhere for it: see
	// straight.go.
	rerouting bool
	off       []string // the other patches that are switched off
	entries   []entryChange
	links     []goruntime.Write // in stubs and pads
}

// switching begins an operation on the patch with an id, if it is legal.
func (e *Engine) switching(op Operation, id string, replace bool) (*switching, error) {
	p, err := e.reg.patch(id)
	if err != nil {
		return nil, err
	}
	to, err := e.legal(op, p, replace)
	if err != nil {
		return nil, err
	}
	s := &switching{transition: e.transit(op, id), on: to == Active, was: e.state(p) == Active}
	if s.on != s.was {
		s.switches = []arena.Position{{Switch: p.Switch, On: s.on}}
	}
	for _, q := range e.reg.Patches {
		if replace && q.ID != id && e.state(q) == Active {
			s.off = append(s.off, q.ID)
			s.switches = append(s.switches, arena.Position{Switch: q.Switch})
		}
	}
	if err := s.plan(); err != nil {
		return nil, err
	}
	return s, nil
}

// legal returns the state that an operation leads p to. To activate an active
// patch is legal if that replaces others.
func (e *Engine) legal(op Operation, p *patchRecord, replace bool) (State, error) {
	to := e.state(p)
	others := slices.ContainsFunc(e.reg.Patches, func(q *patchRecord) bool { return q != p && e.state(q) == Active })
	if op != OpActivate || !replace || to != Active || !others {
		var err error
		if to, err = to.next(op, p.ID); err != nil {
			return "", err
		}
	}
	return to, e.alive()
}

// patch returns the record of the patch that is toggled, as it will be.
func (s *switching) patch() *patchRecord {
	p, _ := s.reg.patch(s.id)
	return p
}

// will tells whether p is to be active in the end.
func (s *switching) will(p *patchRecord) bool {
	if p.ID == s.id {
		return s.on
	}
	return s.e.state(p) == Active && !slices.Contains(s.off, p.ID)
}

// changed returns the patches that are switched.
func (s *switching) changed() []*patchRecord {
	return slices.DeleteFunc(slices.Clone(s.reg.Patches), func(p *patchRecord) bool {
		return p.ID != s.id && !slices.Contains(s.off, p.ID)
	})
}

// carryOut sets the switches, after or with the writes to entries that the new
// state needs.
func (s *switching) carryOut(ctx context.Context) error {
	if s.isOneStore() {
		return s.store()
	}
	if done, err := s.withoutHalt(ctx); done || err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return s.rollback(err)
	}
	err := s.e.haltUntil(ctx, s.because, manyTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		return s.try(h, false)
	})
	if err != nil {
		return s.rollback(err)
	}
	return nil
}

// prepare does what is to be done before the halt that rewrites entries.
func (s *switching) prepare() error {
	if len(s.entries)+len(s.links) > 0 {
		if err := s.e.notForked(s.op, s.id); err != nil {
			return err
		}
	}
	s.e.lang.Prepare()
	if s.rerouting {
		return nil
	}
	return s.stubs(s.patch())
}

// store sets the switches: no halt, nothing to journal.
func (s *switching) store() error {
	if err := s.e.arena.SetSwitches(s.switches...); err != nil {
		return err
	}
	if s.e.reg.led(s.id) != s.reg.led(s.id) {
		if err := s.commit(); err != nil {
			return err
		}
	}
	s.e.reg.uncount(s.changed(), nil)
	return s.unmark()
}

// unmark lets go of the goroutines that initialising has started, after the
// switch is set: from then on they go where all do.
func (s *switching) unmark() error {
	for _, p := range s.changed() {
		if p.Init == nil || s.leading {
			continue
		}
		if err := s.e.p.WriteMemory(p.Init.State+module.InitMark, binary.LittleEndian.AppendUint64(nil, module.InitNobody)); err != nil {
			return err
		}
	}
	return nil
}

// isOneStore tells whether nothing but switches in one word have to change, so
// that a store of it does that at one instant for every caller. A caller reads
// one switch after the other on its way down the stubs. If it has found this
// patch's switch off just before the store, and then finds the one below off
// just after it, it runs neither patch: so none below may be switched off with
// it.
func (s *switching) isOneStore() bool {
	if len(s.entries)+len(s.links) > 0 || !s.e.arena.Together(s.switches...) {
		return false
	}
	if s.was {
		return true // who asks it finds it on
	}
	for _, f := range s.patch().Functions {
		for _, below := range s.reg.redirect(f.Entry).Stack {
			if below == s.id {
				break
			}
			if slices.Contains(s.off, below) {
				return false
			}
		}
	}
	return true
}

// try makes the change under a halt, unless somebody is where nobody may be;
// if it is to be quiet, also unless somebody is in the code that is replaced.
func (s *switching) try(h *process.Halt, quiet bool) (retry *finding.Refusal, err error) {
	if len(s.entries) > 0 {
		if retry = s.e.forked(s.op, s.id); retry != nil {
			return retry, nil
		}
	}
	if err := s.e.checkBreakpoints(h, s.entries); err != nil {
		return nil, err
	}
	retry, held, err := s.look(h)
	if retry == nil && quiet && len(held) > 0 {
		retry = s.e.heldUp(s.id, held)
	}
	if retry != nil || err != nil {
		return retry, err
	}
	s.h = h
	defer func() { s.h = nil }()
	if err := s.rewrite(nil); err != nil {
		return nil, s.rollback(err)
	}
	return nil, nil
}

// rewrite makes the writes of a toggle, sets the switches and commits. In
// between check, if not nil, may object. On an error the transition is to be rolled
// back.
func (s *switching) rewrite(check func(writes []goruntime.Write) error) (err error) {
	writes := slices.Clone(s.links)
	for _, c := range s.entries {
		writes = append(writes, goruntime.Write{Addr: c.redirect.at(), Old: c.redirect.Now, New: c.want})
	}
	if err := s.journal(writes); err != nil {
		return err
	}
	if err := s.apply(writes); err != nil {
		return err
	}
	if check != nil {
		if err := check(writes); err != nil {
			return err
		}
	}
	for _, c := range s.entries {
		c.redirect.Now = c.want
	}
	if s.rerouting {
		return s.commit()
	}
	before := s.before()
	if err := s.e.arena.SetSwitches(s.switches...); err != nil {
		return err
	}
	s.onUndo(func() error { return s.e.arena.SetSwitches(before...) })
	var counted *patchRecord
	if s.on && s.h != nil {
		counted = s.patch()
	}
	s.reg.uncount(s.changed(), counted)
	if err := s.commit(); err != nil {
		return err
	}
	return s.unmark()
}

// outcome describes the patch after the operation begun at start.
func (s *switching) outcome(start time.Time, halts process.HaltStats) (*Patch, *Receipt) {
	p, _ := s.e.reg.patch(s.id)
	r := newReceipt(s.op, start, halts)
	r.Encodings = map[string]int{}
	for _, f := range p.Functions {
		r.Encodings[string(f.Encoding)]++
	}
	r.Replaced = s.off
	return s.e.describe(p), r
}
