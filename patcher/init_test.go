package patcher_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
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

// While one patch initialises, another that requires it may be entered, from
// elsewhere and from what initialises.
func TestPatchesThatAreInitialisedAtOnceDontWaitForEachOther(t *testing.T) {
	s := newShop(t)
	stock := edit{"type article struct {", `var stock = count()

//go:noinline
func count() map[string]int {
	var free sync.WaitGroup
	free.Add(1)
	go func() { wait(); free.Done() }()
	free.Wait()
	r, _ := http.NewRequest("GET", "/fixed", nil)
	http.DefaultServeMux.ServeHTTP(sink{}, r)
	return map[string]int{"pen": 1}
}

type sink struct{}

func (sink) Header() http.Header         { return http.Header{} }
func (sink) Write(b []byte) (int, error) { return len(b), nil }
func (sink) WriteHeader(int)             {}

type article struct {`,
		"	return n * price", "	return n * price * len(stock)"}
	first := s.module(t, "first", stock)
	second := s.module(t, "second", slices.Concat(stock[:2], edit{`"fixed price"`, `"fixed price of", len(stock)`}), first)
	target := s.start(t, "GOGC=1")
	e, _ := attach(t, target)
	activate(t, e, load(t, e, first))
	activate(t, e, load(t, e, second))
	total := later(target, "/total")
	targettest.Eventually(t, "the initialisation waits", func() bool { return strings.TrimSpace(target.Get("/waiting")) == "1" })
	fixed := later(target, "/fixed")
	time.Sleep(100 * time.Millisecond) // it waits for stock now
	expect(t, target, "/release", "released")
	within(t, total, "300")
	within(t, fixed, "fixed price of 1")
	target.MustLive()
}

// An initial value that can't be made says so to each caller, who may recover.
func TestAnInitialValueThatPanicsNamesThePatch(t *testing.T) {
	s := newShop(t)
	path := s.module(t, "broken", edit{"type article struct {", `var rate = must()

func must() int {
	if waiting.Load() == 0 {
		panic(fmt.Errorf("there is no rate"))
	}
	return 2
}

type article struct {`,
		"return fmt.Sprint(a / b)", "return fmt.Sprint(a / b / rate)"})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, path)
	activate(t, e, p)
	for range 2 {
		expect(t, target, "/safe", `recovered: darn: the patch broken can't be used, deactivate it: initialising it panicked: there is no rate`)
	}
	deactivate(t, e, p)
	expect(t, target, "/safe", "recovered: runtime error: integer divide by zero")
	unload(t, e, p)
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
