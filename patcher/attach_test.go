package patcher_test

import (
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
)

// TestAnAttachForALoadIsItsOnlyHalt: what a load needs of a halt is done while the
// process is stopped to be attached to.
func TestAnAttachForALoadIsItsOnlyHalt(t *testing.T) {
	s := newShop(t)
	exe := cshop(t, "-O0", "-fcf-protection", "-falign-functions=16")
	for _, test := range []struct {
		name, module string
		target       func() *targettest.Target
		see          func(*targettest.Target)
	}{
		{"Go", s.module(t, "describe", edit{`return "a " + t.label()`, `return "one " + t.label()`}),
			func() *targettest.Target { return s.start(t) },
			func(target *targettest.Target) { expect(t, target, "/describe", "a pen") }},
		{"C", cModule(t, pricier),
			func() *targettest.Target { return targettest.Start(t, targettest.Command{Path: exe}) },
			func(target *targettest.Target) { prints(t, target, " total=20 ") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := test.target()
			test.see(target)
			before := snapshot(t, target.Pid())
			m, err := module.Open(test.module)
			if err != nil {
				t.Fatal(err)
			}
			attach := func(options ...func(*patcher.Engine)) (e *patcher.Engine, halts func() int, detach func()) {
				t.Helper()
				p, e, err := patcher.Attach(target.Pid(), options...)
				if err != nil {
					t.Fatal(err)
				}
				stop := p.Measure()
				return e, func() int { return stop().Halts }, func() {
					t.Helper()
					e.Close()
					if err := p.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
			// What is not loaded after all leaves nothing.
			_, _, detach := attach(patcher.ForLoading(m))
			targettest.Eventually(t, "the thread", func() bool { return len(residents(t, target)) == 1 })
			detach()
			if d := before.diff(snapshot(t, target.Pid())); d != "" {
				t.Errorf("the process is not as it was:\n%s", d)
			}

			e, halts, detach := attach(patcher.ForOneOperation(), patcher.ForLoading(m))
			p, r, err := e.LoadModule(t.Context(), m, test.module, patcher.LoadOptions{})
			must(t, r, err, halts(), 0)
			detach()
			e, halts, detach = attach(patcher.ForOneOperation())
			_, r, err = e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
			must(t, r, err, halts(), 0)
			detach()
			if n := residents(t, target); len(n) != 0 {
				t.Errorf("the threads %v stay behind", n)
			}
			e, _, detach = attach(patcher.WithoutResident())
			if _, _, err := e.Deactivate(t.Context(), p.ID); err != nil {
				t.Fatal(err)
			}
			targettest.Eventually(t, "an unload", func() bool {
				_, err := e.Unload(t.Context(), p.ID)
				return finding.CodeOf(err) == ""
			})
			detach()
			if d := before.diff(snapshot(t, target.Pid())); d != "" {
				t.Errorf("unloaded, the process is not as it was:\n%s", d)
			}
			test.see(target)
		})
	}
}
