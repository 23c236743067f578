package patcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// longestPause bounds the pause between two looks of a wait.
const longestPause = 200 * time.Millisecond

// Wait is an activation that waits: until what its patch brings is initialised,
// until nobody is in the code that the patch replaces, or for something that
// only the caller of Await knows of. Each look is a turn of its own, so that other
// operations go on; in between the patch is pending. Its methods other than
// Cancelled must be called by one goroutine at a time.
type Wait struct {
	e     *Engine
	id    string
	opts  ActivateOptions
	start time.Time
	// awaited is a Wait for something, which is not to be kept waiting itself.
	awaited bool

	looks     int
	halts     process.HaltStats
	cancelled chan struct{}
	frames    map[uint64]int // in old code at the last look, by the entry of the function
}

func (e *Engine) newWait(id string, opts ActivateOptions) *Wait {
	return &Wait{e: e, id: id, opts: opts, start: time.Now(), cancelled: make(chan struct{})}
}

// Await makes a patch pending: it is activated when the caller calls Look or
// Activate of the Wait, and given up by GiveUp or Deactivate. What the patch
// brings begins to be initialised; else the target is not touched. Refused with
// not-loaded, wrong-state, init-failed, target-exited or busy, and with what the
// writing of entries is refused with.
func (e *Engine) Await(ctx context.Context, id string, opts ActivateOptions) (*Wait, *Patch, *Receipt, error) {
	if err := opts.check(); err != nil {
		return nil, nil, nil, err
	}
	end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer end()
	w := e.newWait(id, opts)
	w.awaited = true
	// It is to be ready when its instant comes.
	if _, err := w.initialise(ctx); err != nil {
		return nil, nil, nil, err
	}
	s, err := e.switching(OpActivate, id, opts.Replace)
	if err != nil {
		w.end()
		return nil, nil, nil, err
	}
	e.waits[id] = w
	p, r := s.outcome(w.start, w.halts)
	r.Replaced = nil
	return w, p, r, nil
}

// Cancelled is closed when the patch is deactivated while it is pending.
func (w *Wait) Cancelled() <-chan struct{} { return w.cancelled }

// Activate looks until the patch can be activated, with growing pauses, and
// gives up with the reason of the last look when the time of the options is
// over, counted from now. It is refused as Engine.Activate is.
func (w *Wait) Activate(ctx context.Context) (*Patch, *Receipt, error) {
	deadline := time.Now().Add(cmp.Or(w.opts.Timeout, QuiescenceTimeout))
	for pause := haltPause; ; pause = min(2*pause, longestPause) {
		p, r, why, err := w.Look(ctx)
		if err != nil || why == nil {
			w.GiveUp()
			return p, r, err
		}
		if w.opts.Waiting != nil {
			w.opts.Waiting(p, why)
		}
		left := time.Until(deadline)
		if left <= 0 {
			w.GiveUp()
			return nil, nil, w.timedOut(why)
		}
		select {
		case <-time.After(min(pause, left)):
		case <-w.cancelled:
			return nil, nil, w.WasCancelled()
		case <-ctx.Done():
			w.GiveUp()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, nil, w.timedOut(why)
			}
			return nil, nil, fmt.Errorf("the activation of patch %s was given up while it waited, it stays loaded: %w", w.id, ctx.Err())
		}
	}
}

// Look activates the patch if nobody is in the way. Otherwise it returns why
// not, and the patch stays pending.
func (w *Wait) Look(ctx context.Context) (p *Patch, r *Receipt, why *finding.Refusal, err error) {
	e := w.e
	end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	defer end()
	select {
	case <-w.cancelled:
		return nil, nil, nil, w.WasCancelled()
	default:
	}
	if e.waits[w.id] == w {
		delete(e.waits, w.id)
	}
	if why, err = w.initialise(ctx); why == nil && err == nil {
		var s *switching
		if s, err = e.switching(OpActivate, w.id, w.opts.Replace); err != nil {
			return nil, nil, nil, err
		}
		if why, err = w.try(ctx, s); err == nil && why == nil {
			p, r = s.outcome(w.start, w.halts)
			r.Looks = w.looks
			return p, r, nil, nil
		}
		w.frames = make(map[uint64]int)
		for _, f := range s.patch().Functions {
			w.frames[f.Entry] = f.OldFrames
		}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	e.waits[w.id] = w
	record, _ := e.reg.patch(w.id)
	return e.describe(record), nil, why, nil
}

// initialise is Engine.initialise for the patch, if it may be activated.
func (w *Wait) initialise(ctx context.Context) (notYet *finding.Refusal, err error) {
	halts := w.e.p.Measure()
	defer func() { w.halts = w.halts.Add(halts()) }()
	p, err := w.e.reg.patch(w.id)
	if err != nil {
		return nil, err
	}
	if _, err := w.e.legal(OpActivate, p, w.opts.Replace); err != nil {
		return nil, err
	}
	if err := w.e.bend(ctx, OpActivate, w.id, w.opts.Replace); err != nil {
		return nil, err
	}
	if p, err = w.e.reg.patch(w.id); err != nil { // it is another record now, perhaps
		return nil, err
	}
	return w.e.initialise(ctx, p)
}

// try halts the target once and makes the change if nobody is in the way. If
// its user has stopped it nothing would change until the next look: then why is
// the error.
func (w *Wait) try(ctx context.Context, s *switching) (why *finding.Refusal, err error) {
	halts := w.e.p.Measure()
	defer func() { w.halts = w.halts.Add(halts()) }()
	quiet := w.opts.Consistency == Quiescent
	if !quiet && !w.awaited {
		if w.opts.LetGo != nil {
			return nil, s.storeUntraced(ctx, w.opts.LetGo)
		}
		return nil, s.carryOut(ctx)
	}
	w.looks++
	if !quiet && s.isOneStore() {
		return nil, s.store()
	}
	stopped := false
	if err = s.prepare(); err == nil {
		err = w.e.p.HaltFor(ctx, s.whyLook(quiet), func(h *process.Halt) (err error) {
			stopped = !h.WasRunning()
			why, err = s.try(h, quiet)
			return err
		})
	}
	if err == nil && why == nil {
		return nil, nil
	}
	err = s.rollback(err)
	switch {
	case finding.CodeOf(err) == finding.Busy && ctx.Err() == nil:
		// The debug session is in a step, for one.
		return finding.As(err), nil
	case err == nil && stopped:
		why.Findings[0].Advice = "the program is stopped: continue it, then try again"
		return nil, why
	}
	return why, err
}

// GiveUp ends the wait: the patch is loaded and no more pending, and what it
// brings is not initialised if that has not begun. It does nothing if the wait has
// ended already.
func (w *Wait) GiveUp() {
	w.e.turn <- struct{}{}
	defer func() { <-w.e.turn }()
	w.end()
}

// cancel ends the wait from another operation.
func (w *Wait) cancel() {
	w.end()
	close(w.cancelled)
}

// end ends the wait, unless another one for the same patch has taken its place.
func (w *Wait) end() {
	if other := w.e.waits[w.id]; other != nil && other != w {
		return
	}
	delete(w.e.waits, w.id)
	if !w.e.closed {
		w.e.straightenSoon(w.id) // its entries had to lead to the stubs
	}
	if p, err := w.e.reg.patch(w.id); err == nil && !w.e.closed {
		_ = w.e.unhook(p) // fails if the target has ended, which is said elsewhere
	}
}

// WasCancelled is the error of a wait that Deactivate has ended.
func (w *Wait) WasCancelled() error {
	return finding.Refuse(finding.WrongState,
		fmt.Sprintf("patch %s was deactivated while its activation waited", w.id), "activate it again if it is wanted")
}

// timedOut makes the reason of the last look the error.
func (w *Wait) timedOut(why *finding.Refusal) error {
	f := &why.Findings[0]
	f.Message += fmt.Sprintf(" (after %v", time.Since(w.start).Round(time.Millisecond))
	if w.looks > 0 {
		f.Message += fmt.Sprintf(" and %d looks", w.looks)
	}
	f.Message += ")"
	return why
}

// heldUp says who is in code that the patch replaces.
func (e *Engine) heldUp(id string, held []holdup) *finding.Refusal {
	const most = 20
	calls := "1 call is"
	if len(held) > 1 {
		calls = fmt.Sprintf("%d calls are", len(held))
	}
	r := finding.Refuse(finding.QuiescenceTimeout,
		fmt.Sprintf("patch %s can't be activated while %s in code that it replaces", id, calls),
		"it stays loaded and inactive; wait longer, or activate it with consistency immediate: calls that are under way then finish in the old code")
	for _, x := range held[:min(len(held), most)] {
		f := finding.Finding{Code: finding.QuiescenceTimeout, Severity: finding.Info, Message: x.String()}
		f.Function, f.Source = e.where(&x)
		r.Findings = append(r.Findings, f)
	}
	if n := len(held) - most; n > 0 {
		r.Findings = append(r.Findings, finding.Finding{
			Code: finding.QuiescenceTimeout, Severity: finding.Info, Message: fmt.Sprintf("and %d more", n),
		})
	}
	return r
}

// where returns the function and the line of source that somebody is at; of a
// patch's code the line is that of the function.
func (e *Engine) where(x *holdup) (function, source string) {
	f := x.zone.function
	function = f.Symbol
	if x.zone.beside {
		function = x.Function
	}
	if x.zone.in != nil {
		g := x.zone.in.function(f.Entry)
		return x.Function, g.Source
	}
	at := x.Value - 1 // the call that will return there
	if x.At == 0 && x.Goroutine == 0 {
		at = x.Value // the instruction that a thread is at
	}
	if file, line, ok := e.lang.line(at); ok {
		return function, fmt.Sprintf("%s:%d", filepath.Clean(file), line)
	}
	return function, f.Source
}
