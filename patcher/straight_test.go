package patcher_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/redirect"
)

// calls is a target whose functions are leaf, whose first instruction has room for
// a jump to anywhere, and checked, which checks the stack first.
func newCalls(t testing.TB) *shop { return newProgram(t, "calls") }

var dearer = edit{"a*1000 + b", "a*2000 + b", "a + 3000", "a + 4000"}

// dearerModule is the module of dearer, built once.
var dearerModule string

func newDearer(t testing.TB) (s *shop, module string) {
	t.Helper()
	s = newCalls(t)
	if dearerModule == "" {
		built, err := os.ReadFile(s.module(t, "dearer", dearer))
		if err == nil {
			dearerModule = filepath.Join(scratch, "dearer.so")
			err = os.WriteFile(dearerModule, built, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s, dearerModule
}

// entryOf reads the first bytes of a function's old code.
func entryOf(t testing.TB, target *targettest.Target, f *patcher.Function) []byte {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	b := make([]byte, redirect.JumpSize)
	if _, err := mem.ReadAt(b, int64(f.Address)); err != nil {
		t.Fatal(err)
	}
	return b
}

// known returns a patch as it is now.
func known(t testing.TB, e *patcher.Engine, id string) *patcher.Patch {
	t.Helper()
	l, err := e.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(l.Patches, func(p patcher.Patch) bool { return p.ID == id })
	if i < 0 {
		t.Fatalf("there is no patch %s", id)
	}
	return &l.Patches[i]
}

// straight waits until the entries of all functions of a patch are straight.
func straight(t testing.TB, e *patcher.Engine, id string) (p *patcher.Patch) {
	t.Helper()
	targettest.Eventually(t, "straight entries", func() bool {
		p = known(t, e, id)
		return !slices.ContainsFunc(p.Functions, func(f patcher.Function) bool { return !f.Straight })
	})
	return p
}

// startCalls starts the target.
func startCalls(t testing.TB, s *shop) *targettest.Target {
	t.Helper()
	return targettest.Start(t, targettest.Command{Path: s.exe})
}

// returns asks the target what leaf and checked return.
func returns(t testing.TB, target *targettest.Target, leaf, checked int) {
	t.Helper()
	expect(t, target, "/returns", fmt.Sprint(leaf, " ", checked))
}

// mustLead says where the entries of a patch's functions have to lead: "old" if they
// have their original bytes, "new" if straight to the new code.
func mustLead(t testing.TB, target *targettest.Target, original map[string][]byte, p *patcher.Patch, where string) {
	t.Helper()
	for _, f := range p.Functions {
		b := entryOf(t, target, &f)
		to, jumps := redirect.JumpTarget(f.Address, b)
		led := "elsewhere"
		switch {
		case bytes.Equal(b, original[f.Name]):
			led = "old"
		case jumps && to == f.NewAddress:
			led = "new"
		}
		if where != "" && led != where {
			t.Errorf("the entry of %s, % x, leads %s (%#x), not to the %s code", f.Name, b, led, to, where)
		}
	}
}

// entries returns the bytes at the entries of a patch's functions.
func entries(t testing.TB, target *targettest.Target, p *patcher.Patch) map[string][]byte {
	t.Helper()
	original := map[string][]byte{}
	for _, f := range p.Functions {
		original[f.Name] = entryOf(t, target, &f)
	}
	return original
}

// TestEntriesAreStraight: when nothing is switched for a while an entry jumps straight
// to the code that is active, or has its original bytes. No operation takes a halt for
// that, and the program is as it was in the end.
func TestEntriesAreStraight(t *testing.T) {
	s, m := newDearer(t)
	target := startCalls(t, s)
	returns(t, target, 1002, 3001)
	before := snapshot(t, target.Pid())
	e, halts, detach := attachCounting(t, target)
	p := load(t, e, m)
	original := entries(t, target, p)
	halts()
	for range 2 {
		_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
		must(t, r, err, halts(), 0)
		returns(t, target, 2002, 4001)
		mustLead(t, target, original, straight(t, e, p.ID), "new")
		returns(t, target, 2002, 4001)
		_, r, err = e.Deactivate(t.Context(), p.ID)
		must(t, r, err, halts(), 0)
		returns(t, target, 1002, 3001)
		mustLead(t, target, original, straight(t, e, p.ID), "old")
		returns(t, target, 1002, 3001)
	}
	unload(t, e, p)
	detach()
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	returns(t, target, 1002, 3001)
}

// TestTheNextEngineTakesOverStraightEntries: Close leaves them straight, and who comes
// next goes on from there, with the resident thread or under a halt.
func TestTheNextEngineTakesOverStraightEntries(t *testing.T) {
	s, m := newDearer(t)
	target := startCalls(t, s)
	e, _, detach := attachCounting(t, target)
	p := load(t, e, m)
	original := entries(t, target, p)
	activate(t, e, p)
	detach()
	mustLead(t, target, original, p, "new")

	e, _, detach = attachCounting(t, target)
	deactivate(t, e, p)
	returns(t, target, 1002, 3001)
	detach()
	mustLead(t, target, original, p, "old")

	e, halts, detach := attachCounting(t, target, patcher.WithoutResident())
	halts()
	_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	must(t, r, err, halts(), 1)
	returns(t, target, 2002, 4001)
	_, r, err = e.Deactivate(t.Context(), p.ID)
	must(t, r, err, halts(), 0)
	returns(t, target, 1002, 3001)
	detach()
	mustLead(t, target, original, p, "elsewhere")
	target.MustLive()
}

// TestEntriesAreStraightWhenTheDebuggerHasLetGo: an activation that lets go of the
// target before its one store straightens them after it.
func TestEntriesAreStraightWhenTheDebuggerHasLetGo(t *testing.T) {
	s, m := newDearer(t)
	target := startCalls(t, s)
	p, e := attachProcess(t, target)
	patch := load(t, e, m)
	original := entries(t, target, patch)
	_, _, err := e.Activate(t.Context(), patch.ID, patcher.ActivateOptions{LetGo: p.Detach})
	if err != nil {
		t.Fatal(err)
	}
	mustLead(t, target, original, patch, "new")
	returns(t, target, 2002, 4001)
	if n := residents(t, target); len(n) > 0 {
		t.Errorf("there are threads of Darn's: %v", n)
	}
	e.Close()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	e, detach := attach(t, target)
	deactivate(t, e, patch)
	returns(t, target, 1002, 3001)
	detach()
	mustLead(t, target, original, patch, "old")
}

// TestStraightEntriesOfStackedPatches: they lead to the uppermost that is active,
// whoever comes and goes, and one patch replaces another without a halt.
func TestStraightEntriesOfStackedPatches(t *testing.T) {
	s, m := newDearer(t)
	leaf := s.module(t, "leaf", edit{"a*1000 + b", "a*5000 + b"})
	target := startCalls(t, s)
	e, halts, detach := attachCounting(t, target)
	below, above := load(t, e, leaf), load(t, e, m)
	original := entries(t, target, above)
	leads := func(p *patcher.Patch, where string) {
		t.Helper()
		mustLead(t, target, original, straight(t, e, p.ID), where)
	}
	halts()
	activate(t, e, below)
	leads(below, "new")
	activate(t, e, above)
	leads(above, "new")
	returns(t, target, 2002, 4001)

	deactivate(t, e, below)
	leads(above, "new")
	_, r, err := e.Activate(t.Context(), below.ID, patcher.ActivateOptions{})
	must(t, r, err, halts(), 0)
	leads(above, "new")
	returns(t, target, 2002, 4001)

	// Callers ask the one that goes off before the one that comes on.
	deactivate(t, e, below)
	leads(above, "new")
	_, r, err = e.Activate(t.Context(), below.ID, patcher.ActivateOptions{Replace: true})
	must(t, r, err, halts(), 0)
	leads(below, "new")
	leads(above, "") // one to the other patch, one to the old code
	returns(t, target, 5002, 3001)

	activate(t, e, above)
	deactivate(t, e, below)
	leads(above, "new")
	unload(t, e, below)
	mustLead(t, target, original, known(t, e, above.ID), "new") // it was not touched
	deactivate(t, e, above)
	leads(above, "old")
	unload(t, e, above)
	mustLead(t, target, original, above, "old")
	returns(t, target, 1002, 3001)
	detach()
	target.MustLive()
}

// TestStraighteningUnderCalls straightens and bends entries while many threads run the
// functions all the time, each of them interrupted wherever it is: also between the
// first instruction, which changes, and the rest. The program ends if a call returns
// what neither version does.
func TestStraighteningUnderCalls(t *testing.T) {
	restore := patcher.StraightenAfter(0)
	t.Cleanup(restore)
	s, m := newDearer(t)
	target := startCalls(t, s)
	e, detach := attach(t, target)
	p := load(t, e, m)
	target.Get("/hammer?n=4")
	states := map[bool]int{}
	for range 25 {
		activate(t, e, p)
		states[known(t, e, p.ID).Functions[0].Straight]++
		deactivate(t, e, p)
		straight(t, e, p.ID)
	}
	for _, on := range []bool{true, false} {
		want := "1002 3001"
		if on {
			want = "2002 4001"
			activate(t, e, p)
		} else {
			deactivate(t, e, p)
		}
		straight(t, e, p.ID)
		expect(t, target, "/returns", want)
	}
	t.Logf("%s calls, %v", target.Get("/hammered"), states)
	unload(t, e, p)
	detach()
	target.MustLive()
}
