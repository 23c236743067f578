package redirect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// self is the memory of the test's own process, whose compiled Go functions
// are redirected.
type self struct {
	mem       *os.File
	next, end uint64 // free r-x memory
}

func newSelf(t testing.TB) *self {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("needs linux/amd64")
	}
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	const size = 1 << 16
	at := uint64(entryOf(newSelf))&^0xFFFF + 1<<28
	for range 100 {
		p, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, at), size, unix.PROT_READ|unix.PROT_EXEC,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE)
		if err == nil && uint64(uintptr(p)) == at {
			// Never unmapped: a goroutine might still be on its way out.
			return &self{mem, at, at + size}
		}
		at += 1 << 24
	}
	t.Fatal("no memory near the text")
	return nil
}

func (s *self) write(t testing.TB, addr uint64, data []byte) {
	t.Helper()
	if _, err := s.mem.WriteAt(data, int64(addr)); err != nil {
		t.Fatal(err)
	}
}

func (s *self) read(t testing.TB, addr uint64, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := s.mem.ReadAt(b, int64(addr)); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

func (s *self) place(t testing.TB, n int) uint64 {
	t.Helper()
	at := s.next
	if s.next += uint64(n+63) &^ 63; s.next > s.end {
		t.Fatal("no memory left for redirects")
	}
	return at
}

// entryOf returns the address of a function's code.
func entryOf(f any) uintptr { return reflect.ValueOf(f).Pointer() }

// plan analyzes a function of this process.
func (s *self) plan(t testing.TB, f any) *Plan {
	t.Helper()
	entry := entryOf(f)
	end := entry
	for g := runtime.FuncForPC(end); g != nil && g.Entry() == entry; g = runtime.FuncForPC(end) {
		end++
	}
	p, err := Analyze(s.read(t, uint64(entry), int(end-entry)), uint64(entry))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// redirect installs a redirect from one function of this process to another,
// until the end of the test.
func (s *self) redirect(t testing.TB, from, to any) *installed {
	t.Helper()
	in := install(t, s, s.plan(t, from), uint64(entryOf(to)))
	t.Cleanup(func() { in.restore(t) })
	return in
}

type number struct{ a, b int }

var (
	goGlobal = 5
	goSink   []byte
)

// The functions that are redirected: pairs of the same type, chosen for how
// the compiler begins them.

//go:noinline
func oldLeaf(a, b int) int { return a + b + 1000 }

//go:noinline
func newLeaf(a, b int) int { return a - b }

//go:noinline
func oldGlobal(n int) int { return goGlobal + n }

//go:noinline
func newGlobal(n int) int { return goGlobal - n }

//go:noinline
func oldSmallFrame(n int) string { return fmt.Sprint("old ", n) }

//go:noinline
func newSmallFrame(n int) string { return fmt.Sprint("new ", n) }

//go:noinline
func oldLargeFrame(n int) int {
	var b [1000]byte
	b[n] = 7
	goSink = append(goSink[:0], b[:]...)
	return int(goSink[n])
}

//go:noinline
func newLargeFrame(n int) int { return n * 2 }

//go:noinline
func oldHugeFrame(n int) int {
	var b [100000]byte
	b[n] = 9
	goSink = append(goSink[:0], b[:]...)
	return int(goSink[n])
}

//go:noinline
func newHugeFrame(n int) int { return n * 3 }

// oldDeep grows the stack through its own redirect, again and again.
//
//go:noinline
func oldDeep(n int) int {
	var b [64]byte
	b[n%64] = 1
	if n == 0 {
		runtime.GC()
		return 0
	}
	return oldDeep(n-1) + int(b[n%64])
}

//go:noinline
func newDeep(n int) int {
	if n == 0 {
		return 1 << 20
	}
	return oldDeep(n-1) + 2
}

//go:noinline
func oldFloats(a float64, b float32, c []int, s string) float64 {
	return a*float64(b) + float64(len(c)) + float64(len(s))
}

//go:noinline
func newFloats(a float64, b float32, c []int, s string) float64 { return a / float64(b) }

//go:noinline
func oldMany(a, b, c, d, e, f, g, h, i, j, k, l int) (int, string) {
	return a - b + c - d + e - f + g - h + i - j + k - l, "old"
}

//go:noinline
func newMany(a, b, c, d, e, f, g, h, i, j, k, l int) (int, string) {
	return a + b + c + d + e + f + g + h + i + j + k + l, "new"
}

// oldLoad begins with an access that may fault.
//
//go:noinline
//go:norace
func oldLoad(n *number) int { return n.a + n.b }

//go:noinline
func newLoad(n *number) int { return n.a - n.b }

//go:noinline
func oldDivide(a, b int) int { return a / b }

//go:noinline
func newDivide(a, b int) int { return a * b }

//go:noinline
func oldPanics(n int) int {
	if n > 3 {
		panic(errors.New("old panic"))
	}
	return goGlobal + n
}

//go:noinline
func newPanics(n int) int { panic(errors.New("new panic")) }

//go:noinline
func oldSwitch(n int) string {
	switch n {
	case 0:
		return "zero"
	case 1:
		return "one"
	case 2:
		return "two"
	case 3:
		return "three"
	case 4:
		return "four"
	case 5:
		return "five"
	case 6:
		return "six"
	case 7:
		return "seven"
	case 8:
		return "eight"
	}
	return fmt.Sprint(n)
}

//go:noinline
func newSwitch(n int) string { return "new" }

//go:noinline
func oldDefer(n int) (r int) {
	defer func() { r += n }()
	return recoverFrom(func() { panic(n) })
}

//go:noinline
func newDefer(n int) (r int) {
	defer func() { r -= n }()
	return n * n
}

func recoverFrom(f func()) (n int) {
	defer func() { n, _ = recover().(int) }()
	f()
	return 0
}

//go:noinline
func (n *number) String() string { return fmt.Sprint("old ", n.a, n.b) }

//go:noinline
func newString(n *number) string { return fmt.Sprint("new ", n.a, n.b) }

var goStringer fmt.Stringer = &number{7, 8}

var goFunctions = []struct {
	name     string
	old, new any
	call     func() any
	encoding Encoding // "" where it is the compiler's choice
}{
	{"leaf", oldLeaf, newLeaf, func() any { return oldLeaf(3, 4) }, JumpEncoding},
	{"global", oldGlobal, newGlobal, func() any { return oldGlobal(2) }, JumpEncoding},
	{"small frame", oldSmallFrame, newSmallFrame, func() any { return oldSmallFrame(2) }, JumpEncoding},
	{"large frame", oldLargeFrame, newLargeFrame, func() any { return oldLargeFrame(20) }, JumpEncoding},
	{"huge frame", oldHugeFrame, newHugeFrame, func() any { return oldHugeFrame(20) }, JumpEncoding},
	{"deep recursion", oldDeep, newDeep, func() any { return oldDeep(20000) }, JumpEncoding},
	{"floats", oldFloats, newFloats, func() any { return oldFloats(2.5, 1.5, []int{1}, "ab") }, ""},
	{"stack arguments", oldMany, newMany, func() any {
		n, s := oldMany(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)
		return fmt.Sprint(n, s)
	}, ""},
	{"load", oldLoad, newLoad, func() any { return oldLoad(&number{5, 6}) }, ""},
	{"division", oldDivide, newDivide, func() any { return oldDivide(50, 6) }, ""},
	{"panic", oldPanics, newPanics, func() (r any) {
		defer func() { r = fmt.Sprint(recover()) }()
		return oldPanics(7)
	}, JumpEncoding},
	{"switch", oldSwitch, newSwitch, func() any { return oldSwitch(3) + oldSwitch(7) + oldSwitch(77) }, ""},
	{"defer", oldDefer, newDefer, func() any { return oldDefer(4) }, JumpEncoding},
	{"method through an interface", (*number).String, newString, func() any { return goStringer.String() }, JumpEncoding},
}

// fresh runs f in a new goroutine, whose stack is small.
func fresh(f func() any) any {
	c := make(chan any)
	go func() { c <- f() }()
	return <-c
}

func TestRedirectedGoFunctionsRunOldAndNew(t *testing.T) {
	s := newSelf(t)
	for _, c := range goFunctions {
		t.Run(c.name, func(t *testing.T) {
			p := s.plan(t, c.old)
			if c.encoding != "" && p.Encoding != c.encoding {
				t.Errorf("encoding %s (%s), want %s", p.Encoding, p.Reason, c.encoding)
			}
			t.Logf("%s, %d bytes: % x", p.Encoding, p.Span, p.covered)
			old := fresh(c.call)
			in := install(t, s, p, uint64(entryOf(c.new)))
			defer in.restore(t)
			check := func(what string, isOld bool) {
				t.Helper()
				if got := fresh(c.call); (got == old) != isOld {
					t.Errorf("%s answers %v; the old code answers %v", what, got, old)
				}
			}
			check("inactive", true)
			in.set(t, true)
			check("active", false)
			in.set(t, false)
			check("inactive again", true)
			in.set(t, true)
			check("active again", false)
			in.restore(t)
			check("restored", true)
			if got := s.read(t, p.Entry, p.Offset+JumpSize)[p.Offset:]; !bytes.Equal(got, p.Old) {
				t.Errorf("the entry is % x, was % x", got, p.Old)
			}
		})
	}
}

func TestFaultInARedirectedFunctionBecomesAPanic(t *testing.T) {
	s := newSelf(t)
	for _, c := range []struct {
		name     string
		old, new any
		call     func() int
		text     string
	}{
		{"nil dereference", oldLoad, newLoad, func() int { return oldLoad(nil) }, "nil pointer dereference"},
		{"division by zero", oldDivide, newDivide, func() int { return oldDivide(1, goGlobal-5) }, "divide by zero"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := s.redirect(t, c.old, c.new)
			in.set(t, false)
			got := fresh(func() (r any) {
				defer func() { r = fmt.Sprint(recover()) }()
				return c.call()
			})
			if !strings.Contains(got.(string), c.text) {
				t.Errorf("%v, want a panic of %q", got, c.text)
			}
		})
	}
}

func TestStackedRedirectsRunTheTopmostActive(t *testing.T) {
	s := newSelf(t)
	lower := s.redirect(t, oldSmallFrame, newSmallFrame)
	upper := lower.stack(t, uint64(entryOf(topSmallFrame)))
	for _, c := range []struct {
		lower, upper bool
		want         string
	}{
		{false, false, "old 1"}, {true, false, "new 1"}, {false, true, "top 1"}, {true, true, "top 1"},
	} {
		lower.set(t, c.lower)
		upper.set(t, c.upper)
		if got := oldSmallFrame(1); got != c.want {
			t.Errorf("lower %t, upper %t: %q, want %q", c.lower, c.upper, got, c.want)
		}
	}
	// Take the lower one out, as an unload does.
	upper.set(t, false)
	field := upper.thunk() - StubNextSize
	next, err := StubNext(field, upper.thunk())
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, field, next)
	if got := oldSmallFrame(1); got != "old 1" {
		t.Errorf("without the lower one: %q", got)
	}
}

//go:noinline
func topSmallFrame(n int) string { return fmt.Sprint("top ", n) }

// TestTogglingUnderLoadLosesNoCall toggles under goroutines that call, grow
// their stacks, are preempted, profiled and collected.
func TestTogglingUnderLoadLosesNoCall(t *testing.T) {
	s := newSelf(t)
	var redirects []*installed
	for _, f := range [][2]any{{oldLeaf, newLeaf}, {oldGlobal, newGlobal}, {oldSmallFrame, newSmallFrame},
		{oldLargeFrame, newLargeFrame}} {
		redirects = append(redirects, s.redirect(t, f[0], f[1]))
	}
	calls := []struct {
		call     func() any
		old, new any
	}{
		{func() any { return oldLeaf(3, 4) }, 1007, -1},
		{func() any { return oldGlobal(2) }, 7, 3},
		{func() any { return oldSmallFrame(2) }, "old 2", "new 2"},
	}
	if err := pprof.StartCPUProfile(io.Discard); err == nil {
		defer pprof.StopCPUProfile()
	}
	var stop atomic.Bool
	var old, new [3]atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		for i, c := range calls {
			wg.Go(func() {
				for !stop.Load() {
					switch got := fresh(c.call); got {
					case c.old:
						old[i].Add(1)
					case c.new:
						new[i].Add(1)
					default:
						t.Errorf("call %d answers %v", i, got)
						return
					}
				}
			})
		}
	}
	seen := func() bool {
		for i := range calls {
			if old[i].Load() == 0 || new[i].Load() == 0 {
				return false
			}
		}
		return true
	}
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; i < 2000 || !seen() && time.Now().Before(deadline); i++ {
		for _, in := range redirects {
			in.set(t, i%2 == 0)
		}
		if i%100 == 0 {
			runtime.GC()
		}
		runtime.Gosched()
	}
	stop.Store(true)
	wg.Wait()
	if !seen() {
		t.Error("not every version was seen")
	}
	for i := range calls {
		t.Logf("call %d ran old code %d times, new %d", i, old[i].Load(), new[i].Load())
	}
}

func TestTracebackFromOldCodeNamesItsFunction(t *testing.T) {
	s := newSelf(t)
	in := s.redirect(t, oldCallers, newCallers)
	in.set(t, false)
	if got := fresh(func() any { return oldCallers(10) }).(string); !strings.Contains(got, "oldCallers") {
		t.Errorf("called by %q", got)
	}
	in.set(t, true)
	if got := fresh(func() any { return oldCallers(10) }).(string); !strings.Contains(got, "newCallers") {
		t.Errorf("called by %q", got)
	}
}

//go:noinline
func oldCallers(n int) string { return callers(n) }

//go:noinline
func newCallers(n int) string { return callers(n) }

//go:noinline
func callers(n int) string {
	pcs := make([]uintptr, n)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	f, _ := frames.Next()
	return f.Function
}
