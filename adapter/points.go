package adapter

import (
	"context"
	"fmt"
	"time"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// pointArguments say where a patch is to be activated.
type pointArguments struct {
	Path         string `json:"path"`
	Line         int    `json:"line"`
	HitCondition string `json:"hitCondition"`
}

func (a *pointArguments) String() string { return fmt.Sprintf("%s:%d", a.Path, a.Line) }

// point is a place at which a patch is to be activated.
type point struct {
	*place
	reached chan arrival // gets one, in a standstill that lasts until looked is closed
	looked  chan struct{}
	failed  chan error // gets why the point can't be watched any more
}

// arrival is a standstill at a point.
type arrival struct {
	since   time.Time
	threads int
}

// setPoint sets the breakpoint of a point.
func (w *watches) setPoint(ctx context.Context, a *pointArguments) (pt *point, halts process.HaltStats, err error) {
	w.p.mu.Lock()
	substitute := w.p.substitute
	w.p.mu.Unlock()
	halts, err = w.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		file, addrs, err := resolve(group.Selected, a.Path, a.Line, substitute, w.p.patches.files())
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		pt = &point{reached: make(chan arrival, 1), looked: make(chan struct{}), failed: make(chan error, 1)}
		if pt.place, err = w.newPlace(fmt.Sprintf("point %s:%d", file, a.Line), addrs, true); err != nil {
			return err
		}
		if err := pt.set(group, a.HitCondition); err != nil {
			return err
		}
		w.points = append(w.points, pt)
		return nil
	})
	return pt, halts, err
}

// activation is one that waits for its point.
type activation struct {
	s     *patches
	e     *patcher.Engine
	id    string
	at    *pointArguments
	first bool
	wait  *patcher.Wait
	point *point
	over  chan struct{} // closed when it has ended and its breakpoints are gone
}

// activateAt makes a patch pending until execution reaches a point. The rest of
// the result waits for that.
func (s *patches) activateAt(ctx context.Context, e *patcher.Engine, a *arguments, opts patcher.ActivateOptions) (r result, err error) {
	v := &activation{s: s, e: e, id: a.ID, at: a.At, first: a.StopOnFirstCall, over: make(chan struct{})}
	var deadline <-chan time.Time
	if opts.Timeout > 0 {
		deadline = time.After(opts.Timeout)
	}
	if v.wait, r.Patch, r.Receipt, err = e.Await(ctx, a.ID, opts); err != nil {
		return result{}, err
	}
	var halts, more process.HaltStats
	if v.point, halts, err = s.watches.setPoint(ctx, a.At); err == nil && v.first {
		if more, err = s.watches.watchFirst(ctx, r.Patch); err != nil {
			s.watches.forget(ctx, func(pt *point, _ *firstCall) bool { return pt == v.point })
		}
	}
	if err != nil {
		v.wait.GiveUp()
		return result{}, err
	}
	r.Receipt.AddHalts(halts.Add(more))
	s.pending.Store(a.ID, v)
	s.tell("pending", r.Patch, nil)
	r.rest = func(ctx context.Context) {
		defer close(v.over)
		defer s.pending.CompareAndDelete(a.ID, v)
		v.run(ctx, deadline)
	}
	return r, nil
}

// run waits for the point, activates the patch and says so, or why not.
func (v *activation) run(ctx context.Context, deadline <-chan time.Time) {
	p, r, err := v.attempt(ctx, deadline)
	if err == nil {
		v.s.activated(ctx, v.e, p, r)
		return
	}
	v.wait.GiveUp()
	v.s.watches.forget(ctx, func(pt *point, f *firstCall) bool {
		return pt != nil && pt == v.point || f != nil && f.patch == v.id
	})
	v.s.failed(ctx, v.e, v.id, err)
}

func (v *activation) attempt(ctx context.Context, deadline <-chan time.Time) (*patcher.Patch, *patcher.Receipt, error) {
	still, err := v.reach(ctx, deadline)
	if err != nil {
		close(v.point.looked)
		return nil, nil, err
	}
	p, r, why, err := v.wait.Look(ctx)
	if err == nil && why == nil {
		// The standstill is the halt, whatever was done in it.
		r.Halts, r.HaltMicros, r.ThreadsHalted = 1, time.Since(still.since).Microseconds(), still.threads
	}
	close(v.point.looked)
	if err == nil && why != nil {
		// Somebody is where nobody may be: perhaps the very one who has reached
		// the point. Calls that are under way get time to go on.
		p, r, err = v.wait.Activate(ctx)
	}
	return p, r, err
}

// reach returns when the target stands at the point.
func (v *activation) reach(ctx context.Context, deadline <-chan time.Time) (arrival, error) {
	for {
		v.s.p.mu.Lock()
		err, changed := v.s.p.ready(), v.s.p.changed
		v.s.p.mu.Unlock()
		if err != nil {
			return arrival{}, err
		}
		select {
		case still := <-v.point.reached:
			return still, nil
		case err := <-v.point.failed:
			return arrival{}, err
		case <-v.wait.Cancelled():
			return arrival{}, v.wait.WasCancelled()
		case <-deadline:
			return arrival{}, finding.Refuse(finding.PointTimeout,
				fmt.Sprintf("patch %s was not activated: execution has not reached %s in the time given", v.id, v.at),
				"it stays loaded; wait longer, or take a line that is reached more often")
		case <-ctx.Done():
			return arrival{}, finding.Refuse(finding.WrongState,
				fmt.Sprintf("patch %s was not activated: the debug session ended before execution reached %s", v.id, v.at),
				"it stays loaded; activate it in the next session")
		case <-changed:
		}
	}
}
