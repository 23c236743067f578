package patcher_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// TestAPatchIsSwitchedOnWhenTheDebuggerHasLetGo: the entries are led, what the patch
// brings is initialised, and calls run the old code until nobody traces the program.
func TestAPatchIsSwitchedOnWhenTheDebuggerHasLetGo(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "gathered", slices.Concat(gathered, edit{`return "a " + t.label()`, `return fmt.Sprint("one ", t.label(), sums)`}))
	target := s.start(t)
	p, e := attachProcess(t, target)
	patch := load(t, e, m)
	called := 0
	patch, r, err := e.Activate(t.Context(), patch.ID, patcher.ActivateOptions{LetGo: func() error {
		called++
		expect(t, target, "/describe", "a pen")
		return p.Detach()
	}})
	if err != nil || called != 1 || patch.State != patcher.Active || r.Halts < 1 || r.HaltedBecause == "" || r.Operation != patcher.OpActivate {
		t.Fatalf("%v, called %d times, patch %+v, receipt %+v", err, called, patch, r)
	}
	expect(t, target, "/describe", "one pen[0 10 20 30]")
	e.Close()
	if err := p.Close(); err != nil {
		t.Error(err)
	}

	e, detach := attach(t, target)
	expect(t, target, "/describe", "one pen[0 10 20 30]")
	deactivate(t, e, patch)
	expect(t, target, "/describe", "a pen")
	detach()
}

// TestAPatchIsNotSwitchedOnIfSomebodyElseComes: another Darn changes the patches
// between the debugger's letting go and the store.
func TestAPatchIsNotSwitchedOnIfSomebodyElseComes(t *testing.T) {
	exe := cshop(t, "-O2")
	m := cModule(t, "int total(int n) { return 5; }")
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	p, e := attachProcess(t, target)
	patch := load(t, e, m)
	_, _, err := e.Activate(t.Context(), patch.ID, patcher.ActivateOptions{LetGo: func() error {
		if err := p.Detach(); err != nil {
			return err
		}
		other, detach := attach(t, target)
		unload(t, other, patch)
		detach()
		return nil
	}})
	if finding.CodeOf(err) != finding.Busy || !strings.Contains(err.Error(), "somebody else has changed the patches meanwhile") {
		t.Errorf("activate says %v", err)
	}
	prints(t, target, " total=20 ")
	target.MustLive()
}
