package adapter

import (
	"encoding/json"
	"strings"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
)

// stopReason is why a target stopped, in the words of a stopped event.
type stopReason struct {
	reason, description, text string
	thread                    int64 // as threads.idOf has it
	breakpoints               []int
}

// Prefixes by which Delve's session names the breakpoints it sets.
const (
	functionBreakpoint    = "functionBreakpoint"
	instructionBreakpoint = "instructionBreakpoint"
)

// coincidence returns the reason for which the session will report a stop that
// met a halt, nil if it will not, or if it's for a breakpoint of Darn's own. The
// group is locked and stopped.
func coincidence(group *proc.TargetGroup, idOf func(proc.Thread) int64) *stopReason {
	target := group.Selected
	threads := append([]proc.Thread{target.CurrentThread()}, target.ThreadList()...)
	for _, th := range threads {
		bp := th.Breakpoint()
		if bp.Breakpoint == nil || !bp.Active || bp.Logical == nil || bp.Logical.Tracepoint || isPlace(bp.Logical) {
			continue
		}
		r := reasonOf(bp)
		r.thread = idOf(th)
		switch bp.Logical.Name {
		case proc.FatalThrow:
			r.reason, r.description, r.text = "exception", "fatal error", evalString(target, r.thread, "s")
		case proc.UnrecoveredPanic:
			r.reason, r.description, r.text = "exception", "panic", evalString(target, r.thread, "(*msgs).arg.(data)")
		}
		return r
	}
	return nil
}

// reasonOf returns the reason for which a thread has stopped at a breakpoint of
// the client's.
func reasonOf(bp *proc.BreakpointState) *stopReason {
	r := &stopReason{reason: "breakpoint", breakpoints: []int{bp.LogicalID()}}
	switch name := bp.Logical.Name; {
	case bp.WatchType != 0:
		r.reason, r.breakpoints = "data breakpoint", nil
	case strings.HasPrefix(name, functionBreakpoint):
		r.reason = "function breakpoint"
	case strings.HasPrefix(name, instructionBreakpoint):
		r.reason = "instruction breakpoint"
	}
	return r
}

// evalString returns the value of an expression in the top frame of a
// goroutine as Delve's session shows it, "" if there is none.
func evalString(target *proc.Target, goroutine int64, expr string) string {
	scope, err := proc.ConvertEvalScope(target, goroutine, 0, 0)
	if err != nil {
		return ""
	}
	v, err := scope.EvalExpression(expr, proc.LoadConfig{FollowPointers: true, MaxStringLen: 512, MaxStructFields: -1})
	if err != nil || v.Value == nil {
		return ""
	}
	return v.Value.String()
}

// report puts r into a stopped event that says pause.
func (r *stopReason) report(event []byte) []byte {
	return edit(event, "body", func(old []byte) []byte {
		var body dap.StoppedEventBody
		if err := json.Unmarshal(old, &body); err != nil {
			return old
		}
		if r == nil {
			// Nobody asked for a pause, and the only other stop that the session
			// takes for one is a breakpoint in the program's text.
			body.Reason, body.HitBreakpointIds = "breakpoint", []int{}
			return marshal(body)
		}
		body.Reason, body.Description = r.reason, r.description
		if r.text != "" {
			body.Text = r.text
		}
		body.HitBreakpointIds = r.breakpoints
		if r.thread != 0 {
			body.ThreadId = int(r.thread)
		}
		return marshal(body)
	})
}
