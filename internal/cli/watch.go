package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// watchTime is for how long darn activate looks on, guard.QuarantineTime. Only the
// linker changes it, for tests.
var watchTime = "10s"

// activating notes that a patch is about to be activated, and returns what notes
// that it was.
func (a *app) activating(ctx context.Context, e *patcher.Engine, act *guard.Act, id string) (done func(*patcher.Receipt), err error) {
	listing, err := e.Known(ctx)
	if err != nil {
		return nil, err
	}
	var active []patcher.Patch
	patch := &patcher.Patch{ID: id}
	for _, p := range listing.Patches {
		if p.State == patcher.Active {
			active = append(active, p)
		}
		if p.ID == id {
			patch = &p
		}
	}
	if err := act.Activate(patch); err != nil {
		return nil, err
	}
	v := act.NewActivation(patch, nil, active)
	v.Activated = time.Now()
	a.activations = append(a.activations, v)
	return func(r *patcher.Receipt) { v.Activated, v.Receipt = time.Now(), r }, nil
}

// letGo returns what lets a process go before its patch is switched on and begins
// to look on: then what happens at once is seen too. It is nil if nobody looks on, or
// another process will be attached to, which the Watch would be in the way of.
func (a *app) letGo() func() error {
	if a.watch == nil || !a.last {
		return nil
	}
	return func() error {
		if err := a.detach(); err != nil {
			return err
		}
		return a.watch.Begin()
	}
}

// lookOn watches processes in which patches were activated, for a while, and says
// what became of those that have ended. err is what the activations came to.
func (a *app) lookOn(ctx context.Context, d time.Duration, err error) error {
	// One that was refused has nobody to answer for.
	if err != nil && finding.CodeOf(err) != finding.TargetExited {
		a.activations = slices.DeleteFunc(a.activations, func(v *guard.Activation) bool { return v.Receipt == nil })
	}
	if len(a.activations) == 0 {
		return err
	}
	show, wipe := progress(a.stderr)
	begun := time.Now()
	show(fmt.Sprintf("looking on until %s, in case that the process ends; Ctrl-C ends that, and the patch stays", begun.Add(d).Format(time.TimeOnly)), 0, 0)
	ends := a.watch.Run(ctx, d)
	wipe()
	if who := a.watch.Asked(); who != "" {
		fmt.Fprintf(a.stderr, "darn: looked on for %v only: another darn (%s) wants the process\n", time.Since(begun).Round(10*time.Millisecond), who)
	}
	var blamed finding.Refusal
	for _, end := range ends {
		if seen := a.ends[end.PID]; seen != nil && !end.Known {
			seen.Last, seen.Exe = end.Last, end.Exe
			end = seen
		}
		// A child that shares the patches of another process has no activation of its
		// own.
		i := max(slices.IndexFunc(a.activations, func(v *guard.Activation) bool { return v.PID == end.PID }), 0)
		if x := a.ended(a.activations[i], end); x != nil {
			blamed.Findings = append(blamed.Findings, *x)
		}
	}
	if len(blamed.Findings) > 0 {
		return &blamed
	}
	return err
}

// ended says that a process has ended in which a patch was activated, and keeps
// what is known of it if that may be the patch's fault.
func (a *app) ended(v *guard.Activation, end *process.End) *finding.Finding {
	c := v.Ended(end)
	if !end.Crashed() {
		fmt.Fprintf(a.stderr, "darn: %v; that is not held against it\n", c)
		return nil
	}
	path, err := a.guard.Quarantine(c)
	advice := fmt.Sprintf("the module is refused for this build of the program until it is loaded with --force; what was seen of the end is in %s", path)
	if err != nil {
		advice = fmt.Sprintf("what was seen of the end could not be kept: %v", err)
	}
	return &finding.Finding{Code: finding.TargetExited, Severity: finding.Error, Message: c.String(), Advice: advice}
}
