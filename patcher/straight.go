package patcher

import (
	"bytes"
	"context"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/redirect"
)

// A call whose entry leads to a stub makes two jumps to other pages, each of which
// takes a cycle. While nobody sets a switch it is known where all stubs lead, and
// an entry of which one store alters nothing but the first instruction can be
// straight: it has the original bytes if no patch on it is active, and a jump to
// the new code if one is, where that can be. No call runs anything else for that.
//
// So an operation that sets switches first bends the entries: they lead to the
// stubs, while these still lead where the entries led. Then one store to the
// switches is the instant for all functions, as ever. When the switches have
// stayed as they are for a while the entries are straightened again, or when the
// Engine is closed. That takes no halt; where it would entries stay as they are, as
// do those that one store does not write, and all that a halt has led to the stubs in a
// program without the resident thread.
//
// A forked child has entries of its own, which do not follow a switch if they are
// straight. So they are not while there is one, nor ever in a program of a language
// whose programs fork.

// straightenAfter is for how long switches have to stay as they are. Tests have no
// patience.
var straightenAfter = 100 * time.Millisecond

// straightenPause is the longest pause, of growing ones, after which it is tried again
// when somebody is in the way: a debugger, mostly, that has stopped the program.
const straightenPause = 5 * time.Second

// straightenPatience is for how long a halt is waited for that it should not take.
const straightenPatience = 10 * time.Second

// straightBytes returns what stands at the entry of d if it is straight, nil if it
// has to lead to the stubs.
func (e *Engine) straightBytes(d *redirectRecord) ([]byte, error) {
	if d.Encoding != redirect.SingleEncoding || len(d.Stack) == 0 {
		return nil, nil
	}
	for _, id := range d.Stack {
		if e.reg.led(id) || e.waits[id] != nil {
			return nil, nil // its switch is about to be set, and goroutines may be marked
		}
	}
	p := e.serving(d)
	if p == nil {
		return d.Old, nil
	}
	if to := p.function(d.Entry).called(); d.plain().Reaches(to) {
		return d.jump(to)
	}
	return nil, nil
}

// plain returns as much of the plan of d as it takes to write its entry.
func (d *redirectRecord) plain() *redirect.Plan {
	return &redirect.Plan{Entry: d.Entry, Offset: d.Offset, Span: d.Span, Old: d.Old}
}

// bent returns what stands at the entry of d if it leads to the stubs, nil if it
// never does.
func (e *Engine) bent(d *redirectRecord) ([]byte, error) {
	if d.Encoding != redirect.SingleEncoding || len(d.Stack) == 0 {
		return nil, nil
	}
	return e.reg.entryBytes(d, nil)
}

// isStraight tells whether the entry of d, in the registry as it is, is straight.
func (e *Engine) isStraight(d *redirectRecord) bool {
	bent, err := e.bent(d)
	return err == nil && bent != nil && !bytes.Equal(bent, d.Now)
}

// reroute returns a transition that makes the entries be as want says, which returns nil
// for those that stay, and changes nothing else, for the sake of an operation on a patch.
func (e *Engine) reroute(op Operation, id string, want func(*redirectRecord) ([]byte, error)) (*switching, error) {
	s := &switching{transition: e.transit(op, id), rerouting: true}
	for _, d := range s.reg.Redirects {
		b, err := want(d)
		if err != nil {
			return nil, err
		}
		if b != nil && !bytes.Equal(b, d.Now) {
			s.entries = append(s.entries, entryChange{d, b})
		}
	}
	return s, nil
}

// bend makes the entries lead to the stubs on which switches are about to be set: of
// the functions of a patch, and if it replaces others of all that are active. From
// then on they stay so until nothing is switched for a while.
func (e *Engine) bend(ctx context.Context, op Operation, id string, replace bool) error {
	straight := map[uint64]bool{}
	for _, p := range e.reg.Patches {
		if p.ID != id && !(replace && e.state(p) == Active) {
			continue
		}
		for _, f := range p.Functions {
			if e.isStraight(e.reg.redirect(f.Entry)) {
				straight[f.Entry] = true
			}
		}
	}
	e.straightenSoon(id)
	if len(straight) == 0 {
		return nil
	}
	s, err := e.reroute(op, id, func(d *redirectRecord) ([]byte, error) {
		if !straight[d.Entry] {
			return nil, nil
		}
		return e.bent(d)
	})
	if err != nil {
		return err
	}
	return s.carryOut(ctx)
}

// straighten makes the entries straight that can be, without a halt. why says why
// that can't be now, but may be later. What it fails to do is undone, and no harm:
// calls go the longer way.
func (e *Engine) straighten(id string) (why string) {
	if e.arena == nil || e.spare || e.alone != "" || !e.lang.forksNot() {
		return ""
	}
	s, err := e.reroute(OpActivate, id, e.straightBytes)
	switch {
	case err != nil:
		return err.Error()
	case len(s.entries) == 0:
		return ""
	}
	if why = e.needsHalt(); why != "" {
		return why
	}
	if refusal := e.forked(s.op, id); refusal != nil {
		return refusal.Error()
	}
	// A store that fails is undone under a halt, as ever.
	ctx, cancel := context.WithTimeout(context.Background(), straightenPatience)
	defer cancel()
	done, err := s.withoutHalt(ctx)
	switch {
	case done, finding.CodeOf(err) == finding.TargetExited:
		return ""
	case err != nil:
		return err.Error()
	}
	return s.because
}

// straightening is when the entries are straightened. It is guarded by the turn.
type straightening struct {
	due   bool          // something was switched since they were
	id    string        // the patch that was switched last
	pause time.Duration // after the last try
	timer *time.Timer   // nil before the first time
}

// straightenSoon has the entries straightened when nothing is switched for a while.
func (e *Engine) straightenSoon(id string) {
	r := &e.straightening
	r.due, r.id, r.pause = true, id, 0
	if e.once {
		return // Close comes sooner
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(straightenAfter, e.straightenNow)
	} else {
		r.timer.Reset(straightenAfter)
	}
}

// straightenNow is called by the timer.
func (e *Engine) straightenNow() {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	r := &e.straightening
	if e.closed || e.failed != nil || !r.due {
		return
	}
	if r.due = e.straighten(r.id) != ""; r.due {
		r.pause = min(max(2*r.pause, straightenAfter), straightenPause)
		r.timer.Reset(r.pause)
	}
}

// Straighten makes the entries straight now that will be in a while, for a debugger that
// is about to stop the target for good, when it can't be done any more. It waits
// for its turn. The target runs, or nothing is done.
func (e *Engine) Straighten() {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	if !e.closed {
		e.straightenLast()
	}
}

// straightenLast is straighten for an Engine that does nothing more.
func (e *Engine) straightenLast() {
	r := &e.straightening
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.due && e.failed == nil {
		e.straighten(r.id)
	}
	r.due = false
}
