package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/fault"
)

// tracer is the Halter of Attach. A goroutine of it is inside Delve's Continue
// whenever the target runs. It works on the target group and not through
// debugger.Debugger, whose description of every thread at every stop takes as
// long as the stop itself.
type tracer struct {
	group *proc.TargetGroup // to be touched only while stopped, but to request a stop
	pid   int
	turn  chan struct{} // holds a token while somebody halts the target
	last  func()        // is called when the target is stopped for the last time
	done  chan struct{} // closed when the target can't be halted any more

	mu      sync.Mutex
	wanted  bool          // somebody wants to halt: the next stop is his
	resumed chan struct{} // closed when Delve has let every thread run
	stopped chan error    // gets the result of the Continue that ends the run
	lost    bool          // the target is being let go, and must not be signalled
	ended   error         // why the target can't be halted any more
	end     *End          // how the target ended, if it has
}

func newTracer(group *proc.TargetGroup) *tracer {
	return &tracer{group: group, pid: group.Selected.Pid(), turn: make(chan struct{}, 1), done: make(chan struct{})}
}

// resume lets the target run. Stops that nobody asked for (a breakpoint
// compiled into the program, a signal of a debugger before us) are passed over
// silently.
func (t *tracer) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted = false
	stopped := make(chan error, 1)
	t.stopped = stopped
	t.prepare()
	go func() {
		for {
			err := t.group.Continue()
			if err != nil {
				err = t.letGo(err)
			}
			t.mu.Lock()
			if err != nil || t.wanted {
				t.mu.Unlock()
				stopped <- err
				return
			}
			t.prepare()
			t.mu.Unlock()
		}
	}()
}

// prepare must be called before each Continue, under mu: Continue forgets a
// request to stop that is made before the threads run, and reads memory by a thread
// that may have ended when it stops them.
func (t *tracer) prepare() {
	ReadByLeader(t.group.Selected)
	t.resumed = make(chan struct{})
	t.group.ResumeNotify(t.resumed)
}

// Halt implements Halter.
func (t *tracer) Halt(ctx context.Context) (*Stop, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, t.gaveUp(ctx)
	}
	t.mu.Lock()
	still := t.stopped == nil
	t.mu.Unlock()
	if still { // in AttachAnd
		return &Stop{Group: t.group, Release: func() error { <-t.turn; return nil }}, nil
	}
	since, err := t.stop(ctx)
	if err != nil {
		return nil, err
	}
	return &Stop{
		Group:      t.group,
		WasRunning: true,
		Since:      since,
		Release: func() error {
			t.resume()
			err := t.awaitResumed()
			<-t.turn
			return err
		},
	}, nil
}

// stop stops the target for the holder of the turn. If it fails it gives the
// turn back.
func (t *tracer) stop(ctx context.Context) (since time.Time, err error) {
	t.mu.Lock()
	if t.ended != nil {
		t.mu.Unlock()
		<-t.turn
		return since, t.ended
	}
	t.wanted = true
	resumed, stopped := t.resumed, t.stopped
	t.mu.Unlock()

	select {
	case <-resumed:
		since = time.Now()
		t.mu.Lock()
		if !t.lost {
			// An error means that the target has ended, which Continue tells too.
			_ = t.group.RequestManualStop()
		}
		t.mu.Unlock()
	case err = <-stopped:
		since = time.Now()
		return since, t.settle(err)
	}
	select {
	case err = <-stopped:
		return since, t.settle(err)
	case <-ctx.Done():
		// The request is out. When it has its effect the target must go on.
		go func() {
			if t.settle(<-stopped) == nil {
				t.resume()
				<-t.turn
			}
		}()
		return since, t.gaveUp(ctx)
	}
}

// letGo is called with an error of Continue, which leaves the target ended or
// stopped: Delve can't read, for one, the libraries of a program that has
// replaced itself. Then nothing is left to do but to detach.
func (t *tracer) letGo(err error) error {
	t.mu.Lock()
	t.lost, t.end = true, endOf(err, t.pid)
	t.mu.Unlock()
	if _, ok := errors.AsType[proc.ErrProcessExited](err); ok {
		return exited(t.pid, err)
	}
	err = errors.Join(fmt.Errorf("process %d can't be traced any more: %w", t.pid, err), release(t.group))
	if !threadLives(t.pid) {
		return exited(t.pid, err)
	}
	return err
}

// settle is called with the result of a run. It returns nil if the target is
// stopped and fit to be worked on; otherwise it gives the turn back.
func (t *tracer) settle(err error) error {
	if err == nil {
		if err = DrainTraps(t.group); err == nil {
			return nil
		}
		err = t.letGo(err)
	}
	t.over(err)
	return err
}

// over notes, for the holder of the turn, why the target can't be halted any more, and
// gives the turn back.
func (t *tracer) over(why error) {
	t.mu.Lock()
	t.ended = why
	t.mu.Unlock()
	close(t.done)
	<-t.turn
}

func (t *tracer) gaveUp(ctx context.Context) error {
	return finding.Refuse(finding.Busy,
		fmt.Sprintf("process %d could not be halted in time: %v", t.pid, ctx.Err()),
		"try again; a thread that is in an uninterruptible system call keeps a process from halting")
}

// awaitResumed waits until every thread runs, or the target has ended, which
// the next halt will tell.
func (t *tracer) awaitResumed() error {
	t.mu.Lock()
	resumed, stopped := t.resumed, t.stopped
	t.mu.Unlock()
	select {
	case <-resumed:
	case err := <-stopped:
		stopped <- err
	}
	return nil
}

// detach halts the target and lets it go. One that has ended or was let go is no
// error.
func (t *tracer) detach() error {
	t.turn <- struct{}{}
	t.mu.Lock()
	gone := t.ended != nil
	t.mu.Unlock()
	if gone {
		<-t.turn
		return nil
	}
	if err := awaitStoppable(context.Background(), t.pid); err != nil {
		<-t.turn
		return err // the kernel lets it go when Darn ends
	}
	if _, err := t.stop(context.Background()); err != nil {
		return nil // it has ended or was let go
	}
	fault.Point()
	t.last()
	fault.Point()
	err := release(t.group)
	fault.Point()
	t.over(proc.ErrProcessDetached)
	return err
}
