package patcher

import (
	"context"
	"time"
)

// List returns the patches in the process with their states, in the order of
// their loading, and counts anew how many frames are in the code that active
// patches replace: so one can watch it fall to zero. For that a running target
// is halted briefly, but only while there is something to watch: an active
// patch for which that was not zero when it was last counted, or was never
// counted. While the target can't be halted, or when it has ended, List returns
// what was last known. The target may run or be stopped. Refused with busy.
func (e *Engine) List(ctx context.Context) (*Listing, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	start, halts := time.Now(), e.p.Measure()
	e.recount(ctx)
	l, stats := e.listing(), halts()
	if stats.Halts > 0 {
		l.Receipt = newReceipt(OpList, start, stats)
	}
	return l, nil
}

// Known returns what List does, as far as it was last known: the target is not
// touched. Refused with busy.
func (e *Engine) Known(ctx context.Context) (*Listing, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return e.listing(), nil
}

func (e *Engine) listing() *Listing {
	l := &Listing{
		Patches: []Patch{},
		Target:  e.lang.describe(),
	}
	for _, p := range e.reg.Patches {
		l.Patches = append(l.Patches, *e.describe(p))
	}
	return l
}

// describe makes a Patch of a record.
func (e *Engine) describe(p *patchRecord) *Patch {
	d := &Patch{ID: p.ID, Name: p.Name, Path: p.Path, Module: p.Module, State: e.state(p), Findings: p.Findings}
	// The target may have ended.
	d.Initialisation, _ = e.initialisation(p)
	for _, f := range p.Functions {
		frames := 0
		switch d.State {
		case Active:
			frames = f.OldFrames
		case Pending:
			frames = e.waits[p.ID].frames[f.Entry]
		}
		d.Functions = append(d.Functions, Function{
			Name:            f.Symbol,
			Address:         f.Entry,
			NewAddress:      f.New,
			Source:          f.Source,
			Encoding:        f.Encoding,
			EncodingReason:  e.reg.redirect(f.Entry).Why,
			Straight:        e.isStraight(e.reg.redirect(f.Entry)),
			FramesInOldCode: frames,
		})
	}
	return d
}

// state returns the state of p. The switch is the truth: it is in the
// target, and a Darn killed between a store and its record can't lie.
func (e *Engine) state(p *patchRecord) State {
	switch {
	case e.arena.Switch(p.Switch):
		return Active
	case e.waits[p.ID] != nil:
		return Pending
	}
	return Loaded
}
