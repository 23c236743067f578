package patcher

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// A patch that brings what has to be initialised is initialised when it is first
// activated, before its switch is set: a goroutine of the program's runs the
// code for that, while calls go on in the old code. So nobody waits for it, and
// the first call that runs new code finds all of it initialised.
//
// The code that initialises, and the goroutines that it starts, do run the new
// code: for that the entries are redirected first, and the stubs know these
// goroutines.

// InitPhase says how far what a patch brings is initialised.
type InitPhase string

// The phases of an initialisation.
const (
	InitPending InitPhase = "pending" // the patch was not activated yet
	InitRunning InitPhase = "running"
	InitDone    InitPhase = "done"
	InitFailed  InitPhase = "failed" // and never will be: the patch can't be activated
)

// Initialisation is that of what a patch brings: packages and variables that are
// new to the program.
type Initialisation struct {
	Phase InitPhase `json:"phase"`
	Why   string    `json:"why,omitempty"` // it failed
}

// String is an addition to a patch's state, "" if there is nothing to say.
func (i *Initialisation) String() string {
	switch {
	case i == nil:
		return ""
	case i.Phase == InitRunning:
		return ", what it brings is being initialised"
	case i.Phase == InitFailed:
		return ", what it brings could not be initialised: " + i.Why
	}
	return ""
}

// initRecord is where in the target a patch's initialisation is: see
// module.Initialisation.
type initRecord struct {
	Start uint64 `json:"start"`
	State uint64 `json:"state"`
}

// initialisation reads the state of p's initialisation, nil if it has none.
func (e *Engine) initialisation(p *patchRecord) (*Initialisation, error) {
	if p.Init == nil {
		return nil, nil
	}
	state := make([]byte, module.InitStateSize)
	if err := e.p.ReadMemory(state, p.Init.State); err != nil {
		return nil, err
	}
	phases := []InitPhase{module.InitNot: InitPending, module.InitUnderWay: InitRunning, module.InitDone: InitDone, module.InitFailed: InitFailed}
	n := binary.LittleEndian.Uint32(state[module.InitPhase:])
	if int(n) >= len(phases) {
		return nil, fmt.Errorf("patch %s: the state of its initialisation is %d", p.ID, n)
	}
	i := &Initialisation{Phase: phases[n]}
	if i.Phase == InitFailed {
		why, _, _ := bytes.Cut(state[module.InitWhy:], []byte{0})
		i.Why = string(why)
	}
	return i, nil
}

// initialise sees to the initialisation of p, and returns why p can't be
// activated yet. It is refused with init-failed if it never can be.
func (e *Engine) initialise(ctx context.Context, p *patchRecord) (notYet *finding.Refusal, err error) {
	i, err := e.initialisation(p)
	if i == nil || err != nil || i.Phase == InitDone {
		return nil, err
	}
	if i.Phase == InitFailed {
		return nil, finding.Refuse(finding.InitFailed,
			fmt.Sprintf("patch %s can't be activated: what it brings could not be initialised: %s", p.ID, i.Why),
			"unload it and build a patch that makes such values at their first use, with sync.OnceValue")
	}
	if i.Phase == InitPending {
		rt, ok := e.lang.(initialiser)
		if !ok {
			return nil, damaged("patch %s is to be initialised, which this program can't do", p.ID)
		}
		if err := e.leadAll(ctx, p); err != nil {
			return nil, err
		}
		hooked, err := rt.Hooked()
		if err != nil {
			return nil, err
		}
		// Each gives back what it found: two that found each other would for ever.
		switch {
		case hooked == p.Init.Start:
		case slices.ContainsFunc(e.reg.Patches, func(q *patchRecord) bool { return q.Init != nil && q.Init.Start == hooked }):
		default:
			err = rt.Hook(p.Init.Start, p.Init.State+module.InitHook)
		}
		if err == nil {
			err = rt.CallHook(ctx, e.p)
		}
		if err != nil {
			return nil, err
		}
		if hooked != p.Init.Start && e.initialisesSoon(ctx, p) {
			return e.initialise(ctx, p)
		}
	}
	return finding.Refuse(finding.InitTimeout,
		fmt.Sprintf("patch %s can't be activated yet: what it brings is being initialised", p.ID),
		"calls run the old code meanwhile, and nothing waits for it but this; if the program is stopped continue it; try again later"), nil
}

// unhook sees to it that the initialisation of patches does not begin any more
// without somebody who waits for it. One that has begun goes on.
func (e *Engine) unhook(patches ...*patchRecord) error {
	for _, p := range patches {
		rt, ok := e.lang.(initialiser)
		if p.Init == nil || !ok {
			continue
		}
		if err := rt.Unhook(p.Init.Start, p.Init.State+module.InitHook); err != nil {
			return err
		}
	}
	return nil
}

// initialisesSoon waits for the end of an initialisation for as long as one
// takes as a rule, and tells whether it has come.
func (e *Engine) initialisesSoon(ctx context.Context, p *patchRecord) bool {
	for tick := time.Millisecond; tick < 64*time.Millisecond; tick *= 2 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(tick):
		}
		if i, err := e.initialisation(p); err != nil || i.Phase == InitDone || i.Phase == InitFailed {
			return true
		}
	}
	return false
}

// leadAll leads to the stubs of all that is initialised with p: what p requires
// and is not yet, in the order of loading, and p.
func (e *Engine) leadAll(ctx context.Context, p *patchRecord) error {
	needed := map[string]bool{p.Module: true}
	var lead []string
	for _, q := range slices.Backward(e.reg.Patches) {
		if !needed[q.Module] {
			continue
		}
		for _, module := range q.Requires {
			needed[module] = true
		}
		if i, err := e.initialisation(q); err != nil {
			return err
		} else if i != nil && i.Phase == InitPending {
			lead = append(lead, q.ID)
		}
	}
	for _, id := range slices.Backward(lead) {
		if err := e.lead(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// lead makes the entries of a patch's functions lead to its stubs, which it
// leaves switched off.
func (e *Engine) lead(ctx context.Context, id string) error {
	s := &switching{transition: e.transit(OpActivate, id), leading: true}
	if err := s.plan(); err != nil || len(s.entries) == 0 {
		return err
	}
	return s.carryOut(ctx)
}
