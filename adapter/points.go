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

// activation is one that waits for its point, or without one for the program to
// go on.
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

// activateLater makes a patch pending until execution reaches a point, or if there
// is none until the program goes on. The rest of the result waits for that.
func (s *patches) activateLater(ctx context.Context, e *patcher.Engine, a *arguments, opts patcher.ActivateOptions) (r result, err error) {
	v := &activation{s: s, e: e, id: a.ID, at: a.At, first: a.StopOnFirstCall, over: make(chan struct{})}
	var deadline <-chan time.Time
	if opts.Timeout > 0 {
		deadline = time.After(opts.Timeout)
	}
	if v.wait, r.Patch, r.Receipt, err = e.Await(ctx, a.ID, opts); err != nil {
		return result{}, err
	}
	var halts, more process.HaltStats
	if v.at != nil {
		v.point, halts, err = s.watches.setPoint(ctx, v.at)
	}
	if err == nil && v.first {
		if more, err = s.watches.watchFirst(ctx, r.Patch); err != nil {
			s.watches.forget(ctx, func(pt *point, _ *firstCall) bool { return pt != nil && pt == v.point })
		}
	}
	if err != nil {
		v.wait.GiveUp()
		return result{}, err
	}
	r.Receipt.AddHalts(halts, "the program is to be watched at a line")
	r.Receipt.AddHalts(more, watchesFirst)
	s.pending.Store(a.ID, v)
	s.tell("pending", r.Patch, nil)
	r.rest = func(ctx context.Context) error {
		defer close(v.over)
		defer s.pending.CompareAndDelete(a.ID, v)
		return v.run(ctx, deadline)
	}
	return r, nil
}

// run waits, activates the patch and says so, or why not.
func (v *activation) run(ctx context.Context, deadline <-chan time.Time) error {
	attempt := v.attemptAtPoint
	if v.point == nil {
		attempt = v.attemptWhileRunning
	}
	p, r, err := attempt(ctx, deadline)
	if err == nil {
		v.s.activated(ctx, v.e, p, r)
		return nil
	}
	v.wait.GiveUp()
	v.s.watches.forget(ctx, func(pt *point, f *firstCall) bool {
		return pt != nil && pt == v.point || f != nil && f.patch == v.id
	})
	v.s.failed(ctx, v.e, v.id, err)
	return err
}

// attemptWhileRunning tries whenever the target runs: what the patch brings is
// initialised then.
func (v *activation) attemptWhileRunning(ctx context.Context, deadline <-chan time.Time) (*patcher.Patch, *patcher.Receipt, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, longestPause) {
		if _, err := v.reach(ctx, deadline); err != nil {
			return nil, nil, err
		}
		if p, r, why, err := v.wait.Look(ctx); err != nil || why == nil {
			return p, r, err
		}
		time.Sleep(pause)
	}
}

func (v *activation) attemptAtPoint(ctx context.Context, deadline <-chan time.Time) (*patcher.Patch, *patcher.Receipt, error) {
	still, err := v.reach(ctx, deadline)
	if err != nil {
		close(v.point.looked)
		return nil, nil, err
	}
	p, r, why, err := v.wait.Look(ctx)
	if err == nil && why == nil {
		// The standstill is the halt, whatever was done in it.
		r.Halts, r.HaltMicros, r.ThreadsHalted = 1, time.Since(still.since).Microseconds(), still.threads
		r.HaltedBecause = "the program stood still at the point"
	}
	close(v.point.looked)
	if err == nil && why != nil {
		// Somebody is where nobody may be: perhaps the very one who has reached
		// the point. Calls that are under way get time to go on.
		p, r, err = v.wait.Activate(ctx)
	}
	return p, r, err
}

// longestPause bounds the pause between two attempts while the target runs.
const longestPause = 100 * time.Millisecond

// reach returns when the target stands at the point, or if there is none runs.
func (v *activation) reach(ctx context.Context, deadline <-chan time.Time) (arrival, error) {
	before, advice := "the program went on", "it stays loaded; activate it while the program runs"
	var reached chan arrival
	var failed chan error
	if v.point != nil {
		before, advice = fmt.Sprintf("execution reached %s", v.at), "it stays loaded; wait longer, or take a line that is reached more often"
		reached, failed = v.point.reached, v.point.failed
	}
	for {
		v.s.p.mu.Lock()
		err, runs, changed := v.s.p.ready(), v.s.p.phase == running, v.s.p.changed
		v.s.p.mu.Unlock()
		if err != nil {
			return arrival{}, err
		}
		if v.point == nil && runs {
			reached = make(chan arrival)
			close(reached)
		}
		select {
		case still := <-reached:
			return still, nil
		case err := <-failed:
			return arrival{}, err
		case <-v.wait.Cancelled():
			return arrival{}, v.wait.WasCancelled()
		case <-deadline:
			return arrival{}, finding.Refuse(finding.PointTimeout,
				fmt.Sprintf("patch %s was not activated: the time given was over before %s", v.id, before), advice)
		case <-ctx.Done():
			return arrival{}, finding.Refuse(finding.WrongState,
				fmt.Sprintf("patch %s was not activated: the debug session ended before %s", v.id, before),
				"it stays loaded; activate it in the next session")
		case <-changed:
		}
	}
}
