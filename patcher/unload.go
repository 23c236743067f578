package patcher

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Unload takes the patch out of the target: it restores the entries, takes
// the module out of the runtime's lists and gives its memory back. It first
// proves that nothing refers to the module: no thread or goroutine runs it or
// will return to it, and no word in writable memory points into it. Otherwise
// it is refused with in-use, naming who holds it, and the patch stays loaded
// and inactive.
//
// The proof takes a halt, one if nobody is in the way, and it can't be that of an
// attach: what the stacks of a C program are walked by is read before it, and the
// collector of a Go program has to run before it. To wake that in an idle program
// takes another.
//
// It may be called whether the target runs or is stopped. Also refused with
// not-loaded, wrong-state (it has to be inactive), gc-timeout, text-mismatch,
// target-exited or busy.
func (e *Engine) Unload(ctx context.Context, id string) (*Receipt, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	start, halts := time.Now(), e.p.Measure()
	defer halts()
	if err := e.p.CheckSystemCalls(); err != nil {
		return nil, err
	}
	p, err := e.reg.patch(id)
	if err != nil {
		return nil, err
	}
	if _, err := e.state(p).next(OpUnload, id); err != nil {
		return nil, err
	}
	if err := e.notRequired(p); err != nil {
		return nil, err
	}
	if err := e.notForked(OpUnload, id); err != nil {
		return nil, err
	}
	// What it brings is not to be initialised any more, by the collection for one.
	if err := e.unhook(p); err != nil {
		return nil, err
	}
	// Garbage that points into the module would hold it for ever in an idle
	// program; a stopped one can't collect any.
	if err := e.lang.ForceGC(ctx, e.p); err != nil {
		return nil, err
	}
	if err := e.unload(ctx, p); err != nil {
		return nil, err
	}
	return newReceipt(OpUnload, start, halts()), nil
}

func (e *Engine) unload(ctx context.Context, p *patchRecord) error {
	// The collector ends its work sooner or later, and those who use the module
	// perhaps not.
	looks := 0
	return e.haltUntil(ctx, "it takes proving that nothing refers to the patch", manyTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		if retry, err = e.quiet(h); retry != nil || err != nil {
			return retry, err
		}
		if retry = e.forked(OpUnload, p.ID); retry != nil {
			return retry, nil
		}
		if e.debugger != nil {
			e.debugger.Unloading(h, p.image())
		}
		t := e.transit(OpUnload, p.ID)
		t.h = h
		if retry, err = t.unload(h, p); retry != nil || err != nil {
			err = t.rollback(err)
		}
		switch {
		case e.debugger == nil:
		case t.done:
			e.debugger.Unloaded(h, p.image())
		default:
			e.debugger.Loaded(h, p.image())
		}
		// Who is in a stub only leaves it at once.
		if !t.passing {
			looks++
		}
		if err == nil && retry != nil && looks == fewTries {
			retry.Findings[0].Message += fmt.Sprintf(" (so it was at %d looks)", looks)
			return nil, retry
		}
		return retry, err
	})
}

// unload takes p out of the target under a halt, unless something refers to
// it.
func (t *transition) unload(h *process.Halt, p *patchRecord) (inUse *finding.Refusal, err error) {
	e := t.e
	// A program may restrict its system calls at any time; what is unloaded must be
	// given back.
	if err := e.p.CheckSystemCalls(); err != nil {
		return nil, err
	}
	t.reg.Patches = slices.DeleteFunc(t.reg.Patches, func(q *patchRecord) bool { return q.ID == p.ID })
	writes, err := t.unlink(p)
	if err != nil {
		return nil, err
	}
	var pieces []piece
	runtimeWrites, err := e.lang.Unregister(h, &t.reg.Runtime, p.Go, t.takeData(&pieces))
	if err != nil {
		return nil, err
	}
	writes = append(writes, runtimeWrites...)
	inUse, cleanup, err := t.checkUnused(h, p, writes)
	if inUse != nil || err != nil {
		return inUse, err
	}
	writes = append(writes, cleanup...)
	// Nobody refers to these either. They keep what they hold: should the unload be
	// undone they are in use again.
	t.reg.Runtime.Retired = nil
	for _, m := range pieces {
		if err := e.arena.Map(h, m.addr, m.size, m.prot); err != nil {
			return nil, err
		}
		t.onUndo(func() error { return e.arena.Unmap(h, m.addr, m.size) })
	}
	if err := t.journal(writes); err != nil {
		return nil, err
	}
	if err := t.apply(writes); err != nil {
		return nil, err
	}
	h.ClearCaches()
	if err := t.commit(); err != nil {
		return nil, err
	}
	return nil, t.giveBack(h, p)
}

// giveBack returns the memory of an unloaded patch: of the whole arena if
// nothing else is in it.
func (t *transition) giveBack(h *process.Halt, p *patchRecord) error {
	e := t.e
	if t.reg.empty() {
		if err := e.dismiss(); err != nil {
			return err // the arena stays: the thread is in it
		}
		err := e.arena.Release(h)
		e.arena, e.reg = nil, &registry{Version: registryVersion, Sequence: t.reg.Sequence}
		return err
	}
	e.arena.FreeSwitch(p.Switch)
	if err := e.arena.Unmap(h, p.Base, p.Size); err != nil {
		return err
	}
	e.arena.Free(p.Base, p.Size)
	return nil
}

// checkUnused returns a reason if something refers to p's module or stubs, at
// a place that writes does not change, or else what must be written as well.
func (t *transition) checkUnused(h *process.Halt, p *patchRecord, writes []goruntime.Write) (inUse *finding.Refusal, cleanup []goruntime.Write, err error) {
	ranges := []goruntime.Range{{Start: p.Base, End: p.Base + p.Size}}
	for _, f := range p.Functions {
		if f.Stub != 0 {
			ranges = append(ranges, slotRange(f.Stub))
		} else if f.Pad != 0 {
			ranges = append(ranges, padRange(f.Pad))
		}
		if d := t.e.reg.redirect(f.Entry); d.Pad != 0 {
			ranges = append(ranges, padRange(d.Pad))
		}
	}
	// The debugger would write there when it removes it.
	for _, r := range ranges {
		for _, bp := range h.Breakpoints(r.Start, r.End) {
			return nil, nil, finding.Refuse(finding.InUse,
				fmt.Sprintf("the debugger has a breakpoint in patch %s, at %#x%s", p.ID, bp.Addr, p.functionAt(bp.Addr)),
				"remove it, then try again")
		}
	}
	var own []goruntime.Range
	for _, b := range t.reg.Data {
		own = append(own, b.span())
	}
	holders, err := t.e.lang.Positions(h, ranges...)
	if err == nil && len(holders) == 0 {
		holders, cleanup, err = t.e.lang.References(h, &t.reg.Runtime, p.Go, writes, own)
	}
	if err != nil || len(holders) == 0 {
		return nil, cleanup, err
	}
	t.passing = !slices.ContainsFunc(holders, func(x goruntime.Holder) bool { return ranges[0].Holds(x.Value, 1) })
	const most = 10
	var who []string
	for _, holder := range holders[:min(len(holders), most)] {
		who = append(who, holder.String()+p.functionAt(holder.Value))
	}
	if n := len(holders) - most; n > 0 {
		who = append(who, fmt.Sprintf("and %d more", n))
	}
	return finding.Refuse(finding.InUse,
		fmt.Sprintf("patch %s is still referred to by %s", p.ID, strings.Join(who, "; ")),
		"it stays loaded and inactive; try again when they have let go of it"), nil, nil
}

// functionAt names the new function that addr is in, as an addition to a
// Holder's words.
func (p *patchRecord) functionAt(addr uint64) string {
	for _, f := range p.Functions {
		if addr >= f.New && addr < f.New+f.NewSize {
			return fmt.Sprintf(" (in %s)", f.Symbol)
		}
	}
	return ""
}

// shared reports whether a patch that stays loaded uses d.
func (t *transition) shared(d *redirectRecord) bool {
	return slices.ContainsFunc(t.reg.Patches, func(q *patchRecord) bool { return q.function(d.Entry) != nil })
}

// unlink takes p out of the redirects, and returns the writes that this
// needs: at the entries where it was uppermost, and in the stubs above it
// where it was not.
func (t *transition) unlink(p *patchRecord) ([]goruntime.Write, error) {
	var writes []goruntime.Write
	for _, f := range p.Functions {
		d := t.reg.redirect(f.Entry)
		at := slices.Index(d.Stack, p.ID)
		straight := t.e.isStraight(d)
		if at >= 0 && at < len(d.Stack)-1 && d.Encoding != redirect.DirectEncoding {
			w, err := t.bypass(d, at, f)
			if err != nil {
				return nil, err
			}
			writes = append(writes, w)
		}
		if at >= 0 {
			was := slices.Clone(d.Stack)
			d.Stack = slices.Delete(d.Stack, at, at+1)
			w, err := t.repoint(d, was)
			if err != nil {
				return nil, err
			}
			writes = append(writes, w...)
		}
		want, err := t.reg.entryBytes(d, func(q *patchRecord) bool { return t.e.state(q) == Active })
		if err != nil {
			return nil, err
		}
		if straight && len(d.Stack) > 0 {
			want = d.Now // it does not lead to p, which is inactive
		}
		if !bytes.Equal(want, d.Now) {
			writes = append(writes, goruntime.Write{Addr: d.at(), Old: d.Now, New: want})
			d.Now = want
		}
		if !t.shared(d) {
			t.reg.Redirects = slices.DeleteFunc(t.reg.Redirects, func(r *redirectRecord) bool { return r == d })
		}
	}
	return writes, nil
}

// bypass returns the write that makes the stub above p's on d, which went on to
// p's, go on to what it goes on to without p.
func (t *transition) bypass(d *redirectRecord, at int, f *functionRecord) (w goruntime.Write, err error) {
	id := d.Stack[at+1]
	above, err := t.reg.patch(id)
	if err != nil {
		return w, err
	}
	next, err := t.below(d, id, slices.Delete(slices.Clone(d.Stack), at, at+1))
	if err != nil {
		return w, err
	}
	w.Addr = above.function(d.Entry).thunk() - redirect.StubNextSize
	if w.Old, err = redirect.StubNext(w.Addr, f.Stub); err == nil {
		w.New, err = redirect.StubNext(w.Addr, next)
	}
	return w, err
}
