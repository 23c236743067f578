package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
)

// Halter stops a target. Only one Stop exists at a time.
type Halter interface {
	// Halt returns with every thread of the target stopped and the target
	// group locked. If ctx ends first the target is left running (or made to
	// run again as soon as it stops) and an error is returned.
	Halt(ctx context.Context) (*Stop, error)
}

// Stop is a target with every thread stopped.
type Stop struct {
	// Group is the target group, locked for the holder of the Stop.
	Group *proc.TargetGroup
	// WasRunning tells whether the target ran before, so that the Stop is a
	// halt.
	WasRunning bool
	// Since is when the target was asked to stop. If it's zero, the time at
	// which Halt was called is taken.
	Since time.Time
	// Release gives the target back: it runs again if WasRunning, and the
	// group is unlocked. It's called exactly once.
	Release func() error
}

// HaltStats says for how long a target was kept from running.
type HaltStats struct {
	// Halts counts the halts; a stop of a target that was stopped already is
	// none.
	Halts int
	// Total and Max are measured from the request to stop until the target
	// runs again.
	Total, Max time.Duration
	// ThreadsHalted is the greatest number of threads kept from running at
	// once.
	ThreadsHalted int
	// Because says why, as far as HaltFor was told; reasons are separated by "; ".
	Because string
}

// because returns reasons together, each once.
func because(reasons, more string) string {
	switch {
	case more == "" || strings.Contains(reasons, more):
		return reasons
	case reasons == "":
		return more
	}
	return reasons + "; " + more
}

// Add returns what s and t count together.
func (s HaltStats) Add(t HaltStats) HaltStats {
	return HaltStats{
		Halts: s.Halts + t.Halts, Total: s.Total + t.Total, Max: max(s.Max, t.Max),
		ThreadsHalted: max(s.ThreadsHalted, t.ThreadsHalted), Because: because(s.Because, t.Because),
	}
}

// Thread is one thread of a halted target.
type Thread struct {
	ID     int // as the kernel numbers it
	PC, SP uint64
	// FSBase is the thread pointer (fs base).
	FSBase uint64
	// Regs holds the sixteen general registers: rax, rbx, rcx, rdx, rsi, rdi,
	// rbp, rsp, r8 to r15.
	Regs []uint64
}

// Halt is a target with every thread stopped, for the time of a function that
// was passed to Process.Halt. Its methods return an error afterwards. It must
// be used by one goroutine at a time.
type Halt struct {
	p      *Process
	stop   *Stop
	tracer ptracer
	over   bool
	tid    int // the thread that did the last remote system call
}

// Halt stops every thread of the target, runs fn, and lets the target run again
// if it did before. It's measured. An error of fn is returned as it is, or as
// target-exited if the target has ended. A call while a Halt exists, from fn
// itself too, is refused with busy. If ctx ends before the target has stopped
// the target goes on, and it's refused with busy.
func (p *Process) Halt(ctx context.Context, fn func(h *Halt) error) error {
	return p.HaltFor(ctx, "", fn)
}

// HaltFor is Halt, and tells those who measure why the target is halted.
func (p *Process) HaltFor(ctx context.Context, why string, fn func(h *Halt) error) (err error) {
	p.mu.Lock()
	busy, closed := p.halted, p.closed
	p.halted = true
	p.mu.Unlock()
	if busy {
		return finding.Refuse(finding.Busy, fmt.Sprintf("process %d is being halted already", p.pid), "try again when that has ended")
	}
	defer func() {
		p.mu.Lock()
		p.halted = false
		p.mu.Unlock()
	}()
	if closed {
		return fmt.Errorf("process %d: %w", p.pid, os.ErrClosed)
	}
	if err := awaitStoppable(ctx, p.pid); err != nil {
		return err
	}
	called := time.Now()
	stop, err := p.halter.Halt(ctx)
	if err != nil {
		return p.explain(err)
	}
	if stop.Since.IsZero() {
		stop.Since = called
	}
	h := &Halt{p: p, stop: stop}
	threads := 0
	// Also if fn panics the target must go on.
	defer func() {
		if failed := h.end(); failed != nil {
			err = errors.Join(err, failed)
		}
		if rerr := stop.Release(); rerr != nil {
			err = errors.Join(err, rerr)
		}
		err = p.explain(err)
		if stop.WasRunning {
			p.measured(time.Since(stop.Since), threads, why)
		}
	}()
	if err := h.valid(); err != nil {
		return err
	}
	if p.replaced() {
		return replacedItself(p.pid)
	}
	if h.tracer, err = tracerOf(h.Target()); err != nil {
		return err
	}
	threads = len(h.Target().ThreadList())
	return fn(h)
}

// standing is a Halt of a target that stands still anyway, until its end is called.
func (p *Process) standing(group *proc.TargetGroup, tracer ptracer) *Halt {
	return &Halt{p: p, stop: &Stop{Group: group}, tracer: tracer}
}

// end is the end of h, before the target runs again.
func (h *Halt) end() error {
	h.over = true
	return h.takeGadget()
}

// Measure begins to count halts; stop ends it and returns what was counted.
// Several counts may go on at once.
func (p *Process) Measure() (stop func() HaltStats) {
	s := new(HaltStats)
	p.mu.Lock()
	p.meters[s] = struct{}{}
	p.mu.Unlock()
	return func() HaltStats {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.meters, s)
		return *s
	}
}

// measured counts one halt.
func (p *Process) measured(d time.Duration, threads int, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.meters {
		s.Halts++
		s.Total += d
		s.Max = max(s.Max, d)
		s.ThreadsHalted = max(s.ThreadsHalted, threads)
		s.Because = because(s.Because, why)
	}
}

// valid returns why the Halt can't be used, if so.
func (h *Halt) valid() error {
	if h.over {
		return errors.New("the halt is over")
	}
	t := h.Target()
	if t == nil {
		return exited(h.p.pid, nil)
	}
	if ok, err := t.Valid(); !ok {
		return h.p.explain(err)
	}
	return nil
}

// Process returns the halted process.
func (h *Halt) Process() *Process { return h.p }

// WasRunning tells whether the target ran before, and will run again.
func (h *Halt) WasRunning() bool { return h.stop.WasRunning }

// Group returns Delve's target group, locked for the time of the Halt.
func (h *Halt) Group() *proc.TargetGroup { return h.stop.Group }

// Target returns Delve's target in the group; nil if it's no more in it.
func (h *Halt) Target() *proc.Target {
	for _, t := range h.stop.Group.Targets() {
		if t.Pid() == h.p.pid {
			return t
		}
	}
	return nil
}

// ClearCaches makes Delve forget what it read from the target: to be called
// after changing what it may have read, such as goroutines and module data.
func (h *Halt) ClearCaches() {
	if t := h.Target(); t != nil && !h.over {
		t.ClearCaches()
	}
}

// Threads returns every thread with its registers. A thread that has just ended
// is left out.
func (h *Halt) Threads() ([]Thread, error) {
	if err := h.valid(); err != nil {
		return nil, err
	}
	tids := h.threadIDs()
	threads := make([]Thread, 0, len(tids))
	var err error
	h.tracer.do(func() {
		for _, tid := range tids {
			var r unix.PtraceRegs
			switch e := unix.PtraceGetRegs(tid, &r); e {
			case nil:
				threads = append(threads, Thread{
					ID: tid, PC: r.Rip, SP: r.Rsp, FSBase: r.Fs_base,
					Regs: []uint64{r.Rax, r.Rbx, r.Rcx, r.Rdx, r.Rsi, r.Rdi, r.Rbp, r.Rsp, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15},
				})
			case unix.ESRCH:
			default:
				err = fmt.Errorf("registers of thread %d: %w", tid, e)
			}
		}
	})
	if err == nil && len(threads) == 0 {
		return nil, exited(h.p.pid, nil)
	}
	return threads, h.p.explain(err)
}

// threadIDs returns the threads that Delve knows, in the order of their ids.
func (h *Halt) threadIDs() []int {
	var tids []int
	for _, th := range h.Target().ThreadList() {
		tids = append(tids, th.ThreadID())
	}
	slices.Sort(tids)
	return tids
}

// Eval evaluates an expression over package-level variables, functions and
// constants, such as runtime.allglen, in Delve's syntax and without any local
// scope. Only the value's head is loaded: no strings, elements or fields;
// its DwarfType, Addr and Kind are set, and a number has its Value.
func (h *Halt) Eval(expr string) (*proc.Variable, error) {
	if err := h.valid(); err != nil {
		return nil, err
	}
	t := h.Target()
	// A frame without a function has no locals that could hide a package.
	scope := proc.FrameToScope(t, t.Memory(), nil, 0, proc.Stackframe{})
	v, err := scope.EvalExpression(expr, proc.LoadConfig{})
	if err != nil && err.Error() == "unable to find function context" {
		// What the search for a local said, before the one for a global failed.
		err = errors.New("there is no such package-level variable, function or constant")
	}
	if err != nil {
		return nil, h.p.explain(fmt.Errorf("evaluating %s: %w", expr, err))
	}
	if v.Unreadable != nil {
		return nil, h.p.explain(fmt.Errorf("evaluating %s: %w", expr, v.Unreadable))
	}
	return v, nil
}
