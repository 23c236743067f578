package patcher

import (
	"context"
	"fmt"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// A halt that finds the target at an unsuitable instant is given up and tried
// again: often enough that a busy target gets past it, and not for ever.
const (
	manyTries = 100
	fewTries  = 10                   // where waiting rarely helps
	haltPause = 2 * time.Millisecond // grows with every try
)

// haltUntil halts the target and runs f until f has no reason to retry, at
// most tries times; then the last reason is the error. The target runs between
// the tries. If its user has stopped it nothing would change between two
// tries, so there is only one. why is what receipts say of it.
func (e *Engine) haltUntil(ctx context.Context, why string, tries int, f func(*process.Halt) (retry *finding.Refusal, err error)) error {
	e.lang.Prepare()
	for try := 1; ; try++ {
		var retry *finding.Refusal
		var stopped bool
		err := e.p.HaltFor(ctx, why, func(h *process.Halt) (err error) {
			stopped = !h.WasRunning()
			if retry, err = f(h); retry == nil && err == nil && !e.once {
				e.station(h) // for what comes next
			}
			return err
		})
		if err != nil || retry == nil {
			return err
		}
		if stopped {
			retry.Findings[0].Advice += "; the program is stopped: continue it, then try again"
			return retry
		}
		if try == tries {
			retry.Findings[0].Message += fmt.Sprintf(" (so it was at %d looks)", try)
			return retry
		}
		select {
		case <-time.After(time.Duration(try) * haltPause):
		case <-ctx.Done():
			return retry
		}
	}
}

// started returns a reason to try again if the program has only just begun.
func (e *Engine) started(h *process.Halt) (retry *finding.Refusal, err error) {
	started, err := e.lang.Started(h)
	if err == nil && !started {
		retry = finding.Refuse(finding.WrongState,
			"the program has only just begun, and its runtime is not set up yet",
			"let it run a little, then try again")
	}
	return retry, err
}

// quiet returns a reason to try again if the runtime is at work on what a
// load or an unload changes.
func (e *Engine) quiet(h *process.Halt) (retry *finding.Refusal, err error) {
	if retry, err = e.started(h); retry != nil || err != nil {
		return retry, err
	}
	idle, err := e.lang.Idle(h)
	if err == nil && !idle {
		retry = finding.Refuse(finding.GCTimeout,
			"the garbage collector is at work, or a goroutine holds the runtime's itab lock",
			"try again at a quieter moment")
	}
	return retry, err
}
