package patcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Load is LoadModule for the file at path.
func (e *Engine) Load(ctx context.Context, path string) (*Patch, *Receipt, error) {
	m, err := module.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return e.LoadModule(ctx, m, path)
}

// LoadModule maps a module into the target, binds and registers it. The file at
// path, which it was read from, is not read again: it is only told where that
// was. Nothing runs the module before it is activated. The target may run or be
// stopped.
//
// Refused with build-id-mismatch, text-mismatch,
// already-loaded, symbol-unresolved and the other codes of binding, with
// in-use if another process has the target's patches by a fork, with
// gc-timeout if the target's garbage collector leaves no quiet instant, with
// unsupported-target if the target refuses memory, with target-exited or busy.
func (e *Engine) LoadModule(ctx context.Context, m *module.Module, path string) (*Patch, *Receipt, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	start, halts := time.Now(), e.p.Measure()
	defer halts()
	if err := e.p.CheckSystemCalls(); err != nil {
		return nil, nil, err
	}
	id, err := e.load(ctx, m, path)
	if err != nil {
		return nil, nil, err
	}
	p, err := e.reg.patch(id)
	if err != nil {
		return nil, nil, err
	}
	return e.describe(p), newReceipt(OpLoad, start, halts()), nil
}

// load carries out a load; a first one makes the arena.
func (e *Engine) load(ctx context.Context, m *module.Module, path string) (id string, err error) {
	fresh := e.arena == nil
	if fresh {
		err = e.checkIdentity(m, path)
	} else {
		err = e.notForked(OpLoad, fmt.Sprint(e.reg.Sequence+1))
	}
	if err != nil {
		return "", err
	}
	// Binding and registering are two instants: if the target makes an itab
	// in between that the module brings too, the module is bound again. So are
	// planning and reserving the arena: a program that has just begun may take
	// the place for its first heap (brk, which the kernel puts anywhere in the
	// GiB above the text).
	for range 5 {
		if e.arena == nil {
			if e.arena, err = e.lang.planArena(m); err != nil {
				return "", err
			}
		}
		t := e.transit(OpLoad, fmt.Sprint(e.reg.Sequence+1))
		if err = t.load(ctx, m, path, fresh); err == nil {
			return t.id, nil
		}
		if err = t.rollback(err); t.done || e.failed != nil {
			return "", err // the arena is in use
		}
		if fresh && errors.Is(err, arena.ErrTaken) {
			_ = e.arena.Close()
			e.arena = nil
		} else if !errors.Is(err, goruntime.ErrStale) {
			break
		}
	}
	if fresh && e.arena != nil {
		_ = e.arena.Close()
		e.arena = nil
	}
	if errors.Is(err, goruntime.ErrStale) {
		err = finding.Refuse(finding.Busy, "the program has again and again made what the module brings while it was being loaded",
			"try again at a quieter moment")
	}
	return "", err
}

// load prepares while the target runs: everything is placed, bound and
// planned. Then it does the rest under a halt.
func (t *transition) load(ctx context.Context, m *module.Module, path string, fresh bool) error {
	e := t.e
	t.reg.Sequence++
	size := moduleSize(m)
	base, err := e.arena.Alloc(size, e.above(m))
	if err != nil {
		return err
	}
	t.onUndo(func() error { e.arena.Free(base, size); return nil })
	c, err := e.check(ctx, m, path, base)
	if err != nil {
		return err
	}
	p := &patchRecord{ID: t.id, Name: m.Manifest.Name, Path: path, Module: m.ID(), Base: base, Size: size, Findings: slices.Concat(m.Manifest.Findings, c.image.Findings)}
	for _, x := range m.Manifest.Requires {
		p.Requires = append(p.Requires, x.ID)
	}
	if g := m.Manifest.Go; g != nil && g.Init != nil {
		p.Init = &initRecord{Start: base + g.Init.Start, State: base + g.Init.State}
	}
	if p.Switch, err = e.arena.NewSwitch(); err != nil {
		return err
	}
	t.onUndo(func() error { e.arena.FreeSwitch(p.Switch); return nil })
	code, err := t.addPatch(p, c)
	if err != nil {
		return err
	}
	pieces := append(pieces(c.image), code...)
	if !fresh {
		fill(e.arena, pieces)
	}
	return e.haltUntil(ctx, manyTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		if retry, err = e.quiet(h); retry != nil || err != nil {
			return retry, err
		}
		if !fresh {
			if retry = e.forked(OpLoad, t.id); retry != nil {
				return retry, nil
			}
		}
		return nil, t.place(h, p, c.image, pieces, fresh)
	})
}

// addPatch records p with its functions and redirects, and finds room for
// their stubs and thunks. It returns the pieces of memory that these need
// beyond what is mapped already.
func (t *transition) addPatch(p *patchRecord, c *checked) ([]piece, error) {
	t.reg.Patches = append(t.reg.Patches, p)
	var slots []slot
	thunks := map[*redirectRecord]*redirect.Plan{}
	for i, lf := range c.image.Functions {
		plan := c.plans[i]
		f := &functionRecord{Symbol: lf.Symbol, Entry: lf.Entry, Size: lf.Size, New: lf.New, Source: lf.Source, Encoding: plan.Encoding}
		f.NewSize, f.Bridge, f.Pieces, f.Lost = c.size(lf.New-c.image.Base), lf.Bridge, lf.Pieces, lf.LostCode
		f.Marked = p.Init != nil && knowsGoroutine(&lf.Function)
		p.Functions = append(p.Functions, f)
		d := t.reg.redirect(lf.Entry)
		if d == nil {
			d = newRedirect(plan)
			t.reg.Redirects = append(t.reg.Redirects, d)
			if d.Encoding != redirect.DirectEncoding {
				slots = append(slots, slot{&d.Thunk, anyQuarter})
				thunks[d] = plan
			}
		}
		if d.Encoding != redirect.DirectEncoding {
			slots = append(slots, slot{&f.Stub, padQuarter(d)})
		}
	}
	pieces, err := t.takeSlots(slots)
	if err != nil {
		return nil, err
	}
	for _, f := range p.Functions {
		if d := t.reg.redirect(f.Entry); d.Encoding != redirect.DirectEncoding {
			f.layStub(d)
		}
	}
	for d, plan := range thunks {
		if d.code, err = plan.Thunk(d.Thunk); err != nil {
			return nil, err
		}
	}
	return pieces, nil
}

// place maps and registers the module under a halt, and commits.
func (t *transition) place(h *process.Halt, p *patchRecord, image *link.Image, pieces []piece, fresh bool) (err error) {
	e := t.e
	defer func() {
		if err != nil {
			err = t.rollback(err)
		}
	}()
	if fresh {
		if err := e.arena.Reserve(h); err != nil {
			return err
		}
		t.onUndo(func() error { return e.arena.Release(h) })
		fill(e.arena, pieces)
	}
	reg, writes, err := e.lang.Register(h, &t.reg.Runtime, image, t.takeData(&pieces))
	if err != nil {
		return err
	}
	p.Go = reg
	for _, m := range pieces {
		if err := e.arena.Map(h, m.addr, m.size, m.prot); err != nil {
			return err
		}
		t.onUndo(func() error { return e.arena.Unmap(h, m.addr, m.size) })
	}
	for _, d := range t.reg.Redirects {
		if d.code != nil {
			if err := e.p.WriteMemory(d.Thunk, d.code); err != nil {
				return err
			}
		}
	}
	if err := t.journal(writes); err != nil {
		return err
	}
	if err := t.apply(h, writes); err != nil {
		return err
	}
	h.ClearCaches()
	if err := t.commit(); err != nil {
		return err
	}
	if e.debugger != nil {
		e.debugger.Loaded(h, p.image())
	}
	return nil
}
