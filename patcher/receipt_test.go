package patcher_test

import (
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/internal/meter"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// A receipt says for how long the program was halted; the program itself sees
// the same, neither more nor less. Other programs can keep it from running too,
// or Darn from looking at the clock, so that not each operation agrees; of each
// kind one has to.
func TestReceiptsAgreeWithTheMeter(t *testing.T) {
	m := cModule(t, "int answer(int n) { return n + 43; }")
	exe := targettest.Build(t, "meter.c")
	for _, test := range []struct {
		name    string
		options []func(*patcher.Engine)
	}{
		{"with the resident thread", nil},
		{"without", []func(*patcher.Engine){patcher.WithoutResident()}},
	} {
		t.Run(test.name, func(t *testing.T) {
			mt := meter.StartC(t, exe, 4)
			e, _, _ := attachCounting(t, mt.Target, test.options...)
			mustAgree(t, e, mt, m, test.options == nil)
		})
	}
}

// mustAgree does all operations with a module; running tells that its first
// activation must not halt.
func mustAgree(t *testing.T, e *patcher.Engine, mt *meter.Meter, m string, running bool) {
	t.Helper()
	var patch *patcher.Patch
	operations := []struct {
		name string
		do   func() (*patcher.Receipt, error)
	}{
		{"load", func() (r *patcher.Receipt, err error) { patch, r, err = e.Load(t.Context(), m); return r, err }},
		{"first activation", func() (*patcher.Receipt, error) { return activate(t, e, patch), nil }},
		{"deactivation", func() (*patcher.Receipt, error) { return deactivate(t, e, patch), nil }},
		{"unload", func() (r *patcher.Receipt, err error) {
			// Refused as long as somebody is in the new code.
			for range 1000 {
				if r, err = e.Unload(t.Context(), patch.ID); err == nil {
					break
				}
			}
			return r, err
		}},
	}
	const tries = 50
	agreed := map[string]bool{}
	for range tries {
		nothing := mt.During(func() {}).Longest()
		for _, o := range operations {
			var r *patcher.Receipt
			var err error
			seen := mt.During(func() { r, err = o.do() }).Longest()
			if err != nil {
				t.Fatalf("%s: %v", o.name, err)
			}
			if o.name == "first activation" && (r.Halts == 0) != running {
				t.Errorf("the first activation makes %d halts, because %s", r.Halts, r.HaltedBecause)
			}
			halt := time.Duration(r.HaltMicros) * time.Microsecond
			tolerance := 500*time.Microsecond + halt/10
			switch {
			case r.Halts == 0 && halt == 0 && seen <= nothing+tolerance,
				// Several halts would be seen one by one.
				r.Halts == 1 && (seen-halt).Abs() <= tolerance:
				agreed[o.name] = true
			}
			t.Logf("%s: %d halts, %v; the program saw %v, and %v without it", o.name, r.Halts, halt, seen, nothing)
		}
		if len(agreed) == len(operations) {
			return
		}
	}
	for _, o := range operations {
		if !agreed[o.name] {
			t.Errorf("%s: what the program saw and what the receipt says don't agree in any of %d tries", o.name, tries)
		}
	}
}
