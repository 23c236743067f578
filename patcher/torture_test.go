package patcher_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

var (
	tortureTime = flag.Duration("torture", 10*time.Second, "for how long TestTorture goes on, besides setting up")
	tortureSeed = flag.Uint64("torture.seed", 0, "what TestTorture draws its operations from; 0: the time")
)

// torture is what a round of TestTorture works on.
type torture struct {
	t       *testing.T
	g       tortured
	e       *patcher.Engine
	detach  func()
	random  *rand.Rand
	modules []string
	patches []*patcher.Patch // by module, nil while it is not loaded
	on      []bool           // by module
	n       *tortureCounts
}

// whole is how many modules, the first ones, have all functions but those of
// versionedOthers. One more has some of them, and needs no halt either.
const whole = 2

// tortureCounts is what a TestTorture reports.
type tortureCounts struct {
	calls, toggles, replacements, loads, unloads, attaches, quiescent int
	refused                                                           map[finding.Code]int
}

func (n *tortureCounts) String() string {
	text := fmt.Sprintf("%d calls checked, %d toggles, %d replacements, %d quiescent activations, %d loads, %d unloads, %d attaches; refused:",
		n.calls, n.toggles, n.replacements, n.quiescent, n.loads, n.unloads, n.attaches)
	for _, code := range slices.Sorted(maps.Keys(n.refused)) {
		text += fmt.Sprintf(" %s %d", code, n.refused[code])
	}
	return text
}

// TestTorture toggles, replaces, loads and unloads patches as fast as it can in
// a program that checks the result of every call, with the collector as hard on
// it as it can be. A wrong result, a crash, a hang, or an error that is none of
// the refusals that an instant may call for, fails it. `make soak` runs it for
// hours.
func TestTorture(t *testing.T) {
	s := newProgram(t, "torture")
	modules := []string{
		s.module(t, "one", versioned(1)),
		s.module(t, "two", versioned(2)),
		s.module(t, "three", versionedSome(3, true)),
		s.module(t, "others", versionedOthers(1)),
	}
	seed := *tortureSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-torture.seed=%d", seed)
	// In the middle of everything, too.
	t.Cleanup(patcher.StraightenAfter(200 * time.Microsecond))
	random := rand.New(rand.NewPCG(seed, 0))
	rounds := []struct{ debug, gogc string }{
		{"clobberfree=1", "1"},
		{"gccheckmark=1", "1"},
		{"gcstoptheworld=1", "1"},
		{"clobberfree=1,gccheckmark=1,gcstoptheworld=2", "1"},
		{"asyncpreemptoff=1", "5"},
	}
	total := &tortureCounts{refused: map[finding.Code]int{}}
	// Long runs come back to each way, so that none waits for hours.
	each := min(*tortureTime/time.Duration(len(rounds)), 5*time.Minute)
	for end := time.Now().Add(*tortureTime); time.Now().Before(end); {
		for _, r := range rounds {
			ok := t.Run(r.debug, func(t *testing.T) {
				n := &tortureCounts{refused: map[finding.Code]int{}}
				defer func() {
					t.Log(n)
					total.add(n)
				}()
				x := &torture{
					t: t, random: random, modules: modules, n: n,
					patches: make([]*patcher.Patch, len(modules)), on: make([]bool, len(modules)),
				}
				x.round(s, each, "GOGC="+r.gogc, "GODEBUG="+r.debug)
			})
			if !ok {
				t.Fatalf("failed after %v", total)
			}
		}
	}
	t.Logf("no failure in %v", total)
}

func (n *tortureCounts) add(m *tortureCounts) {
	n.calls += m.calls
	n.toggles += m.toggles
	n.replacements += m.replacements
	n.quiescent += m.quiescent
	n.loads += m.loads
	n.unloads += m.unloads
	n.attaches += m.attaches
	for code, k := range m.refused {
		n.refused[code] += k
	}
}

// round tortures one process for a while.
func (x *torture) round(s *shop, while time.Duration, env ...string) {
	x.t.Helper()
	x.g = startTortured(x.t, s, nil, env)
	x.attach()
	x.loadAll()
	x.burst(10, len(x.modules))
	x.replaceBy(0)
	end := time.Now().Add(while)
	for n := 1; time.Now().Before(end); n++ {
		switch n := x.random.IntN(20); {
		case n < 7:
			x.burst(300, whole+1)
		case n < 8:
			x.burst(50, len(x.modules))
		case n < 11:
			x.replaceBy(x.random.IntN(len(x.modules)))
		case n < 14:
			x.quiescent()
		case n < 17:
			x.reload(x.random.IntN(len(x.modules)))
		case n < 19:
			x.only()
		default:
			x.detach()
			x.attach()
		}
		if n%4 == 0 {
			x.lives()
		}
	}
	x.onlyOld()
	for i := range x.modules {
		x.unload(i)
	}
	x.lives()
	x.detach()
	x.lives()
	calls, _, _ := x.g.counts()
	x.n.calls += calls
	if x.n.toggles == 0 || x.n.loads == 0 || x.n.unloads == 0 {
		x.t.Errorf("little was done: %v", x.n)
	}
}

func (x *torture) attach() {
	x.t.Helper()
	x.e, x.detach = attach(x.t, x.g.Target)
	x.n.attaches++
}

// lives waits until every kind of caller has made calls.
func (x *torture) lives() {
	x.t.Helper()
	calls, woken, held := x.g.counts()
	targettest.Eventually(x.t, "calls of every kind of goroutine", func() bool {
		x.g.MustLive()
		c, w, h := x.g.counts()
		return c > calls && w > woken && h > held
	})
}

// done tells whether an operation was carried out. A refusal with one of the
// codes is none, but is counted.
func (x *torture) done(err error, codes ...finding.Code) bool {
	x.t.Helper()
	code := finding.CodeOf(err)
	switch {
	case err == nil:
		return true
	case slices.Contains(codes, code):
		x.n.refused[code]++
	default:
		x.t.Fatal(err)
	}
	return false
}

// torturePatience is how long it may take until a program that collects
// garbage all the time leaves an instant for an operation.
const torturePatience = 5 * time.Minute

// eventually does what an instant may be unfit for.
func (x *torture) eventually(what string, do func() error) {
	x.t.Helper()
	begun, n := time.Now(), 0
	for {
		err := do()
		if x.done(err, finding.InUse, finding.GCTimeout) {
			return
		}
		if n++; n%10 == 0 {
			x.t.Logf("%s is refused for the %dth time: %v", what, n, err)
		}
		if time.Since(begun) > torturePatience {
			x.t.Fatalf("%s is refused for %v: %v", what, torturePatience, err)
		}
		x.lives()
	}
}

func (x *torture) loadAll() {
	x.t.Helper()
	for i := range x.modules {
		x.load(i)
	}
}

func (x *torture) load(i int) {
	x.t.Helper()
	x.eventually("a load", func() (err error) {
		x.patches[i], _, err = x.e.Load(x.t.Context(), x.modules[i])
		return err
	})
	x.n.loads++
}

func (x *torture) unload(i int) {
	x.t.Helper()
	if x.on[i] {
		x.toggle(i)
	}
	x.eventually("an unload", func() error {
		_, err := x.e.Unload(x.t.Context(), x.patches[i].ID)
		return err
	})
	x.n.unloads++
	x.patches[i] = nil
}

// toggle switches a patch.
func (x *torture) toggle(i int) {
	x.t.Helper()
	x.eventually("a toggle", func() (err error) {
		if x.on[i] {
			_, _, err = x.e.Deactivate(x.t.Context(), x.patches[i].ID)
		} else {
			var r *patcher.Receipt
			if _, r, err = x.e.Activate(x.t.Context(), x.patches[i].ID, patcher.ActivateOptions{}); err == nil && i <= whole && r.Encodings["direct"] > 0 {
				x.t.Fatalf("the module %s has %v", x.modules[i], r.Encodings)
			}
		}
		return err
	})
	x.on[i] = !x.on[i]
	x.n.toggles++
}

// burst toggles the first patches at random.
func (x *torture) burst(times, patches int) {
	x.t.Helper()
	for range times {
		x.toggle(x.random.IntN(patches))
	}
}

// replaceBy activates a patch in place of all that are active.
func (x *torture) replaceBy(i int) {
	x.t.Helper()
	if x.on[i] {
		x.toggle(i)
	}
	x.eventually("a replacement", func() error {
		_, _, err := x.e.Activate(x.t.Context(), x.patches[i].ID, patcher.ActivateOptions{Replace: true})
		return err
	})
	x.n.replacements++
	for j := range x.on {
		x.on[j] = i == j
	}
}

// quiescent activates a patch when nobody is in old code, if that comes soon.
func (x *torture) quiescent() {
	x.t.Helper()
	i := x.random.IntN(len(x.modules))
	if x.on[i] {
		x.toggle(i)
	}
	replace := x.random.IntN(2) == 0
	_, r, err := x.e.Activate(x.t.Context(), x.patches[i].ID, patcher.ActivateOptions{
		Consistency: patcher.Quiescent, Timeout: 200 * time.Millisecond, Replace: replace,
	})
	if x.done(err, finding.QuiescenceTimeout, finding.InUse) {
		x.n.quiescent++
		for j := range x.on {
			x.on[j] = i == j || x.on[j] && !slices.Contains(r.Replaced, x.patches[j].ID)
		}
	}
	if _, err := x.e.List(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
}

// reload takes a patch out and in again.
func (x *torture) reload(i int) {
	x.t.Helper()
	x.unload(i)
	x.load(i)
}

// only makes one version the only one, and has the program
// check that.
func (x *torture) only() {
	x.t.Helper()
	i := x.random.IntN(whole)
	x.replaceBy(i)
	x.strictly(i + 1)
}

// onlyOld switches all off, and has the program check that.
func (x *torture) onlyOld() {
	x.t.Helper()
	for i := range x.on {
		if x.on[i] {
			x.toggle(i)
		}
	}
	x.strictly(0)
}

// strictly has the program accept one version for a while.
func (x *torture) strictly(v int) {
	x.t.Helper()
	const kinds = "plain,pair,add,area,largest,longest,deep,list,text,guarded,fan"
	x.g.allow(kinds, v)
	x.lives()
	x.g.allow(kinds, 0, 1, 2, 3)
}
