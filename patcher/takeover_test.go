package patcher_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

// Where the arena keeps the registry in its file: see package arena.
const (
	slotsAt    = 16384
	slotLength = 16 << 20
	slotHeader = 16
)

// registryFile is the file of the arena in a target.
type registryFile struct{ *os.File }

func openRegistry(t testing.TB, target *targettest.Target) registryFile {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", target.Pid())
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		path := filepath.Join(dir, fd.Name())
		if to, _ := os.Readlink(path); strings.HasPrefix(to, "/memfd:darn") {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return registryFile{f}
		}
	}
	t.Fatal("the process has no arena")
	return registryFile{}
}

// newest returns where the slot is that was saved last.
func (f registryFile) newest(t testing.TB) (at int64) {
	t.Helper()
	var last uint64
	for _, slot := range []int64{slotsAt, slotsAt + slotLength} {
		var b [8]byte
		if _, err := f.ReadAt(b[:], slot); err != nil {
			t.Fatal(err)
		}
		if n := binary.LittleEndian.Uint64(b[:]); n > last {
			last, at = n, slot
		}
	}
	return at
}

// forget makes the last save undone, as a Darn leaves the registry that is
// killed before it makes it.
func (f registryFile) forget(t testing.TB) {
	t.Helper()
	if _, err := f.WriteAt(make([]byte, slotHeader), f.newest(t)); err != nil {
		t.Fatal(err)
	}
}

// read parses the registry.
func (f registryFile) read(t testing.TB, into any) {
	t.Helper()
	at := f.newest(t)
	var header [slotHeader]byte
	if _, err := f.ReadAt(header[:], at); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, binary.LittleEndian.Uint32(header[8:]))
	if _, err := f.ReadAt(data, at+slotHeader); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// newBoxShop is a shop with a function whose entry can only be redirected
// directly, because its first instruction may fault, and with others.
func newBoxShop(t testing.TB) *shop {
	t.Helper()
	const key = "box"
	if s := shops[key]; s != nil {
		return s
	}
	root := filepath.Join(scratch, key)
	s := &shop{dir: filepath.Join(root, "shop"), base: filepath.Join(root, "base")}
	source := filepath.Join(targettest.Root(t), "testdata", "targets", "shop")
	for _, dir := range []string{s.dir, s.base} {
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		main := filepath.Join(dir, "main.go")
		code, err := os.ReadFile(main)
		if err != nil {
			t.Fatal(err)
		}
		const handlers = `	http.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, shelf.count(), total(1, 10))
	})
	http.HandleFunc("/weigh", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, shelf.weight(2))
	})
	http.HandleFunc("/spin", func(w http.ResponseWriter, r *http.Request) {
		go outer()
		fmt.Fprintln(w, "spinning")
	})
	http.HandleFunc("/still", func(w http.ResponseWriter, r *http.Request) {
		still.Store(true)
		fmt.Fprintln(w, "still")
	})
	l, err :=`
		const more = `
type box struct{ n int }

var shelf = &box{4}

//go:noinline
func (b *box) count() int { return b.n + 1 }

//go:noinline
func (b *box) weight(k int) int { return b.n*k + 1 }

var (
	still atomic.Bool
	turns int
)

//go:noinline
func outer() { inner(); turns++ }

//go:noinline
func inner() {
	for !still.Load() {
	}
}
`
		text := strings.Replace(string(code), "	l, err :=", handlers, 1) + more
		if err := os.WriteFile(main, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.exe = targettest.Build(t, s.dir)
	shops[key] = s
	return s
}

// countEdit makes /count answer n more, and 10 times as much for the total.
func countEdit(n int) edit {
	return edit{"return b.n + 1", fmt.Sprintf("return b.n + %d", n), "return n * price", fmt.Sprintf("return n*price + %d", n)}
}

func TestTakeOverRollsBack(t *testing.T) {
	s := newBoxShop(t)
	m := s.module(t, "count", countEdit(3))
	other := s.module(t, "describe", edit{`return "a " + t.label()`, `return "one " + t.label()`})
	// Each leaves the target half way between two states: the writes are made,
	// the end is not recorded. The program runs on.
	tests := []struct {
		name  string
		do    func(t *testing.T, e *patcher.Engine)
		state []patcher.State // when it is taken over
		count string
	}{
		{"first load", func(t *testing.T, e *patcher.Engine) { load(t, e, m) }, nil, "5 10"},
		{"second load", func(t *testing.T, e *patcher.Engine) {
			load(t, e, other)
			load(t, e, m)
		}, []patcher.State{patcher.Loaded}, "5 10"},
		{"activate", func(t *testing.T, e *patcher.Engine) { activate(t, e, load(t, e, m)) }, []patcher.State{patcher.Loaded}, "5 10"},
		{"deactivate", func(t *testing.T, e *patcher.Engine) {
			p := load(t, e, m)
			activate(t, e, p)
			deactivate(t, e, p)
		}, []patcher.State{patcher.Active}, "7 13"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target := s.start(t, "GOGC=5")
			before := snapshot(t, target.Pid())
			e, detach := attach(t, target)
			test.do(t, e)
			detach()
			openRegistry(t, target).forget(t)
			for range 20 {
				target.Get("/count")
				target.Get("/describe")
			}
			expect(t, target, "/gc", "collected")

			e, _ = attach(t, target)
			l, err := e.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Patches) != len(test.state) || len(l.Patches) > 0 && l.Patches[0].State != test.state[0] {
				t.Fatalf("list says %+v", l.Patches)
			}
			expect(t, target, "/count", test.count)
			for i := range l.Patches {
				p := &l.Patches[i]
				if p.State == patcher.Active {
					deactivate(t, e, p)
				}
				unload(t, e, p)
			}
			expect(t, target, "/count", "5 10")
			for range 2 {
				p := load(t, e, m)
				activate(t, e, p)
				expect(t, target, "/count", "7 13")
				expect(t, target, "/gc", "collected")
				deactivate(t, e, p)
				unload(t, e, p)
			}
			expect(t, target, "/count", "5 10")
			if d := before.diff(snapshot(t, target.Pid())); d != "" && !strings.Contains(test.name, "load") {
				t.Errorf("after unload the process is not as it was:\n%s", d)
			}
			target.MustLive()
		})
	}
}

func TestTakeOverOfAnArenaThatWasNeverUsed(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	before := snapshot(t, target.Pid())
	// A Darn that is killed after it made the arena, and before it did anything
	// with it, is one whose load is undone without a trace in the registry.
	e, detach := attach(t, target)
	load(t, e, m)
	detach()
	f := openRegistry(t, target)
	f.forget(t)
	_, detach = attach(t, target)
	detach()
	for _, at := range []int64{slotsAt, slotsAt + slotLength} {
		if _, err := f.WriteAt(make([]byte, slotHeader), at); err != nil {
			t.Fatal(err)
		}
	}

	e, _ = attach(t, target)
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	activate(t, e, load(t, e, m))
	expect(t, target, "/total", "270")
}

// TestDirectRedirectsStack toggles and unloads patches of one function that is
// redirected directly and one that is not, against a model.
func TestDirectRedirectsStack(t *testing.T) {
	s := newBoxShop(t)
	var modules []string
	for i := range 3 {
		modules = append(modules, s.module(t, fmt.Sprint("count", i), countEdit(i+2)))
	}
	target := s.start(t, "GOGC=5")
	e, _ := attach(t, target)
	type layer struct {
		p  *patcher.Patch
		n  int // what it adds
		on bool
	}
	var stack []*layer // of those that were ever active
	want := func() string {
		for i := len(stack) - 1; i >= 0; i-- {
			if stack[i].on {
				return fmt.Sprintf("%d %d", 4+stack[i].n, 10+stack[i].n)
			}
		}
		return "5 10"
	}
	var loaded []*layer
	for i, m := range modules {
		loaded = append(loaded, &layer{p: load(t, e, m), n: i + 2})
	}
	encodings := map[string]bool{}
	toggle := func(i int) {
		l := loaded[i]
		if l.on {
			deactivate(t, e, l.p)
		} else {
			for k := range activate(t, e, l.p).Encodings {
				encodings[k] = true
			}
			found := false
			for _, x := range stack {
				found = found || x == l
			}
			if !found {
				stack = append(stack, l)
			}
		}
		l.on = !l.on
		expect(t, target, "/count", want())
	}
	for _, i := range []int{1, 0, 2, 0, 2, 1, 0, 2, 1, 0} {
		toggle(i)
	}
	if !encodings["direct"] || !encodings["jump"] {
		t.Fatalf("the encodings are %v", encodings)
	}
	for _, i := range []int{0, 1, 2} {
		l := loaded[i]
		if l.on {
			toggle(i)
		}
		unload(t, e, l.p)
		expect(t, target, "/count", want())
		expect(t, target, "/gc", "collected")
	}
	expect(t, target, "/count", "5 10")
	target.MustLive()
}

// TestMemoryIsUsedAgain loads and unloads while another patch stays: what the
// runtime's lists took must not pile up.
func TestMemoryIsUsedAgain(t *testing.T) {
	s := newShop(t)
	stays := s.module(t, "describe", edit{`return "a " + t.label()`, `return "one " + t.label()`})
	m := s.module(t, "discount", discount)
	target := s.start(t)
	e, _ := attach(t, target)
	load(t, e, stays)
	var r struct {
		Data, Blocks []any
		Runtime      struct{ Retired []any }
	}
	for range 5 {
		p := load(t, e, m)
		activate(t, e, p)
		deactivate(t, e, p)
		unload(t, e, p)
		openRegistry(t, target).read(t, &r)
		if len(r.Data) != 1 || len(r.Blocks) != 1 || len(r.Runtime.Retired) != 0 {
			t.Fatalf("the registry has %+v", r)
		}
	}
}

func TestFramesOfARunningGoroutineCount(t *testing.T) {
	s := newBoxShop(t)
	m := s.module(t, "outer", edit{"func outer() { inner(); turns++ }", "func outer() { inner(); turns += 2 }"})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, m)
	expect(t, target, "/spin", "spinning")
	defer target.Get("/still")
	activate(t, e, p)
	if l, err := e.List(t.Context()); len(p.Functions) != 1 || frames(t, l, err) != 1 {
		t.Errorf("list says %+v", l)
	}
}

// TestBreakpoints: the debugger's own must neither become a part of a jump nor
// be left in memory that is given back.
func TestBreakpoints(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	e, err := patcher.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	patch := load(t, e, m)
	// with runs f while there is a breakpoint.
	with := func(addr uint64, f func()) {
		t.Helper()
		err := p.Halt(t.Context(), func(h *process.Halt) error {
			_, err := h.Target().SetBreakpoint(0, addr, proc.UserBreakpoint, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		f()
		if err := p.Halt(t.Context(), func(h *process.Halt) error { return h.Target().ClearBreakpoint(addr) }); err != nil {
			t.Fatal(err)
		}
	}
	with(patch.Functions[0].Address+4, func() { // the ret
		_, _, err := e.Activate(t.Context(), patch.ID, patcher.ActivateOptions{})
		if finding.CodeOf(err) != finding.BreakpointAtEntry || !strings.Contains(err.Error(), "main.total") {
			t.Errorf("activate says %v", err)
		}
	})
	expect(t, target, "/total", "300")
	activate(t, e, patch)
	expect(t, target, "/total", "270")
	deactivate(t, e, patch)
	with(patch.Functions[0].NewAddress, func() {
		if _, err := e.Unload(t.Context(), patch.ID); finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "breakpoint") {
			t.Errorf("unload says %v", err)
		}
	})
	unload(t, e, patch)
	expect(t, target, "/total", "300")
}

func TestClosedEngine(t *testing.T) {
	s := newShop(t)
	e, _ := attach(t, s.start(t))
	for range 2 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.List(t.Context()); err == nil {
		t.Error("a closed engine still works")
	}
}
