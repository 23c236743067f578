package patcher

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Activate switches the patch on: from then on calls of its functions run the
// new code, in all threads from the same instant. The first time the entries
// are redirected under a halt; after that, and if no function of the patch
// needs a direct redirect, it is one store without a halt.
//
// It may be called whether the target runs or is stopped. Refused with
// not-loaded, wrong-state, in-use (a goroutine stays in bytes that have to
// change), breakpoint-at-entry (the debugger has one in them), text-mismatch,
// target-exited or busy.
func (e *Engine) Activate(ctx context.Context, id string, opts ActivateOptions) (*Patch, *Receipt, error) {
	if opts.Consistency != "" && opts.Consistency != "immediate" {
		return nil, nil, finding.Refuse(finding.WrongState,
			fmt.Sprintf("consistency %q is not supported", opts.Consistency), "use immediate")
	}
	return e.toggle(ctx, OpActivate, id)
}

// Deactivate switches the patch off: from then on calls of its functions run
// what they ran before it. Calls that are in the new code finish there. It
// needs no halt unless a function of the patch has a direct redirect.
//
// It may be called whether the target runs or is stopped. Refused with
// not-loaded, wrong-state, in-use, breakpoint-at-entry, text-mismatch,
// target-exited or busy.
func (e *Engine) Deactivate(ctx context.Context, id string) (*Patch, *Receipt, error) {
	return e.toggle(ctx, OpDeactivate, id)
}

func (e *Engine) toggle(ctx context.Context, op Operation, id string) (*Patch, *Receipt, error) {
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
	to, err := e.state(p).next(op, id)
	if err != nil {
		return nil, nil, err
	}
	if err := e.alive(); err != nil {
		return nil, nil, err
	}
	if err := e.switchTo(ctx, op, p, to == Active); err != nil {
		return nil, nil, err
	}
	p, _ = e.reg.patch(id)
	r := newReceipt(op, start, halts())
	r.Encodings = map[string]int{}
	for _, f := range p.Functions {
		r.Encodings[string(f.Encoding)]++
	}
	return e.describe(p), r, nil
}

// switchTo sets the switch of p, after or with the writes to entries that
// the new state needs.
func (e *Engine) switchTo(ctx context.Context, op Operation, p *patchRecord, on bool) error {
	t := e.transit(op, p.ID)
	p, _ = t.reg.patch(p.ID)
	entries, err := t.entries(p, on)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		// The one store: no halt, nothing to journal.
		return e.arena.SetSwitch(p.Switch, on)
	}
	if err := t.stubs(p); err != nil {
		return t.rollback(err)
	}
	err = e.haltUntil(ctx, manyTries, func(h *process.Halt) (retry *finding.Refusal, err error) {
		if retry, err = e.checkPositions(h, p, entries, on); retry != nil || err != nil {
			return retry, err
		}
		return nil, t.rewrite(h, p, entries, on)
	})
	if err != nil {
		return t.rollback(err)
	}
	return nil
}

// rewrite makes the writes of a toggle under a halt, sets the switch and
// commits.
func (t *transition) rewrite(h *process.Halt, p *patchRecord, entries []entryChange, on bool) (err error) {
	defer func() {
		if err != nil {
			err = t.rollback(err)
		}
	}()
	writes := make([]goruntime.Write, len(entries))
	for i, c := range entries {
		writes[i] = goruntime.Write{Addr: c.redirect.at(), Old: c.redirect.Now, New: c.want}
	}
	if err := t.journal(writes); err != nil {
		return err
	}
	if err := t.apply(h, writes); err != nil {
		return err
	}
	for _, c := range entries {
		c.redirect.Now = c.want
	}
	if err := t.e.arena.SetSwitch(p.Switch, on); err != nil {
		return err
	}
	t.onUndo(func() error { return t.e.arena.SetSwitch(p.Switch, !on) })
	return t.commit()
}

// entryChange is a redirect whose bytes at the entry have to become want.
type entryChange struct {
	redirect *redirectRecord
	want     []byte
}

// entries lists the redirects of p whose entry has to change so that p can be
// switched on or off.
func (t *transition) entries(p *patchRecord, on bool) ([]entryChange, error) {
	var changes []entryChange
	for _, f := range p.Functions {
		d := t.reg.redirect(f.Entry)
		if on && !slices.Contains(d.Stack, p.ID) {
			d.Stack = append(d.Stack, p.ID)
		}
		want, err := t.entryBytes(d, func(q *patchRecord) bool {
			if q.ID == p.ID {
				return on
			}
			return t.e.state(q) == Active
		})
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(want, d.Now) {
			changes = append(changes, entryChange{d, want})
		}
	}
	return changes, nil
}

// entryBytes returns what has to stand at the entry of d: with stubs a jump
// to the uppermost stub, whatever is active; without, a jump to the new code
// of the uppermost active patch, or the original bytes.
func (t *transition) entryBytes(d *redirectRecord, active func(*patchRecord) bool) ([]byte, error) {
	for _, id := range slices.Backward(d.Stack) {
		p, err := t.reg.patch(id)
		if err != nil {
			return nil, err
		}
		f := p.function(d.Entry)
		if d.Encoding != redirect.DirectEncoding {
			return d.jump(f.landing())
		}
		if active(p) {
			return d.jump(f.New)
		}
	}
	return d.Old, nil
}

// stubs writes the stubs of p that are not yet linked in. Nothing runs them
// before the entries lead to them.
func (t *transition) stubs(p *patchRecord) error {
	for _, f := range p.Functions {
		d := t.reg.redirect(f.Entry)
		if d.Encoding == redirect.DirectEncoding || slices.Contains(t.e.reg.redirect(f.Entry).Stack, p.ID) {
			continue
		}
		next := d.Thunk
		if i := slices.Index(d.Stack, p.ID); i > 0 {
			below, err := t.reg.patch(d.Stack[i-1])
			if err != nil {
				return err
			}
			next = below.function(d.Entry).Stub
		}
		code, err := redirect.Stub(f.Stub, p.Switch, f.New, next)
		if err != nil {
			return err
		}
		if err := t.lay(f.Stub, code); err != nil {
			return err
		}
		if f.Pad == 0 {
			continue
		}
		if code, err = (&redirect.Plan{Entry: f.Pad}).Jump(f.Stub); err == nil {
			err = t.lay(f.Pad, code)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lay writes code into a slot.
func (t *transition) lay(at uint64, code []byte) error {
	old := make([]byte, len(code))
	if err := t.e.p.ReadMemory(old, at); err != nil {
		return err
	}
	t.onUndo(func() error { return t.e.p.WriteMemory(at, old) })
	return t.e.p.WriteMemory(at, code)
}

// checkPositions returns a retry reason if a thread or goroutine is in the
// middle of bytes that are about to change, and if p is to be switched on
// counts the frames that are in the old code of its functions.
func (e *Engine) checkPositions(h *process.Halt, p *patchRecord, entries []entryChange, on bool) (retry *finding.Refusal, err error) {
	if err := checkBreakpoints(h, entries); err != nil {
		return nil, err
	}
	// A redirect that is already a jump is one instruction: nobody can be in
	// the middle of it.
	var spans []goruntime.Range
	for _, c := range entries {
		if d := c.redirect; bytes.Equal(d.Now, d.Old) && !d.Single {
			spans = append(spans, d.inside())
		}
	}
	ranges := slices.Clone(spans)
	if on {
		for _, f := range p.Functions {
			f.OldFrames = 0
			ranges = append(ranges, goruntime.Range{Start: f.Entry, End: f.Entry + f.Size})
		}
	}
	holders, err := e.rt.Positions(h, ranges...)
	if err != nil {
		return nil, err
	}
	for _, holder := range holders {
		if slices.ContainsFunc(spans, func(r goruntime.Range) bool { return r.Holds(holder.Value, 1) }) {
			return midEntry(holder), nil
		}
		// The frames of a goroutine that runs can't be walked: there every word
		// on its stack that looks like one counts.
		if frame := holder.Frame || holder.Goroutine != 0; !on || !frame {
			continue
		}
		for _, f := range p.Functions {
			if holder.Value >= f.Entry && holder.Value < f.Entry+f.Size {
				f.OldFrames++
			}
		}
	}
	return nil, nil
}

// midEntry is the reason to try again if somebody is in the middle of bytes
// that have to change.
func midEntry(holder goruntime.Holder) *finding.Refusal {
	return finding.Refuse(finding.InUse,
		fmt.Sprintf("%s, inside the bytes of an entry that have to change", holder),
		"try again")
}

// checkBreakpoints refuses with breakpoint-at-entry if the debugger has a
// breakpoint inside a jump that is about to be written: its byte would become
// a part of the jump's distance. On the first byte it does no harm, nor where
// the distance has that byte anyway, nor when the original bytes come back.
func checkBreakpoints(h *process.Halt, entries []entryChange) error {
	for _, c := range entries {
		if bytes.Equal(c.want, c.redirect.Old) {
			continue
		}
		at := c.redirect.at()
		// A function breakpoint goes where the prologue ends.
		if fn := h.Target().BinInfo().PCToFunc(c.redirect.Entry); fn != nil {
			if pc, err := proc.FirstPCAfterPrologue(h.Target(), fn, false); err == nil && pc > at && pc < at+redirect.JumpSize && c.want[pc-at] != int3 {
				return finding.Refuse(finding.BreakpointAtEntry,
					fmt.Sprintf("a debugger's breakpoint on the function %s lies at %#x, in the bytes that the redirect needs", fn.Name, pc),
					"change the function's callers instead")
			}
		}
		for _, bp := range h.Breakpoints(at+1, at+redirect.JumpSize) {
			if c.want[bp.Addr-at] == int3 {
				continue
			}
			return finding.Refuse(finding.BreakpointAtEntry,
				fmt.Sprintf("a breakpoint at %#x (%s:%d) lies in the bytes at the entry of %s that the redirect needs",
					bp.Addr, bp.File, bp.Line, bp.FunctionName),
				"remove that breakpoint or set it on a later line, then try again")
		}
	}
	return nil
}
