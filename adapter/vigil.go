package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// vigil notices that a target ends soon after a patch was activated, and puts the
// patch's module into quarantine. A Go program that is about to end by a panic or
// by the runtime's own judgement is stopped by the session before: its threads can
// be looked at then. Of another only the end is seen: the session lets the signal
// pass.
type vigil struct {
	s *patches

	mu      sync.Mutex
	recent  []*guard.Activation // within guard.QuarantineTime of the target's running
	looking bool                // at a stop that may be the last one
}

// activated notes an activation.
func (v *vigil) activated(ctx context.Context, e *patcher.Engine, p *patcher.Patch, r *patcher.Receipt) {
	act, err := v.s.p.guard.Begin("list", e.Target().PID, false)
	if err != nil {
		return
	}
	act.Target(e.Target())
	var active []patcher.Patch
	if l, err := e.Known(context.WithoutCancel(ctx)); err == nil {
		for _, q := range l.Patches {
			if q.State == patcher.Active {
				active = append(active, q)
			}
		}
	}
	a := act.NewActivation(p, r, active)
	a.Activated = time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recent = append(v.current(), a)
}

// current returns the activations that are recent now. Called with v.mu held.
func (v *vigil) current() (now []*guard.Activation) {
	for _, a := range v.recent {
		if time.Since(a.Activated) <= guard.QuarantineTime {
			now = append(now, a)
		}
	}
	return now
}

// take returns the recent activations, which are not answered for again.
func (v *vigil) take() []*guard.Activation {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.current()
	v.recent = nil
	return now
}

// stopped looks whether the target has stopped for the last time. It is called
// with the session's stopped event, and with the proxy's mu held.
func (v *vigil) stopped(h *header) {
	var body dap.StoppedEventBody
	_ = json.Unmarshal(h.Body, &body)
	v.mu.Lock()
	defer v.mu.Unlock()
	if body.Reason != "exception" || len(v.current()) == 0 || v.looking {
		return
	}
	v.looking = true
	go v.s.start(func(ctx context.Context) { // it may have to wait for the proxy's mu
		defer func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.looking = false
		}()
		ctx, cancel := context.WithTimeout(ctx, holdPatience)
		defer cancel()
		var c *guard.Case
		_, _ = v.s.p.withTarget(ctx, func(group *proc.TargetGroup) error {
			c = lastWords(group.Selected)
			return nil
		})
		if c == nil {
			return
		}
		for _, a := range v.take() {
			seen := a.Case
			seen.Ended, seen.How, seen.Registers, seen.Stack, seen.Note = time.Now(), c.How, c.Registers, c.Stack, c.Note
			v.keep(&seen)
		}
	})
}

// lastWords describes a thread at which Delve has stopped the target since the
// runtime is about to end it, nil if there is none. The target is stopped.
func lastWords(target *proc.Target) *guard.Case {
	for _, thread := range target.ThreadList() {
		bp := thread.Breakpoint()
		if bp.Breakpoint == nil || bp.Logical == nil {
			continue
		}
		c := &guard.Case{Registers: make(map[string]string)}
		switch bp.Logical.Name {
		case proc.UnrecoveredPanic:
			c.How = "has panicked"
		case proc.FatalThrow:
			c.How = "has met a fatal error"
		default:
			continue
		}
		if regs, err := thread.Registers(); err == nil {
			if all, err := regs.Slice(false); err == nil {
				for _, r := range all {
					c.Registers[r.Name] = fmt.Sprintf("%#x", r.Reg.Uint64Val)
				}
			}
		}
		frames, err := proc.ThreadStacktrace(target, thread, maxLastFrames)
		if g, gerr := proc.GetG(thread); gerr == nil && g != nil {
			frames, err = proc.GoroutineStacktrace(target, g, maxLastFrames, 0)
			c.Note = fmt.Sprintf("goroutine %d, as it was about to end the program", g.ID)
		}
		if err != nil {
			c.Note = fmt.Sprintf("its stack could not be read: %v", err)
		}
		for _, f := range frames {
			name := "?"
			if f.Call.Fn != nil {
				name = f.Call.Fn.Name
			}
			c.Stack = append(c.Stack, fmt.Sprintf("%#x %s %s:%d", f.Current.PC, name, f.Call.File, f.Call.Line))
		}
		return c
	}
	return nil
}

// maxLastFrames bounds how much of a stack is kept.
const maxLastFrames = 64

// exited judges the end of the target. It is called with the session's event, and
// with the proxy's mu held.
func (v *vigil) exited(h *header) {
	var body dap.ExitedEventBody
	if h.Event != "exited" || json.Unmarshal(h.Body, &body) != nil {
		return
	}
	end := &process.End{Time: time.Now(), Known: true, Status: body.ExitCode}
	if body.ExitCode < 0 {
		end.Signal, end.Status = unix.Signal(-body.ExitCode), 0
	}
	if !end.Crashed() || !v.s.p.attached && end.Signal == 0 && end.Status != panicStatus {
		return // a program that was launched here may be meant to fail, as a test is
	}
	for _, a := range v.take() {
		end.PID = a.PID
		v.keep(a.Ended(end))
	}
}

// panicStatus is with what a Go program exits that ends by a panic or a fatal
// error.
const panicStatus = 2

// keep puts a module into quarantine and tells the client.
func (v *vigil) keep(c *guard.Case) {
	path, err := v.s.p.guard.Quarantine(c)
	if path == "" && err == nil {
		return
	}
	text := fmt.Sprintf("Darn: %v. Its module is refused for this build of the program until it is loaded with force; what was seen of the end is in %s\n", c, path)
	if err != nil {
		text = fmt.Sprintf("Darn: %v. What was seen of the end could not be kept: %v\n", c, err)
	}
	v.s.p.event("output", dap.OutputEventBody{Category: "stderr", Output: text})
}
