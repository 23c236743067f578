package adapter

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"
)

// A step into a call ends, for Delve, in the function that is called, behind its
// entry: of a patched one in old code, which nobody comes by. So for the time of
// the step there is a breakpoint of Darn's in all new code, for the goroutine
// or thread that steps; where it stops the step has ended. That is in patches too
// that are not active: activating one does not halt the target, and so may come
// during the step.

// prepareStepIn gets new code ready for a step of the client's into a call.
func (s *patches) prepareStepIn(h *header) {
	var a dap.StepInArguments
	if json.Unmarshal(h.Arguments, &a) != nil || a.Granularity == "instruction" || a.ThreadId <= 0 {
		return
	}
	var entries []uint64
	s.lostMu.Lock()
	for _, p := range s.loaded {
		for _, f := range p.Functions {
			if f.NewAddress != 0 {
				entries = append(entries, f.NewAddress)
			}
		}
	}
	s.lostMu.Unlock()
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), holdPatience)
	defer cancel()
	// What can't be set is stepped over.
	_, _ = s.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		w := &s.watches
		w.mu.Lock()
		defer w.mu.Unlock()
		var addrs []uint64
		for _, entry := range entries {
			addrs = append(addrs, begins(group.Selected, entry))
		}
		step, err := w.newPlace("step into new code", addrs, false)
		if err != nil {
			return err
		}
		if err := step.set(group, ""); err != nil {
			return err
		}
		if err := group.ChangeBreakpointCondition(step.bp, s.p.threads.isCondition(a.ThreadId), "", false); err != nil {
			step.remove(group)
			return err
		}
		w.step = step
		return nil
	})
}

// reportStep has a stopped event say that a step has ended.
func reportStep(event []byte) []byte {
	return edit(event, "body", func(old []byte) []byte {
		var body dap.StoppedEventBody
		if json.Unmarshal(old, &body) != nil || body.Reason == "pause" || body.Reason == "exception" {
			return old
		}
		body.Reason, body.Description, body.Text, body.HitBreakpointIds = "step", "", "", nil
		return marshal(body)
	})
}

// isInterrupted tells whether an output event says that a breakpoint has
// interrupted a step.
func isInterrupted(h *header) bool {
	var body dap.OutputEventBody
	_ = json.Unmarshal(h.Body, &body)
	return strings.HasPrefix(body.Output, "Step interrupted by a breakpoint")
}
