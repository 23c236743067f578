package patcher

import (
	"cmp"
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
	return e.LoadModule(ctx, m, path, LoadOptions{})
}

// LoadOptions is what a load does only if it is asked for.
type LoadOptions struct {
	// Dlopen makes the program load the libraries that a module for C was linked
	// with and that it has not loaded, by its own dlopen. They stay when the patch
	// goes, and also if the load is refused after that.
	Dlopen bool
}

// LoadModule maps a module into the target, binds and registers it. The file at
// path, which it was read from, is not read again: it is only told where that
// was. Nothing runs the module before it is activated. The first load makes one
// halt, for the arena and the resident thread. Others make one if there is no such
// thread, or if the module brings itabs. The target may run or be stopped.
//
// Refused with build-id-mismatch, text-mismatch,
// already-loaded, symbol-unresolved and the other codes of binding, with
// in-use if another process has the target's patches by a fork, with
// gc-timeout if the target's garbage collector leaves no quiet instant, with
// unsupported-target if the target refuses memory, with target-exited or busy.
// With LoadOptions.Dlopen also with symbol-unresolved if dlopen fails, with
// unsupported-target if the target can't be made to call it, and with busy if no
// thread can call it now, or it has not returned in time.
func (e *Engine) LoadModule(ctx context.Context, m *module.Module, path string, options LoadOptions) (*Patch, *Receipt, error) {
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
	var libraries []finding.Finding
	if options.Dlopen {
		if libraries, err = e.loadLibraries(ctx, m, path); err != nil {
			return nil, nil, e.explain(err)
		}
	}
	id, err := e.load(ctx, m, path, libraries)
	if err != nil {
		return nil, nil, stayed(e.explain(err), libraries)
	}
	p, err := e.reg.patch(id)
	if err != nil {
		return nil, nil, err
	}
	return e.describe(p), newReceipt(OpLoad, start, halts()), nil
}

// load carries out a load; a first one makes the arena.
func (e *Engine) load(ctx context.Context, m *module.Module, path string, libraries []finding.Finding) (id string, err error) {
	if e.spare {
		if err := e.checkIdentity(m, path); err != nil {
			return "", err
		}
		if !e.fits(m) {
			if err := e.p.HaltFor(ctx, "the arena that there is does not fit", e.clear); err != nil {
				return "", err
			}
		}
	}
	fresh := e.arena == nil
	if fresh {
		err = e.checkIdentity(m, path)
	} else if !e.spare {
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
		if err = t.load(ctx, m, path, fresh, libraries); err == nil {
			e.spare, e.coming = false, nil
			return t.id, nil
		}
		if err = t.rollback(err); t.done || e.failed != nil {
			return "", err // the arena is in use
		}
		taken := errors.Is(err, arena.ErrTaken)
		if !taken && !errors.Is(err, goruntime.ErrStale) {
			break
		}
		if taken && fresh {
			e.dropArena()
		}
	}
	if fresh && e.arena != nil {
		e.dropArena()
	}
	if errors.Is(err, goruntime.ErrStale) {
		err = finding.Refuse(finding.Busy, "the program has again and again made what the module brings while it was being loaded",
			"try again at a quieter moment")
	}
	return "", err
}

// load prepares while the target runs: everything is placed, bound and
// planned. The rest it does by the resident thread if that can be, else under a halt.
func (t *transition) load(ctx context.Context, m *module.Module, path string, fresh bool, libraries []finding.Finding) error {
	e := t.e
	t.reg.Sequence++
	size := moduleSize(m)
	base, err := e.allocModule(e.arena, m)
	if err != nil {
		return err
	}
	t.onUndo(func() error { e.arena.Free(base, size); return nil })
	c, err := e.check(ctx, m, path, base)
	if err != nil {
		return err
	}
	p := &patchRecord{ID: t.id, Name: m.Manifest.Name, Path: path, Module: m.ID(), Base: base, Size: size, Findings: slices.Concat(m.Manifest.Findings, libraries, c.image.Findings)}
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
	// Where there has to be a halt for the rest too, it is the one for the arena.
	whole := fresh && (e.alone != "" || e.lang.checkConcurrent(c.image) != "")
	if !whole {
		if fresh {
			if err := e.haltUntil(ctx, makesArena, manyTries, t.reserve); err != nil {
				return err
			}
		}
		fill(e.arena, pieces)
		if e.needsHalt() == "" {
			if err := t.mapAll(pieces); err != nil {
				return err
			}
			pieces = nil
		}
		if placed, err := t.placeWithoutHalt(p, c.image, pieces); placed || err != nil {
			if placed && e.debugger != nil {
				e.debugger.Loaded(nil, p.image())
			}
			return err
		}
	}
	if whole {
		t.because = makesArena
	}
	return e.haltUntil(ctx, t.because, manyTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		if retry, err = e.quiet(h); retry != nil || err != nil {
			return retry, err
		}
		t.h = h
		defer func() { t.h = nil }()
		if whole {
			if retry, err = t.reserve(h); retry != nil || err != nil {
				return retry, err
			}
			fill(e.arena, pieces)
		} else if retry = e.forked(OpLoad, t.id); retry != nil {
			return retry, nil
		}
		if err := t.place(p, c.image, pieces); err != nil {
			if whole {
				err = t.rollback(err)
			}
			return nil, err
		}
		if e.debugger != nil {
			e.debugger.Loaded(h, p.image())
		}
		return nil, nil
	})
}

// makesArena is why a first load halts the target.
const makesArena = "the arena is made"

// reserve makes a planned arena, with the resident thread in it, under a halt.
func (t *transition) reserve(h *process.Halt) (retry *finding.Refusal, err error) {
	e := t.e
	if retry, err = e.started(h); retry != nil || err != nil {
		return retry, err
	}
	if err := e.arena.Reserve(h); err != nil {
		return nil, err
	}
	t.onUndo(func() error {
		if err := e.dismiss(); err != nil {
			return err
		}
		if t.h != nil {
			return e.arena.Release(t.h)
		}
		return e.p.HaltFor(context.Background(), "the load is undone", e.arena.Release)
	})
	if t.h == nil {
		e.station(h) // what follows is done by it
	}
	return nil, nil
}

// addPatch records p with its functions and redirects, and finds room for
// their stubs and thunks. It returns the pieces of memory that these need
// beyond what is mapped already.
func (t *transition) addPatch(p *patchRecord, c *checked) (pieces []piece, err error) {
	t.reg.Patches = append(t.reg.Patches, p)
	var slots []slot
	var pads []piece
	for i, lf := range c.image.Functions {
		plan := c.plans[i]
		f := &functionRecord{Symbol: lf.Symbol, Entry: lf.Entry, Size: lf.Size, New: lf.New, Source: lf.Source}
		f.NewSize, f.Bridge, f.Pieces, f.Lost = c.size(lf.New-c.image.Base), lf.Bridge, lf.Pieces, lf.LostCode
		f.Marked = p.Init != nil && knowsGoroutine(&lf.Function)
		p.Functions = append(p.Functions, f)
		d := t.reg.redirect(lf.Entry)
		var mapped []piece
		if d == nil {
			d, mapped = t.newRedirect(p, f, plan, &lf)
			t.reg.addRedirect(d)
		} else if mapped, err = t.above(p, f, d, plan); err != nil {
			return nil, err
		}
		pads = append(pads, mapped...)
		f.Encoding = d.Encoding
		if d.Encoding != redirect.DirectEncoding && f.Stub == 0 {
			slots = append(slots, slot{&f.Stub, padHalf(d)})
		}
	}
	pieces, err = t.takeSlots(slots)
	if err != nil {
		return nil, err
	}
	pieces = append(pieces, pads...)
	for i, f := range p.Functions {
		d := t.reg.redirect(f.Entry)
		if d.Encoding == redirect.DirectEncoding {
			if f.Pad != 0 {
				t.thunks = append(t.thunks, goruntime.Write{Addr: f.Pad, New: redirect.FarJump(f.Pad, f.called())})
			}
			continue
		}
		plan, err := d.plan(c.plans[i])
		if err != nil {
			return nil, err
		}
		code, err := plan.Thunk(f.Stub)
		if err != nil {
			return nil, err
		}
		f.layStub(d, uint64(len(code))) // it is as long anywhere
		if code, err = plan.Thunk(f.thunk()); err != nil {
			return nil, err
		}
		t.thunks = append(t.thunks, goruntime.Write{Addr: f.thunk(), New: code})
	}
	return pieces, nil
}

// plan returns the plan by which d was made, from one for the same function.
func (d *redirectRecord) plan(p *redirect.Plan) (*redirect.Plan, error) {
	if d.Encoding == redirect.SingleEncoding {
		p, _, _ = p.OneStore()
	}
	if p == nil || p.Encoding != d.Encoding || p.Offset != d.Offset || p.Span != d.Span {
		return nil, finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("the redirect that is at %#x was made for other code than is there", d.Entry),
			"something else writes into this process; restart it to patch it")
	}
	return p, nil
}

// oneStore returns the plan by which one store redirects the function of a plan, and
// where it has to lead. If there is none it says why.
func (e *Engine) oneStore(plan *redirect.Plan, lf *link.Function) (single *redirect.Plan, to redirect.Window, why string) {
	if single, to, why = plan.OneStore(); single != nil {
		why = e.lang.checkOneStore(single, lf)
	}
	if why == "" {
		return single, to, ""
	}
	return nil, to, cmp.Or(plan.Reason, why)
}

// newRedirect returns the redirect of a function that has none, by one store if that
// can be, and what has to be mapped for it.
func (t *transition) newRedirect(p *patchRecord, f *functionRecord, plan *redirect.Plan, lf *link.Function) (d *redirectRecord, mapped []piece) {
	single, to, why := t.e.oneStore(plan, lf)
	pad := uint64(0)
	switch {
	case single == nil && plan.Encoding == redirect.DirectEncoding:
		return t.newDirect(f, plan, lf)
	case single == nil || anywhere(to):
	default:
		if p.reaches(f, single, to) {
			f.Stub, mapped = t.takeStub(to)
		}
		if f.Stub == 0 {
			pad, mapped = t.takePad(to)
		}
		if f.Stub == 0 && pad == 0 {
			single, why = nil, cmp.Or(plan.Reason, fmt.Sprintf("one store could make it lead to [%#x, %#x) only, where nothing more can be mapped", to.Start, to.End))
		}
	}
	if single != nil {
		plan = single
	}
	d = newRedirect(plan)
	d.Pad, d.Why = pad, why
	return d, mapped
}

// newDirect is newRedirect for a function whose first instruction must not run
// elsewhere.
func (t *transition) newDirect(f *functionRecord, plan *redirect.Plan, lf *link.Function) (d *redirectRecord, mapped []piece) {
	stored, to := plan.DirectStore()
	if stored != nil && t.e.lang.checkOneStore(stored, lf) == "" {
		if !anywhere(to) {
			f.Pad, mapped = t.takePad(to)
		}
		if anywhere(to) || f.Pad != 0 {
			d = newRedirect(stored)
			d.Stored, d.Why = true, plan.Reason
			return d, mapped
		}
	}
	d = newRedirect(plan)
	d.Why = plan.Reason
	return d, nil
}

// above finds a place for the stub or the pad of another patch on d, if it can't be
// anywhere: if d's entry leads there by one store, and not to a pad of its own.
func (t *transition) above(p *patchRecord, f *functionRecord, d *redirectRecord, plan *redirect.Plan) (mapped []piece, err error) {
	var to redirect.Window
	switch {
	case d.Stored:
		if _, to = plan.DirectStore(); anywhere(to) {
			return nil, nil
		}
		f.Pad, mapped = t.takePad(to)
	case d.Encoding == redirect.SingleEncoding && d.Pad == 0:
		var single *redirect.Plan
		if single, to, _ = plan.OneStore(); single == nil || anywhere(to) {
			return nil, nil
		}
		if p.reaches(f, single, to) {
			f.Stub, mapped = t.takeStub(to)
		}
	default:
		return nil, nil
	}
	if f.Stub == 0 && f.Pad == 0 {
		return nil, finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("the entry of %s was made to lead to [%#x, %#x), where there is no room for another patch", f.Symbol, to.Start, to.End),
			"unload patches that are no longer needed")
	}
	return mapped, nil
}

// anywhere tells whether a window is no bound.
func anywhere(w redirect.Window) bool { return w.End-w.Start >= redirect.Anywhere }

// reaches tells whether f's stub and thunk can be in a window: whether there is room
// for many, and all that they refer to is within reach.
func (p *patchRecord) reaches(f *functionRecord, single *redirect.Plan, w redirect.Window) bool {
	for _, at := range []uint64{w.Start, w.End} {
		for _, to := range []uint64{f.Entry, p.Switch, f.called(), p.Base, p.Base + p.Size} {
			if d := int64(to - at); d > arena.Reach || d < -arena.Reach {
				return false
			}
		}
		if _, err := single.Thunk(at); err != nil {
			return false
		}
	}
	return w.End-w.Start >= blockSize
}

// mapAll maps pieces.
func (t *transition) mapAll(pieces []piece) error {
	a := t.e.arena
	for _, m := range pieces {
		if err := a.Map(t, m.addr, m.size, m.prot); err != nil {
			return err
		}
		t.onUndo(func() error { return a.Unmap(t, m.addr, m.size) })
	}
	return nil
}

// placeWithoutHalt is place while the target runs, if that can be. Otherwise
// nothing has changed, and t.because says why not.
func (t *transition) placeWithoutHalt(p *patchRecord, image *link.Image, pieces []piece) (placed bool, err error) {
	e := t.e
	if t.because = e.needsHalt(); t.because == "" {
		t.because = e.lang.checkConcurrent(image)
	}
	if t.because != "" {
		return false, nil
	}
	if refusal := e.forked(OpLoad, t.id); refusal != nil {
		return false, refusal
	}
	// Registering changes these, and they have to be as they were if a halt is to
	// follow.
	ledger, data, given := t.reg.clone().Runtime, slices.Clone(t.reg.Data), len(t.data)
	if err = t.place(p, image, pieces); err == nil {
		return true, nil
	}
	if e.failed != nil || finding.CodeOf(err) == finding.TargetExited {
		return false, err
	}
	t.reg.Runtime, t.reg.Data, t.data = ledger, data, t.data[:given]
	t.because = err.Error()
	return false, nil
}

// place maps and registers the module and commits, if the transition is not in a
// halt while the target runs.
func (t *transition) place(p *patchRecord, image *link.Image, pieces []piece) (err error) {
	e := t.e
	mark := len(t.undo)
	defer func() {
		if err != nil {
			err = t.rollbackTo(mark, err)
		}
	}()
	reg, writes, err := e.lang.Register(t.h, &t.reg.Runtime, image, t.takeData(&pieces))
	if err != nil {
		return err
	}
	p.Go = reg
	if err := t.mapAll(pieces); err != nil {
		return err
	}
	for _, w := range t.thunks {
		if err := e.p.WriteMemory(w.Addr, w.New); err != nil {
			return err
		}
	}
	if err := t.journal(writes); err != nil {
		return err
	}
	if err := t.apply(writes); err != nil {
		return err
	}
	if t.h != nil {
		t.h.ClearCaches()
	}
	return t.commit()
}
