package patcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/resident"
)

// takeOver goes on with what an earlier Darn left in the target. A transition
// that it left half done is rolled back; an arena in which nothing is left is
// given back.
func (e *Engine) takeOver() error {
	if e.spare {
		return nil
	}
	a, err := e.arena, error(nil)
	if a == nil { // else Attach has opened it
		if a, err = arena.Open(e.p); errors.Is(err, arena.ErrNone) {
			return nil
		}
		if err != nil {
			return err
		}
		e.arena = a
		if err := resident.Evict(e.p, a); err != nil {
			e.unstationed = err.Error()
		}
	}
	data, err := a.Load()
	if err != nil {
		return err
	}
	if data != nil { // else nothing was done but to make the arena
		if e.reg, err = parseRegistry(data); err != nil {
			return err
		}
		if err := e.checkPlaces(); err != nil {
			return err
		}
	}
	// What is half done was half done in one process only: which, nobody knows.
	if e.reg.Pending != nil {
		if len(e.reg.Pending.Writes) > 0 {
			if err := e.notForked(e.reg.Pending.Operation, e.reg.Pending.Patch); err != nil {
				return err
			}
		}
		ctx := context.Background()
		err := e.haltUntil(ctx, "what an earlier Darn left half done is undone", manyTries, func(h *process.Halt) (*finding.Refusal, error) { return e.rollbackPending(h) })
		if err != nil {
			return err
		}
	}
	if !e.reg.empty() {
		if err := e.checkMemory(); err != nil {
			return err
		}
		if err := e.claim(); err != nil {
			return err
		}
		return e.unhook(e.reg.Patches...) // who waited is gone
	}
	if e.dismiss() != nil || resident.Evict(e.p, a) != nil || e.p.CheckSystemCalls() != nil {
		return nil // its memory is given back by the next Darn, if the program allows it
	}
	err = e.p.HaltFor(context.Background(), "what an earlier Darn left is taken away", a.Release)
	if err == nil {
		e.arena, e.reg = nil, &registry{Version: registryVersion, Sequence: e.reg.Sequence}
	}
	return err
}

// rollbackPending undoes under a halt what a killed Darn left half done: of
// each write of its journal that was made the old bytes are put back, the last
// one first. The program may have run since, and got hold of what was written:
// the registry knows what of that must not be used again. It returns a reason
// to try again if the writes can't be made at this instant.
func (e *Engine) rollbackPending(h *process.Halt) (retry *finding.Refusal, err error) {
	pending := e.reg.Pending
	if pending.Operation != OpActivate && pending.Operation != OpDeactivate {
		if retry, err = e.quiet(h); retry != nil || err != nil {
			return retry, err
		}
	}
	if retry, err = e.checkJumps(h, pending.Writes); retry != nil || err != nil {
		return retry, err
	}
	for _, w := range slices.Backward(pending.Writes) {
		if len(w.Old) == 0 {
			continue
		}
		now := make([]byte, len(w.New))
		if err := h.ReadText(now, w.Addr); err != nil {
			return nil, err
		}
		switch {
		case bytes.Equal(now, w.Old):
		case bytes.Equal(now, w.New):
			if err := h.WriteText(w.Addr, w.New, w.Old); err != nil {
				return nil, err
			}
		default:
			return nil, finding.Refuse(finding.TextMismatch,
				fmt.Sprintf("an interrupted %s of patch %s can't be rolled back: at %#x stand % x, neither the old bytes % x nor the new % x",
					pending.Operation, pending.Patch, w.Addr, now, w.Old, w.New),
				"something else writes into this process; restart it to patch it")
		}
	}
	h.ClearCaches()
	if err := e.arena.SetSwitches(pending.Switches...); err != nil {
		return nil, err
	}
	e.reg.Pending = nil
	return nil, e.reg.save(e.arena)
}

// checkJumps returns a reason to try again if a thread or goroutine is in the
// middle of bytes that a jump is put back over.
func (e *Engine) checkJumps(h *process.Halt, writes []goruntime.Write) (retry *finding.Refusal, err error) {
	var spans []goruntime.Range
	for _, w := range writes {
		i := slices.IndexFunc(e.reg.Redirects, func(d *redirectRecord) bool { return d.at() == w.Addr })
		if i < 0 {
			continue
		}
		if d := e.reg.Redirects[i]; !d.Single && bytes.Equal(w.New, d.Old) {
			spans = append(spans, d.inside())
		}
	}
	if len(spans) == 0 {
		return nil, nil
	}
	holders, err := e.lang.Positions(h, spans...)
	if err != nil || len(holders) == 0 {
		return nil, err
	}
	return midEntry(holders[0]), nil
}

// claim marks what the registry says is taken as taken in the arena.
func (e *Engine) claim() error {
	for _, b := range slices.Concat(e.reg.Blocks, e.reg.Data, e.reg.Lost) {
		claim := func() error { return e.arena.Claim(b.Addr, b.Size) }
		if b.Home != 0 {
			claim = func() error { return e.arena.ClaimOutside(arena.Outpost(b)) }
		}
		if err := claim(); err != nil {
			return damaged("%v", err)
		}
	}
	for _, p := range e.reg.Patches {
		if err := e.arena.Claim(p.Base, p.Size); err != nil {
			return damaged("%v", err)
		}
		if err := e.arena.ClaimSwitch(p.Switch); err != nil {
			return damaged("%v", err)
		}
		for _, f := range p.Functions {
			f.OldFrames = notCounted // much may have returned since
		}
	}
	return nil
}
