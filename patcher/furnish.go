package patcher

import (
	"context"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// Furnish makes the arena and the resident thread for a first load, so that it need
// not halt the target. It does so only if the target stands still anyway, and is to
// be called when it does; what it can't do now the load does. What was made and not
// used is taken away by Close. done tells that there is nothing left to do for it.
// Refused with busy.
func (e *Engine) Furnish(ctx context.Context) (done bool, err error) {
	end, err := e.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	if e.alone != "" || e.resident != nil && e.resident.Fit() {
		return true, nil
	}
	a := e.arena
	if a == nil {
		if a, err = e.lang.planArena(nil); err != nil {
			return false, err
		}
	}
	err = e.p.Halt(ctx, func(h *process.Halt) error {
		switch {
		case h.WasRunning():
		case e.arena == nil:
			e.furnish(h, a)
		default:
			e.station(h)
		}
		return nil
	})
	return e.resident != nil, err
}

// furnish makes a planned arena with the resident thread in it under a halt, before
// anything is loaded. What fails is done by the load, which says why if it fails
// again.
func (e *Engine) furnish(h *process.Halt, a *arena.Arena) {
	if retry, err := e.started(h); retry != nil || err != nil || e.p.CheckSystemCalls() != nil || a.Reserve(h) != nil {
		_ = a.Close() // is nowhere but here
		return
	}
	e.arena, e.spare = a, true
	if e.station(h); e.resident == nil {
		_ = e.clear(h) // has been there for a moment
	}
}

// clear takes away a spare arena under a halt.
func (e *Engine) clear(h *process.Halt) error {
	if err := e.dismiss(); err != nil {
		return err
	}
	err := e.arena.Release(h)
	e.arena, e.spare = nil, false
	return err
}

// fits tells whether a spare arena is one for a module: in reach of what that
// patches, and in this process only.
func (e *Engine) fits(m *module.Module) bool {
	text, err := e.lang.near(m)
	if err != nil || e.forked(OpLoad, "") != nil {
		return false
	}
	start, end := e.arena.Base(), e.arena.Base()+e.arena.Size()
	return max(end, text.End)-min(start, text.Start) <= arena.Reach
}
