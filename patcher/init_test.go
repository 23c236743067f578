package patcher_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-delve/delve/service/debugger"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// gathered adds a variable with the initial value [0 10 20 30], which goroutines
// make that call what it replaces.
var gathered = edit{"type article struct {", `var sums = gather()

// gather waits for goroutines, whose starters have ended.
func gather() (all [4]int) {
	var wg sync.WaitGroup
	for i := range all {
		wg.Add(1)
		go func() {
			go func() {
				defer wg.Done()
				all[i] = total(i, 1)
			}()
		}()
	}
	wg.Wait()
	return all
}

type article struct {`,
	"	return n * price", "	return n * price * 10"}

func TestAnInitialValueMayBeMadeByGoroutines(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "gathered", slices.Concat(gathered, edit{`return "a " + t.label()`, `return fmt.Sprint(sums)`}))
	target := s.start(t, "GOGC=1", "GODEBUG=clobberfree=1")
	e, _ := attach(t, target)
	p := load(t, e, path)
	activate(t, e, p)
	within(t, later(target, "/describe"), "[0 10 20 30]")
	within(t, later(target, "/total"), "3000")
	deactivate(t, e, p)
	expect(t, target, "/gc", "collected")
	expect(t, target, "/describe", "a pen")
	unload(t, e, p)
	target.MustLive()
}

// slow adds a variable whose initial value waits for a request of /release.
var slow = edit{"type article struct {", `var stock = func() int {
	waiting.Add(1)
	<-release
	return STOCK
}()

type article struct {`, "	return n * price", "	return n * price * stock"}

// slowly is slow with an expression for the value.
func slowly(stock string) edit {
	return edit{slow[0], strings.Replace(slow[1], "STOCK", stock, 1), slow[2], slow[3]}
}

// hurry activates p and expects that its initialisation takes too long.
func hurry(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
	t.Helper()
	var pending patcher.State
	_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Timeout: 200 * time.Millisecond,
		Waiting: func(p *patcher.Patch, _ *finding.Refusal) { pending = p.State }})
	if finding.CodeOf(err) != finding.InitTimeout || !strings.Contains(err.Error(), "can't be activated yet: what it brings is being initialised (after ") {
		t.Fatalf("it says %v", err)
	}
	if pending != patcher.Pending {
		t.Errorf("meanwhile it is %q", pending)
	}
}

// initialised returns the state of the last patch and of its initialisation.
func initialised(t *testing.T, e *patcher.Engine) (patcher.State, patcher.Initialisation) {
	t.Helper()
	l, err := e.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := l.Patches[len(l.Patches)-1]
	if p.Initialisation == nil {
		t.Fatalf("nothing is initialised: %+v", p)
	}
	return p.State, *p.Initialisation
}

// An initial value that takes a lock whose holder calls what the patch replaces.
func TestTheHolderOfALockThatIsWaitedForGoesOnInOldCode(t *testing.T) {
	s := newShop(t)
	holds := s.module(t, "holds", edit{"	c.n[name]++", "	c.n[name]++\n	wait()\n	c.n[name] = total(1, 7)",
		`fmt.Sprintf("hello %s", name)`, `fmt.Sprint("hello ", c.n[name])`})
	path := s.module(t, "locks", edit{"type article struct {", `var factor = func() int {
	visitors.mu.Lock()
	defer visitors.mu.Unlock()
	return 2
}()

type article struct {`, "	return n * price", "	return n * price * factor"})
	target := s.start(t, "GOGC=1")
	e, _ := attach(t, target)
	activate(t, e, load(t, e, holds))
	answer := later(target, "/greet?name=eve")
	targettest.Eventually(t, "the lock is held", func() bool { return strings.TrimSpace(target.Get("/waiting")) == "1" })
	p := load(t, e, path)
	if state, i := initialised(t, e); state != patcher.Loaded || i.Phase != patcher.InitPending {
		t.Errorf("it is %s, and its initialisation %v", state, i)
	}
	hurry(t, e, p)
	if state, i := initialised(t, e); state != patcher.Loaded || i.Phase != patcher.InitRunning {
		t.Errorf("it is %s, and its initialisation %v", state, i)
	}
	expect(t, target, "/total", "300")
	expect(t, target, "/release", "released")
	within(t, answer, "hello 7")
	activate(t, e, p)
	expect(t, target, "/total", "600")
	if state, i := initialised(t, e); state != patcher.Active || i.Phase != patcher.InitDone {
		t.Errorf("it is %s, and its initialisation %v", state, i)
	}
	target.MustLive()
}

// What the runtime starts for an initial value, as the callback of a timer, need
// not know that it initialises.
func TestAnInitialValueMayWaitForATimerThatCallsThePatch(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "timer", edit{"type article struct {", `var factor = func() int {
	c := make(chan int)
	time.AfterFunc(time.Millisecond, func() { c <- len(ask("/total")) })
	return <-c
}()

` + asking, "	return n * price", "	return n * price * factor"})
	target := s.start(t, "GOGC=1")
	e, _ := attach(t, target)
	p := load(t, e, path)
	activate(t, e, p)
	expect(t, target, "/total", "1200") // "300" and the end of the line
	deactivate(t, e, p)
	expect(t, target, "/gc", "collected")
	unload(t, e, p)
	target.MustLive()
}

// asking adds a function that asks the program in itself.
const asking = `func ask(path string) string {
	r, _ := http.NewRequest(path)
	var w sink
	http.ServeHTTP(&w, r)
	return string(w)
}

type sink []byte

func (s *sink) Write(b []byte) (int, error) { *s = append(*s, b...); return len(b), nil }

type article struct {`

// The first call that comes after the activation runs new code, whoever else
// calls at that time.
func TestTheFirstNewCallIsInitialised(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "busy", edit{"type article struct {", `var factor = func() map[int]int {
	m := map[int]int{}
	for i := range 10000 {
		m[i] = 2
	}
	return m
}()

type article struct {`, "	return n * price", "	return n * price * factor[price]"})
	target := s.start(t, "GOGC=1", "GODEBUG=clobberfree=1")
	e, _ := attach(t, target)
	p := load(t, e, path)
	stop := make(chan bool)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			new := false
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch got := strings.TrimSpace(target.Get("/total")); {
				case got == "600":
					new = true
				case got != "300" || new:
					t.Errorf("it answers %q, after new code: %t", got, new)
					return
				}
			}
		})
	}
	r := activate(t, e, p)
	expect(t, target, "/total", "600")
	close(stop)
	callers.Wait()
	if r.Looks != 0 || r.Halts == 0 {
		t.Errorf("the receipt is %+v", r)
	}
	deactivate(t, e, p)
	expect(t, target, "/gc", "collected")
	activate(t, e, p)
	expect(t, target, "/total", "600")
	target.MustLive()
}

// While one patch is initialised another that requires it is not, and what
// initialises calls functions of the other: they run old code.
func TestAPatchThatRequiresAnotherWaitsForItsInitialisation(t *testing.T) {
	s := newShop(t)
	add := edit{slow[0], strings.Replace(slowly(`len(ask("/describe"))`)[1], "type article struct {", asking, 1)}
	first := s.module(t, "first", slices.Concat(add, slow[2:]))
	second := s.module(t, "second", slices.Concat(add, edit{`return "a " + t.label()`, `return fmt.Sprint(t.label(), " of ", stock)`}), first)
	target := s.start(t, "GOGC=1")
	e, _ := attach(t, target)
	a, b := load(t, e, first), load(t, e, second)
	hurry(t, e, b)
	hurry(t, e, a)
	expect(t, target, "/release", "released")
	activate(t, e, b)
	activate(t, e, a)
	expect(t, target, "/total", "1800") // "a pen" and the end of the line
	expect(t, target, "/describe", "pen of 6")
	target.MustLive()
}

func TestAPatchMayBeDeactivatedWhileItIsInitialised(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "slow", slowly("2"))
	target := s.start(t, "GOGC=1")
	e, _ := attach(t, target)
	p := load(t, e, path)
	ended := begin(t.Context(), t, e, p, time.Minute)
	targettest.Eventually(t, "it is initialised", func() bool { _, i := initialised(t, e); return i.Phase == patcher.InitRunning })
	targettest.Eventually(t, "it is pending", func() bool { state, _ := initialised(t, e); return state == patcher.Pending })
	deactivate(t, e, p)
	if o := <-ended; finding.CodeOf(o.err) != finding.WrongState || !strings.Contains(o.err.Error(), "was deactivated while its activation waited") {
		t.Errorf("the activation says %v", o.err)
	}
	expect(t, target, "/total", "300")
	if _, err := e.Unload(t.Context(), p.ID); finding.CodeOf(err) != finding.InUse {
		t.Errorf("unload says %v", err)
	}
	expect(t, target, "/release", "released")
	targettest.Eventually(t, "it is done", func() bool { _, i := initialised(t, e); return i.Phase == patcher.InitDone })
	unload(t, e, p)
	expect(t, target, "/total", "300")
	target.MustLive()
}

// A patch that can't be initialised stays off; the program does not notice.
func TestAnInitialValueThatPanicsIsNamed(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "broken", edit{"type article struct {", `var rate = must()

func must() int {
	if waiting.Load() == 0 {
		panic(fmt.Errorf("there is no rate"))
	}
	return 2
}

type article struct {`,
		"	return n * price", "	return n * price * rate"})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, path)
	for range 2 {
		_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
		if finding.CodeOf(err) != finding.InitFailed || !strings.Contains(err.Error(), "what it brings could not be initialised: it panicked: there is no rate") {
			t.Errorf("it says %v", err)
		}
		expect(t, target, "/total", "300")
	}
	if state, i := initialised(t, e); state != patcher.Loaded || i.Phase != patcher.InitFailed || i.Why != "it panicked: there is no rate" {
		t.Errorf("it is %s, and its initialisation %v", state, i)
	}
	unload(t, e, p)
	expect(t, target, "/total", "300")
	target.MustLive()
}

// later asks the target without waiting for the answer.
func later(target *targettest.Target, path string) <-chan string {
	c := make(chan string, 1)
	go func() { c <- strings.TrimSpace(target.Get(path)) }()
	return c
}

// within fails the test unless that answer comes soon.
func within(t *testing.T, answer <-chan string, want string) {
	t.Helper()
	select {
	case got := <-answer:
		if got != want {
			t.Errorf("it answers %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no answer: the program hangs")
	}
}

// A function that only assembly calls is named as Go's are, and entered with
// anything in the registers in which they find their goroutine.
func TestAssemblyIsPatchedWithWhatIsInitialised(t *testing.T) {
	s := newProgram(t, "assembly")
	source := filepath.Join(s.dir, "sum_amd64.s")
	old, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(source, bytes.Replace(old, []byte("$100"), []byte("$200"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	path := s.module(t, "assembly", edit{"func sum(", "var factor = int(sum(2))\n\nfunc sum(", "return n * 100", "return n*1000 + factor"})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, path)
	if !slices.ContainsFunc(p.Functions, func(f patcher.Function) bool { return f.Name == "main.helper" }) {
		t.Errorf("it replaces %+v", p.Functions)
	}
	expect(t, target, "/sum", "112")
	activate(t, e, p)
	expect(t, target, "/sum", "212")
	expect(t, target, "/total", "3109") // what initialises runs the old assembly
	deactivate(t, e, p)
	expect(t, target, "/sum", "112")
	unload(t, e, p)
	target.MustLive()
}

// What a required patch brings sees that patch, also if another one's activation
// has it initialised.
func TestWhatIsRequiredIsInitialisedWithItsOwnCode(t *testing.T) {
	s := newShop(t)
	add := edit{"type article struct {", "var sums = total(100, 1)\n\ntype article struct {", "	return n * price", "	return n * price * 50"}
	first := s.module(t, "first", slices.Concat(add, edit{`"hello %s", name)`, `"hello %s of %d", name, sums)`}))
	second := s.module(t, "second", slices.Concat(add, edit{`return "a " + t.label()`, `return fmt.Sprint(sums)`}), first)
	target := s.start(t)
	e, _ := attach(t, target)
	load(t, e, first)
	activate(t, e, load(t, e, second))
	expect(t, target, "/describe", "5000")
	expect(t, target, "/total", "15000")
	target.MustLive()
}

// Patches stand above each other in the order of their first activations, however
// long they were initialised, and what initialises runs its own patch's code.
func TestThePatchThatIsActivatedLastIsAboveThoseThatWereInitialisedLater(t *testing.T) {
	s := newShop(t)
	says := func(word string) edit { return edit{`"a " + t.label()`, `"` + word + ` " + t.label()`} }
	first := s.module(t, "first", slices.Concat(slowly("len(describe(article{}))"), says("one")))
	third := s.module(t, "third", slices.Concat(slowly("len(describe(article{}))"), says("three")))
	second := s.module(t, "second", slices.Concat(discount, says("the second")))
	fourth := s.module(t, "fourth", says("the fourth"))
	target := s.start(t, "GOGC=1")
	e, detach := attach(t, target)
	a, c := load(t, e, first), load(t, e, third)
	hurry(t, e, a)
	hurry(t, e, c)
	b := load(t, e, second)
	activate(t, e, b)
	expect(t, target, "/describe", "the second pen")
	expect(t, target, "/total", "270")
	expect(t, target, "/release", "released")
	expect(t, target, "/release", "released")
	for _, step := range []struct {
		p                        *patcher.Patch
		off                      bool
		description, total, what string
	}{
		{c, false, "three pen", "1800", "it is above one that was active before"},
		{a, false, "one pen", "1200", "it is above all"},
		{a, true, "three pen", "1800", "those below stay"},
		{a, false, "one pen", "1200", "it comes back"},
		{c, true, "one pen", "1200", "one below it goes"},
		{c, false, "one pen", "1200", "and keeps its place"},
		{a, true, "three pen", "1800", "where it is seen"},
		{c, true, "the second pen", "270", "and those before it"},
	} {
		if step.off {
			deactivate(t, e, step.p)
		} else {
			activate(t, e, step.p)
		}
		t.Log(step.what)
		expect(t, target, "/describe", step.description)
		expect(t, target, "/total", step.total)
	}
	detach()
	e, _ = attach(t, target)
	activate(t, e, a)
	activate(t, e, load(t, e, fourth))
	expect(t, target, "/describe", "the fourth pen")
	expect(t, target, "/total", "1200")
	deactivate(t, e, a)
	unload(t, e, a)
	expect(t, target, "/describe", "the fourth pen")
	expect(t, target, "/total", "270")
	unload(t, e, c)
	deactivate(t, e, b)
	unload(t, e, b)
	expect(t, target, "/describe", "the fourth pen")
	expect(t, target, "/total", "300")
	target.MustLive()
}

// What nobody waits for any more is not initialised, unless that has begun: not
// when a stopped program goes on, and it is in nobody's way.
func TestAnActivationThatIsGivenUpInitialisesNothing(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "given up", slowly("2"))
	other := s.module(t, "other", edit{"type article struct {", "var twice = total(2, 1)\n\ntype article struct {",
		`"hello %s", name)`, `"hello %s of %d", name, twice)`})
	brief := func(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
		_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Timeout: 100 * time.Millisecond})
		if finding.CodeOf(err) != finding.InitTimeout {
			t.Fatalf("it says %v", err)
		}
	}
	for name, giveUp := range map[string]func(t *testing.T, e *patcher.Engine, p *patcher.Patch){
		"in time": brief,
		"with its context": func(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
			ctx, cancel := context.WithCancel(t.Context())
			_, _, err := e.Activate(ctx, p.ID, patcher.ActivateOptions{Waiting: func(*patcher.Patch, *finding.Refusal) { cancel() }})
			if err == nil || !strings.Contains(err.Error(), "was given up while it waited") {
				t.Fatalf("it says %v", err)
			}
		},
		"by deactivate": func(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
			if _, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{}); err != nil {
				t.Fatal(err)
			}
			deactivate(t, e, p)
		},
		"by its caller": func(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
			w, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w.GiveUp()
		},
		"with the engine": func(t *testing.T, e *patcher.Engine, p *patcher.Patch) {
			if _, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := s.start(t, "GOGC=1")
			e, detach := attach(t, target)
			p, q := load(t, e, path), load(t, e, other)
			detach()
			e, goOn := stop(t, target)
			giveUp(t, e, p)
			goOn()
			e, detach = attach(t, target)
			activate(t, e, q) // so what was to start initialisations has been called
			expect(t, target, "/greet?name=eve", "hello eve of 2")
			if l, err := e.Known(t.Context()); err != nil || l.Patches[0].Initialisation.Phase != patcher.InitPending {
				t.Errorf("it is %+v, %v", l, err)
			}
			hurry(t, e, p)
			expect(t, target, "/release", "released")
			activate(t, e, p)
			expect(t, target, "/total", "600")
			detach()
			target.MustLive()
		})
	}
}

func TestAPatchThatWasGivenUpIsUnloadedFromAStoppedProgram(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "given up", slowly("2"))
	target := s.start(t, "GOGC=1")
	e, goOn := stop(t, target)
	p := load(t, e, path)
	if _, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{}); err != nil {
		t.Fatal(err)
	}
	deactivate(t, e, p)
	unload(t, e, p)
	goOn()
	expect(t, target, "/gc", "collected")
	expect(t, target, "/total", "300")
	target.MustLive()
}

// stop opens an Engine in a debug session that has stopped the target; goOn ends
// it.
func stop(t testing.TB, target *targettest.Target) (e *patcher.Engine, goOn func()) {
	t.Helper()
	d, err := debugger.New(&debugger.Config{AttachPid: target.Pid(), Backend: "native", WorkingDir: "."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.New(d, stopped{d})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = patcher.Open(p); err != nil {
		t.Fatal(err)
	}
	goOn = sync.OnceFunc(func() {
		if err := errors.Join(e.Close(), p.Close(), d.Detach(false)); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(goOn)
	return e, goOn
}

// stopped is a debug session whose target is always stopped.
type stopped struct{ *debugger.Debugger }

func (s stopped) Halt(context.Context) (*process.Stop, error) {
	group, unlock := s.LockTargetGroup()
	return &process.Stop{Group: group, Release: func() error { unlock(); return nil }}, nil
}

// Goroutines that initialising has started never go back to old code before the
// patch is deactivated, however late it is activated.
func TestWhatInitialisingStartsStaysInNewCode(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "stays", edit{"type article struct {", `var factor = func() int {
	go func() {
		for range release {
			waiting.Add(int32(total(1, 7)))
		}
	}()
	return 5
}()

type article struct {`, "	return n * price", "	return n * price * 10", `return "a " + t.label()`, `return fmt.Sprint(t.label(), factor)`})
	target := s.start(t, "GOGC=1", "GODEBUG=clobberfree=1")
	e, _ := attach(t, target)
	p := load(t, e, path)
	adds := func(n int) {
		t.Helper()
		expect(t, target, "/gc", "collected")
		before := count(target.Get("/waiting"))
		expect(t, target, "/release", "released")
		targettest.Eventually(t, "it adds something", func() bool { return count(target.Get("/waiting")) != before })
		if got := count(target.Get("/waiting")) - before; got != n {
			t.Fatalf("it adds %d, want %d", got, n)
		}
	}
	w, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "it is done", func() bool { _, i := initialised(t, e); return i.Phase == patcher.InitDone })
	for range 5 {
		adds(70)
	}
	expect(t, target, "/total", "300")
	w.GiveUp()
	adds(70)
	activate(t, e, p)
	expect(t, target, "/total", "3000")
	expect(t, target, "/describe", "pen5")
	adds(70)
	deactivate(t, e, p)
	adds(7)
	activate(t, e, p)
	adds(70)
	target.MustLive()
}

// Or the labels of others might get the address that tells who initialises.
func TestTheLabelsOfWhoHasInitialisedAreKept(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "labels", edit{"type article struct {", `//go:linkname profLabels runtime/pprof.runtime_getProfLabel
func profLabels() *[]int

var factor = func() int {
	runtime.SetFinalizer(profLabels(), func(*[]int) { waiting.Add(1000) })
	runtime.SetFinalizer(new([3]*int), func(*[3]*int) { waiting.Add(1) })
	return 2
}()

type article struct {`, "	return n * price", "	return n * price * factor", `	"time"`, `	"time"
	_ "unsafe"`})
	target := s.start(t, "GOGC=1", "GODEBUG=clobberfree=1")
	e, _ := attach(t, target)
	activate(t, e, load(t, e, path))
	expect(t, target, "/total", "600")
	targettest.Eventually(t, "others are collected", func() bool {
		expect(t, target, "/gc", "collected")
		return count(target.Get("/waiting")) > 0
	})
	for range 3 {
		expect(t, target, "/gc", "collected")
	}
	expect(t, target, "/waiting", "1")
	target.MustLive()
}
