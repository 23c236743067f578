package patcher_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// waiters has n requests wait in the function wait, whatever version of it.
// Each answer goes to the channel.
func waiters(t testing.TB, target *targettest.Target, n int) (answers chan string) {
	t.Helper()
	before := target.Get("/waiting")
	answers = make(chan string, n)
	for range n {
		go func() { answers <- strings.TrimSpace(target.Get("/wait")) }()
	}
	targettest.Eventually(t, "requests that wait", func() bool {
		return count(target.Get("/waiting"))-count(before) == n
	})
	return answers
}

func count(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}

// source is the program's own main.go.
func (s *shop) source(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.base, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func frames(t testing.TB, l *patcher.Listing, err error) int {
	t.Helper()
	if err != nil || len(l.Patches) == 0 {
		t.Fatalf("list says %+v, %v", l, err)
	}
	n := 0
	for _, f := range l.Patches[len(l.Patches)-1].Functions {
		n += f.FramesInOldCode
	}
	return n
}

var waitEdit = edit{`return "waited"`, `return "waited anew"`}

// outcome is how an activation ended.
type outcome struct {
	patch   *patcher.Patch
	receipt *patcher.Receipt
	err     error
}

// begin begins a quiescent activation and returns when it waits.
func begin(ctx context.Context, t testing.TB, e *patcher.Engine, p *patcher.Patch, timeout time.Duration) (ended chan outcome) {
	t.Helper()
	waits := make(chan *patcher.Patch, 1)
	ended = make(chan outcome, 1)
	go func() {
		patch, receipt, err := e.Activate(ctx, p.ID, patcher.ActivateOptions{
			Consistency: patcher.Quiescent, Timeout: timeout,
			Waiting: func(p *patcher.Patch, why *finding.Refusal) {
				select {
				case waits <- p:
				default:
				}
			},
		})
		ended <- outcome{patch, receipt, err}
	}()
	select {
	case o := <-ended:
		t.Fatalf("the activation does not wait: %+v", o)
	case p := <-waits:
		if p.State != patcher.Pending {
			t.Errorf("the patch that waits is %s", p.State)
		}
	}
	return ended
}

const long = 5 * time.Minute // never over

func TestQuiescent(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "wait", waitEdit)
	again := s.module(t, "again", edit{`return "waited"`, `return "waited again"`})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, m)
	list := func() *patcher.Listing {
		t.Helper()
		l, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}

	t.Run("activates at once if nobody is there", func(t *testing.T) {
		patch, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent})
		if err != nil || patch.State != patcher.Active || r.Looks < 1 || r.Halts < 1 {
			t.Fatalf("activate says %+v, %+v, %v", patch, r, err)
		}
		if n := patch.Functions[0].FramesInOldCode; n != 0 {
			t.Errorf("%d frames in old code", n)
		}
		deactivate(t, e, p)
	})

	t.Run("waits for a call that is under way", func(t *testing.T) {
		answers := waiters(t, target, 2)
		ended := begin(t.Context(), t, e, p, long)
		if l := list(); l.Patches[0].State != patcher.Pending || l.Patches[0].Functions[0].FramesInOldCode != 2 {
			t.Errorf("while it waits list says %+v", l.Patches[0])
		}
		if _, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{}); finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), "it is pending") {
			t.Errorf("a second activation says %v", err)
		}
		if _, err := e.Unload(t.Context(), p.ID); finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), "it is pending") {
			t.Errorf("unload says %v", err)
		}
		// The last but one is not enough.
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("the first call says %q", got)
		}
		select {
		case o := <-ended:
			t.Fatalf("it has ended: %+v", o)
		case <-time.After(50 * time.Millisecond):
		}
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("the second call says %q", got)
		}
		o := <-ended
		if o.err != nil || o.patch.State != patcher.Active || o.receipt.Looks < 2 || o.receipt.Halts < 2 {
			t.Fatalf("activate says %+v, %+v, %v", o.patch, o.receipt, o.err)
		}
		if n := frames(t, list(), nil); n != 0 {
			t.Errorf("%d frames in old code", n)
		}
	})

	t.Run("waits for calls in the code of the patch below", func(t *testing.T) {
		answers := waiters(t, target, 1)
		q := load(t, e, again)
		ended := begin(t.Context(), t, e, q, long)
		target.Get("/release")
		if got := <-answers; got != "waited anew" {
			t.Errorf("the call says %q", got)
		}
		if o := <-ended; o.err != nil {
			t.Fatal(o.err)
		}
		// It is redirected now: it looks nevertheless.
		deactivate(t, e, q)
		answers = waiters(t, target, 1)
		ended = begin(t.Context(), t, e, q, long)
		target.Get("/release")
		if got := <-answers; got != "waited anew" {
			t.Errorf("the call says %q", got)
		}
		if o := <-ended; o.err != nil {
			t.Fatal(o.err)
		}
		deactivate(t, e, q)
		unload(t, e, q)
		deactivate(t, e, p)
	})

	t.Run("names who holds it up when the time is over", func(t *testing.T) {
		answers := waiters(t, target, 1)
		before := snapshot(t, target.Pid())
		_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent, Timeout: 50 * time.Millisecond})
		r := finding.As(err)
		if finding.CodeOf(err) != finding.QuiescenceTimeout || len(r.Findings) != 2 {
			t.Fatalf("activate says %v", err)
		}
		if f := r.Findings[0]; !strings.Contains(f.Message, "can't be activated while 1 call is in code that it replaces (after ") || f.Advice == "" {
			t.Errorf("the refusal is %+v", f)
		}
		f := r.Findings[1]
		line := strings.Count(strings.Split(s.source(t), "\t<-release")[0], "\n") + 1
		if f.Function != "main.wait" || !strings.HasSuffix(f.Source, "main.go:"+strconv.Itoa(line)) || !strings.Contains(f.Message, "goroutine") || !strings.Contains(f.Message, "[waiting] is in main.wait") {
			t.Errorf("the finding is %+v, want line %d", f, line)
		}
		if d := before.diff(snapshot(t, target.Pid())); d != "" {
			t.Errorf("the process is not as it was:\n%s", d)
		}
		if l := list(); l.Patches[0].State != patcher.Loaded {
			t.Errorf("the patch is %s", l.Patches[0].State)
		}
		target.Get("/release")
		<-answers
	})

	t.Run("ends when it is cancelled", func(t *testing.T) {
		answers := waiters(t, target, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := begin(ctx, t, e, p, long)
		cancel()
		if o := <-ended; !errors.Is(o.err, context.Canceled) && finding.CodeOf(o.err) != finding.Busy {
			t.Errorf("activate says %v", o.err)
		}
		if l := list(); l.Patches[0].State != patcher.Loaded {
			t.Errorf("the patch is %s", l.Patches[0].State)
		}
		target.Get("/release")
		<-answers
	})

	t.Run("ends when it is deactivated", func(t *testing.T) {
		answers := waiters(t, target, 1)
		ended := begin(t.Context(), t, e, p, long)
		patch, _, err := e.Deactivate(t.Context(), p.ID)
		if err != nil || patch.State != patcher.Loaded {
			t.Errorf("deactivate says %+v, %v", patch, err)
		}
		if o := <-ended; finding.CodeOf(o.err) != finding.WrongState || !strings.Contains(o.err.Error(), "was deactivated while its activation waited") {
			t.Errorf("activate says %v", o.err)
		}
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("the call says %q", got)
		}
		answers = waiters(t, target, 1)
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("the next call says %q", got)
		}
	})

	t.Run("unknown consistency", func(t *testing.T) {
		_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: "lazy"})
		if finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), `"lazy"`) || !strings.Contains(err.Error(), "use immediate or quiescent") {
			t.Errorf("activate says %v", err)
		}
	})
	target.MustLive()
}

// A closure of a function that an earlier patch replaced is code of that
// function: it lives only in that patch's module.
func TestAwaitIsPendingUntilItsCallerLooks(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "wait", waitEdit)
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, m)
	await := func() *patcher.Wait {
		t.Helper()
		w, patch, r, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{})
		if err != nil || patch.State != patcher.Pending || r.Halts != 0 {
			t.Fatalf("await says %+v, %+v, %v", patch, r, err)
		}
		return w
	}
	for range 2 { // with writes, then with one store
		w := await()
		if _, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{}); finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), "it is pending") {
			t.Errorf("a second await says %v", err)
		}
		if patch, r, why, err := w.Look(t.Context()); err != nil || why != nil || patch.State != patcher.Active || r.Looks != 1 {
			t.Fatalf("look says %+v, %+v, %v, %v", patch, r, why, err)
		}
		w.GiveUp() // has nothing to give up
		deactivate(t, e, p)
	}

	await().GiveUp()
	w := await()
	deactivate(t, e, p)
	<-w.Cancelled()
	if _, _, _, err := w.Look(t.Context()); finding.CodeOf(err) != finding.WrongState || !strings.Contains(err.Error(), "was deactivated while its activation waited") {
		t.Errorf("look says %v", err)
	}
	if _, _, err := w.Activate(t.Context()); finding.CodeOf(err) != finding.WrongState {
		t.Errorf("activate says %v", err)
	}
	if _, _, _, err := e.Await(t.Context(), p.ID, patcher.ActivateOptions{Consistency: "soon"}); !strings.Contains(err.Error(), `there is no consistency "soon"`) {
		t.Errorf("await says %v", err)
	}
}

func TestQuiescentWaitsForAClosureOfThePatchBelow(t *testing.T) {
	s := newShop(t)
	below := s.module(t, "below", edit{`	waiting.Add(1)
	<-release
	return "waited"`, `	go func() {
		waiting.Add(1)
		<-release
	}()
	return "gone"`})
	above := s.module(t, "above", waitEdit)
	target := s.start(t)
	e, _ := attach(t, target)
	activate(t, e, load(t, e, below))
	expect(t, target, "/wait", "gone")
	targettest.Eventually(t, "the goroutine", func() bool { return count(target.Get("/waiting")) == 1 })
	p := load(t, e, above)
	_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent, Timeout: 20 * time.Millisecond})
	if finding.CodeOf(err) != finding.QuiescenceTimeout || !strings.Contains(err.Error(), "main.wait.func1") {
		t.Errorf("activate says %v", err)
	}
	target.Get("/release")
	if _, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent, Timeout: long}); err != nil {
		t.Error(err)
	}
	target.MustLive()
}

// What starts a goroutine is a function of its own, and the new code has another
// one; what has another signature is a new function, to which callers are led.
func TestCodeBesideReplacedFunctionsIsOldToo(t *testing.T) {
	const start = "go time.Sleep(time.Hour)"
	s := newShop(t)
	m := s.module(t, "beside", edit{start, "go time.Sleep(30 * time.Minute)",
		"func wait() string {", "func wait(word string) string {", `return "waited"`, "return word", "wait())", `wait("anew"))`})
	target := s.start(t)
	e, _ := attach(t, target)
	expect(t, target, "/crowd?n=3", "asleep")
	p := load(t, e, m)

	_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{Consistency: patcher.Quiescent, Timeout: 20 * time.Millisecond})
	r := finding.As(err)
	if finding.CodeOf(err) != finding.QuiescenceTimeout || len(r.Findings) != 4 || !strings.Contains(err.Error(), "3 calls are in code that it replaces") {
		t.Fatalf("activate says %v", err)
	}
	line := strings.Count(strings.Split(s.source(t), start)[0], "\n") + 1
	for _, f := range r.Findings[1:] {
		if !strings.HasSuffix(f.Function, ".gowrap1") || !strings.HasSuffix(f.Source, "main.go:"+strconv.Itoa(line)) {
			t.Errorf("a finding is %+v, want line %d", f, line)
		}
	}

	answers := waiters(t, target, 2)
	// Each is in the function, and in its caller.
	activate(t, e, p)
	if l, err := e.List(t.Context()); frames(t, l, err) != 3+2*2 {
		t.Errorf("list says %+v", l)
	}
	expect(t, target, "/crowd?n=2", "asleep")
	for range 2 {
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("a call that was under way says %q", got)
		}
	}
	targettest.Eventually(t, "only those that sleep in old code", func() bool {
		l, err := e.List(t.Context())
		return frames(t, l, err) == 3
	})
	answers = waiters(t, target, 1)
	target.Get("/release")
	if got := <-answers; got != "anew" {
		t.Errorf("a new call says %q", got)
	}
	target.MustLive()
}

func TestListCountsFramesInOldCodeUntilThereAreNone(t *testing.T) {
	s := newShop(t)
	target := s.start(t)
	m := s.module(t, "wait", waitEdit)
	proc, e := attachProcess(t, target)
	p := load(t, e, m)
	answers := waiters(t, target, 3)
	patch, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	if err != nil || r.Halts != 0 || patch.Functions[0].FramesInOldCode != -1 {
		t.Fatalf("activate says %+v, %+v, %v", patch, r, err)
	}
	var receipt *patcher.Receipt // of the last list
	list := func() int {
		t.Helper()
		l, err := e.List(t.Context())
		if err == nil {
			receipt = l.Receipt
		}
		return frames(t, l, err)
	}
	halts := func(f func()) int {
		stop := proc.Measure()
		f()
		return stop().Halts
	}
	for n := 3; n > 0; n-- {
		if got := list(); got != n {
			t.Errorf("%d frames in old code, want %d", got, n)
		}
		target.Get("/release")
		if got := <-answers; got != "waited" {
			t.Errorf("a call that was under way says %q", got)
		}
	}
	targettest.Eventually(t, "nobody in old code", func() bool { return list() == 0 })
	if n := halts(func() { list() }); n != 0 {
		t.Errorf("list of a settled process makes %d halts", n)
	}
	if receipt != nil {
		t.Errorf("and says %+v", receipt)
	}

	// Without a halt nobody counts, and the first list does.
	deactivate(t, e, p)
	answers = waiters(t, target, 1)
	patch, r, err = e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	if err != nil || r.Halts != 0 || patch.Functions[0].FramesInOldCode != -1 {
		t.Errorf("activate says %+v, %+v, %v", patch, r, err)
	}
	if n := halts(func() {
		if l, err := e.Known(t.Context()); err != nil || frames(t, l, nil) != -1 {
			t.Errorf("known is %+v, %v", l, err)
		}
	}); n != 0 {
		t.Errorf("what is known takes %d halts", n)
	}
	if n := halts(func() {
		if got := list(); got != 1 {
			t.Errorf("%d frames in old code, want 1", got)
		}
	}); n != 1 {
		t.Errorf("list makes %d halts", n)
	}
	if receipt == nil || receipt.Operation != patcher.OpList || receipt.Halts != 1 || receipt.HaltMicros == 0 {
		t.Errorf("and says %+v", receipt)
	}
	target.Get("/release")
	<-answers
	target.MustLive()
}

// attachProcess is attach for a test that halts the target itself.
func attachProcess(t testing.TB, target *targettest.Target) (*process.Process, *patcher.Engine) {
	t.Helper()
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	e, err := patcher.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return p, e
}
