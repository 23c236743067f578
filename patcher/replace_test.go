package patcher_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// versioned is an edit of the program torture that has all functions but those
// of versionedOthers tell another version.
func versioned(v int) edit { return edit{"const version = 0", fmt.Sprint("const version = ", v)} }

// versionedOthers is the same for the rest: functions that need a direct
// redirect, and one in which somebody always is.
func versionedOthers(v int) edit { return edit{"const other = 0", fmt.Sprint("const other = ", v)} }

// versionedSome is the same for some of the functions, none of which needs a
// direct redirect.
func versionedSome(v int, deep bool) edit {
	e := edit{
		"func plain(n int) int { return n*10 + version }", fmt.Sprintf("func plain(n int) int { return n*10 + %d }", v),
		`strings.Join(keys, ","), version)`, fmt.Sprintf(`strings.Join(keys, ","), %d)`, v),
	}
	if deep {
		e = append(e, "return below + 10 + version", fmt.Sprint("return below + 10 + ", v))
	}
	return e
}

// tortured is the program torture, running.
type tortured struct {
	*targettest.Target
	t testing.TB
}

func startTortured(t testing.TB, s *shop, args, env []string) tortured {
	t.Helper()
	g := tortured{targettest.Start(t, targettest.Command{Path: s.exe, Args: args, Env: env}), t}
	g.Line("addr ")
	return g
}

// allow lets calls of functions tell these versions only; what is none of them
// ends the program from now on.
func (g tortured) allow(kinds string, versions ...int) {
	g.t.Helper()
	mask := 0
	for _, v := range versions {
		mask |= 1 << v
	}
	g.Get(fmt.Sprintf("/allow?kinds=%s&mask=%d", kinds, mask))
}

// counts returns how many calls there were so far: of all, by those who are
// woken, and by those who wait in a function.
func (g tortured) counts() (calls, woken, held int) {
	g.t.Helper()
	if _, err := fmt.Sscan(g.Get("/counts"), &calls, &woken, &held); err != nil {
		g.t.Fatal(err)
	}
	return calls, woken, held
}

// runs waits until there were n more calls.
func (g tortured) runs(n int) {
	g.t.Helper()
	before, _, _ := g.counts()
	targettest.Eventually(g.t, fmt.Sprint(n, " calls"), func() bool {
		g.MustLive()
		now, _, _ := g.counts()
		return now-before >= n
	})
}

func replace(t testing.TB, e *patcher.Engine, p, other *patcher.Patch) *patcher.Receipt {
	t.Helper()
	patch, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if patch.State != patcher.Active || !slices.Equal(r.Replaced, []string{other.ID}) {
		t.Fatalf("activate says %+v, %+v", patch, r)
	}
	l, err := e.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range l.Patches {
		if p.ID == other.ID && p.State != patcher.Loaded {
			t.Fatalf("the replaced patch is %s", p.State)
		}
	}
	return r
}

// An active patch may replace others: it stays on, and they go off.
func TestAnActivePatchReplacesOthers(t *testing.T) {
	s := newShop(t)
	below := s.module(t, "below", discount)
	both := s.module(t, "both", slices.Concat(edit{"	return n * price", "	return n * price * 2"}, waitEdit))
	target := s.start(t)
	e, _ := attach(t, target)
	p, other := load(t, e, both), load(t, e, below)
	activate(t, e, p)
	if _, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Replace: true}); finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), "its code is already in use") {
		t.Errorf("with no other to replace it says %v", err)
	}
	activate(t, e, other)
	expect(t, target, "/total", "270")
	replace(t, e, p, other)
	expect(t, target, "/total", "600")
	deactivate(t, e, p)
	expect(t, target, "/total", "300")
	target.MustLive()
}

// While one patch replaces another, no call runs neither: the program ends at
// the first one.
func TestReplaceIsOneInstantForEveryCaller(t *testing.T) {
	s := newProgram(t, "torture")
	tests := []struct {
		name       string
		a, b       edit // b has the functions of a, and perhaps more
		kinds      string
		rounds     int
		storeAlone bool // the way back to a is one store
	}{
		{"with one store where that will do", versionedSome(1, false), versionedSome(2, true), "plain,text", 40, true},
		{"with direct redirects", append(versioned(1), versionedOthers(1)...), append(versioned(2), versionedOthers(2)...), "plain,count,area,largest,longest,step,list,text,guarded,fan", 12, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := s.module(t, "a", test.a), s.module(t, "b", test.b)
			g := startTortured(t, s, []string{"-crowd=0", "-holders=0", "-profile=false", "-only=" + test.kinds}, nil)
			e, _ := attach(t, g.Target)
			g.allow(test.kinds, 0)
			pa, pb := load(t, e, a), load(t, e, b)
			g.runs(100)
			g.allow(test.kinds, 0, 1)
			activate(t, e, pa)
			g.allow(test.kinds, 1)
			for i := range test.rounds {
				g.allow(test.kinds, 1, 2)
				if r := replace(t, e, pb, pa); r.Halts == 0 {
					t.Errorf("patch %s, which is asked first, replaced the other without a halt", pb.ID)
				}
				g.allow(test.kinds, 2)
				if i%10 == 0 {
					g.runs(1000)
				}
				g.allow(test.kinds, 1, 2)
				if r := replace(t, e, pa, pb); (r.Halts == 0) != test.storeAlone {
					t.Errorf("patch %s replaced the one that is asked first with %d halts", pa.ID, r.Halts)
				}
				g.allow(test.kinds, 1)
				if i%10 == 0 {
					g.runs(1000)
				}
			}
			// What was replaced can go.
			targettest.Eventually(t, "an unload", func() bool {
				_, err := e.Unload(t.Context(), pb.ID)
				if err != nil && finding.CodeOf(err) != finding.InUse {
					t.Fatal(err)
				}
				return err == nil
			})
			g.runs(1000)
			g.allow(test.kinds, 0, 1)
			deactivate(t, e, pa)
			g.allow(test.kinds, 0)
			g.runs(1000)
			g.MustLive()
		})
	}
}

// A replacement that a killed Darn left half done is rolled back whole.
func TestTakeOverRollsBackAReplacement(t *testing.T) {
	s := newProgram(t, "torture")
	a, b := s.module(t, "a", append(versioned(1), versionedOthers(1)...)), s.module(t, "b", append(versioned(2), versionedOthers(2)...))
	g := startTortured(t, s, []string{"-crowd=10", "-holders=0", "-profile=false"}, nil)
	// Without the resident thread no entry is straightened, after the replacement.
	e, _, detach := attachCounting(t, g.Target, patcher.WithoutResident())
	pa, pb := load(t, e, a), load(t, e, b)
	activate(t, e, pa)
	replace(t, e, pb, pa)
	detach()
	openRegistry(t, g.Target).forget(t)

	e, _ = attach(t, g.Target)
	g.allow("", 1)
	g.runs(1000)
	l, err := e.List(t.Context())
	if err != nil || len(l.Patches) != 2 || l.Patches[0].State != patcher.Active || l.Patches[1].State != patcher.Loaded {
		t.Errorf("list says %+v, %v", l, err)
	}
	g.allow("", 1, 2)
	replace(t, e, pb, pa)
	g.allow("", 2)
	g.runs(1000)
	g.MustLive()
}
