package patcher_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/internal/darnbuild"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

func TestMain(m *testing.M) {
	build.ToolMain()
	var err error
	if scratch, err = os.MkdirTemp("", "patcher-test-"); err != nil {
		panic(err)
	}
	builder = darnbuild.New(scratch)
	code := targettest.Run(m)
	os.RemoveAll(scratch)
	os.Exit(code)
}

// scratch holds what several tests share.
var scratch string

var builder *darnbuild.Builder

// shop is a source tree of a program in testdata/targets, most often of shop,
// and the program built from it.
type shop struct {
	dir, base, exe string
	modules        map[string][]byte // built so far, see build
}

// shops are the programs built so far, by their names and the flags they were
// built with.
var shops = map[string]*shop{}

func newShop(t testing.TB, flags ...string) *shop {
	t.Helper()
	return newProgram(t, "shop", flags...)
}

func newProgram(t testing.TB, name string, flags ...string) *shop {
	t.Helper()
	key := strings.Join(append([]string{name}, flags...), " ")
	if s := shops[key]; s != nil {
		return s
	}
	root := filepath.Join(scratch, fmt.Sprint(len(shops)))
	s := &shop{dir: filepath.Join(root, name), base: filepath.Join(root, "base")}
	source := os.DirFS(filepath.Join(targettest.Root(t), "testdata", "targets", name))
	for _, dir := range []string{s.dir, s.base} {
		if err := os.CopyFS(dir, source); err != nil {
			t.Fatal(err)
		}
	}
	s.exe = targettest.Build(t, s.dir, flags...)
	shops[key] = s
	return s
}

// edit is a change of source: each pair replaces its first by its second.
type edit []string

// module builds a module of an edit of the shop's source, to be loaded after
// others.
func (s *shop) module(t testing.TB, name string, e edit, after ...string) string {
	t.Helper()
	out, err := s.build(t, name, e, after...)
	if err != nil {
		t.Fatalf("building %s: %v", name, err)
	}
	return out
}

// build tries to build a module. What another test has built is not built again.
func (s *shop) build(t testing.TB, name string, e edit, after ...string) (path string, err error) {
	t.Helper()
	main := filepath.Join(s.dir, "main.go")
	old, err := os.ReadFile(filepath.Join(s.base, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(e); i += 2 {
		if !strings.Contains(string(old), e[i]) {
			t.Fatalf("the source has no %q", e[i])
		}
	}
	if err := os.WriteFile(main, []byte(strings.NewReplacer(e...).Replace(string(old))), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), name+".so")
	key := fmt.Sprintf("%q", append([]string{name}, e...))
	if m := s.modules[key]; m != nil && len(after) == 0 {
		return out, os.WriteFile(out, m, 0o644)
	}
	err = builder.Build(t.Context(), build.Options{Dir: s.dir, Base: s.base, Target: s.exe, Output: out, After: after})
	if err == nil && len(after) == 0 {
		if s.modules == nil {
			s.modules = map[string][]byte{}
		}
		if s.modules[key], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	return out, err
}

// aim has a module replace another function of the program instead of its
// first, one that no build would replace at its entry.
func (s *shop) aim(t testing.TB, path, symbol string) string {
	t.Helper()
	m, err := module.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := exe.Open(s.exe)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	old, ok, _ := x.Symbol(symbol)
	if !ok {
		t.Fatalf("the program has no %s", symbol)
	}
	code := make([]byte, old.Size)
	if err := x.ReadAt(code, old.Addr); err != nil {
		t.Fatal(err)
	}
	f := &m.Manifest.Functions[0]
	f.Symbol, f.Offset, f.Size, f.SHA256, f.Masked = symbol, old.Addr-x.TextStart, old.Size, fmt.Sprintf("%x", sha256.Sum256(code)), nil
	out := filepath.Join(t.TempDir(), "aimed.so")
	if err := m.WriteFile(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *shop) start(t testing.TB, env ...string) *targettest.Target {
	t.Helper()
	target := targettest.Start(t, targettest.Command{Path: s.exe, Env: env})
	target.Get("/total") // it is up
	return target
}

// attach opens an Engine; detach lets the target go.
func attach(t testing.TB, target *targettest.Target) (e *patcher.Engine, detach func()) {
	t.Helper()
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if e, err = patcher.Open(p); err != nil {
		p.Close()
		t.Fatal(err)
	}
	var closed bool
	detach = func() {
		if closed {
			return
		}
		closed = true
		e.Close()
		if err := p.Close(); err != nil {
			t.Errorf("detaching: %v", err)
		}
	}
	t.Cleanup(detach)
	return e, detach
}

func load(t testing.TB, e *patcher.Engine, path string) *patcher.Patch {
	t.Helper()
	p, _, err := e.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func activate(t testing.TB, e *patcher.Engine, p *patcher.Patch) *patcher.Receipt {
	t.Helper()
	_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func deactivate(t testing.TB, e *patcher.Engine, p *patcher.Patch) *patcher.Receipt {
	t.Helper()
	_, r, err := e.Deactivate(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unload(t testing.TB, e *patcher.Engine, p *patcher.Patch) {
	t.Helper()
	if _, err := e.Unload(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, target *targettest.Target, path, want string) {
	t.Helper()
	if got := strings.TrimSpace(target.Get(path)); got != want {
		t.Fatalf("%s answers %q, want %q\n%s", path, got, want, target.Output())
	}
}

var discount = edit{"return n * price", "return n*price - 30"}

func TestStory(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	before := snapshot(t, target.Pid())
	expect(t, target, "/total", "300")

	e, detach := attach(t, target)
	p := load(t, e, m)
	if p.State != patcher.Loaded {
		t.Errorf("after load the state is %s", p.State)
	}
	expect(t, target, "/total", "300")
	activate(t, e, p)
	expect(t, target, "/total", "270")
	deactivate(t, e, p)
	expect(t, target, "/total", "300")
	unload(t, e, p)
	expect(t, target, "/total", "300")
	detach()
	expect(t, target, "/total", "300")
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("after unload the process is not as it was:\n%s", d)
	}
}

func TestEdits(t *testing.T) {
	tests := []struct {
		name     string
		edit     edit
		path     string
		old, new string
	}{
		{"plain function", discount, "/total", "300", "270"},
		{
			"method", edit{`"hello %s", name)`, `"welcome %s, visit %d", name, c.n[name]-c.n[name]+1)`},
			"/greet?name=eve", "hello eve", "welcome eve, visit 1",
		},
		{
			"interface and type switch",
			edit{`return "a " + t.label()`, "switch t := t.(type) {\n\tcase article:\n\t\treturn fmt.Sprintf(\"a %s for %d\", t.name, t.price)\n\t}\n\treturn \"?\""},
			"/describe", "a pen", "a pen for 120",
		},
		{
			"new type with methods",
			edit{
				`return "a " + t.label()`, "return fmt.Sprintf(\"%v\", boxed{t})",
				"//go:noinline\nfunc describe", "type boxed struct{ thing }\n\nfunc (b boxed) String() string { return \"boxed \" + b.label() }\n\n//go:noinline\nfunc describe",
			},
			"/describe", "a pen", "boxed pen",
		},
		{
			"new variable",
			edit{"return n * price", "rebate++\n\treturn n*price - rebate + rebate - 1", "//go:noinline\nfunc total", "var rebate = 10\n\n//go:noinline\nfunc total"},
			"/total", "300", "299",
		},
		{"function with a line that begins inside the jump", edit{"flags = 2", "flags = 4"}, "/mark", "2", "4"},
		{"handler", edit{`"fixed price"`, `"half price for", r.URL.Path`}, "/fixed", "fixed price", "half price for /fixed"},
		{"closure", edit{"total(3, 100))", "total(3, 100), \"net\")"}, "/total", "300", "300 net"},
		{
			"changed signature",
			edit{"func total(n, price int) int {\n\treturn n * price", "func total(n, price, rebate int) int {\n\treturn n*price - rebate", "total(3, 100)", "total(3, 100, 5)"},
			"/total", "300", "295",
		},
		{"generic function", edit{"m = max(m, v)", "m = min(m, v)"}, "/largest", "9 c", "3 a"},
		{"panic and recover", edit{"return fmt.Sprint(a / b)", "if b == 0 {\n\t\tpanic(\"no zero\")\n\t}\n\treturn fmt.Sprint(a / b)"}, "/safe", "recovered: runtime error: integer divide by zero", "recovered: no zero"},
		{
			"goroutines, channels, maps",
			edit{"return n * price", "c := make(chan map[string]int)\n\tgo func() { c <- map[string]int{\"total\": n*price + 1} }()\n\treturn (<-c)[\"total\"]"},
			"/total", "300", "301",
		},
		{
			"new package with initialisation",
			edit{
				`return "a " + t.label()`, "b, err := json.Marshal(map[string]any{\"label\": t.label()})\n\tif err != nil {\n\t\treturn err.Error()\n\t}\n\treturn string(b)",
				`"fmt"`, "\"encoding/json\"\n\t\"fmt\"",
			},
			"/describe", "a pen", `{"label":"pen"}`,
		},
	}
	s := newShop(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := s.module(t, "edit", test.edit)
			target := s.start(t, "GOGC=1")
			e, _ := attach(t, target)
			expect(t, target, test.path, test.old)
			p := load(t, e, m)
			for range 3 {
				activate(t, e, p)
				for range 50 {
					expect(t, target, test.path, test.new)
				}
				expect(t, target, "/gc", "collected")
				expect(t, target, test.path, test.new)
				deactivate(t, e, p)
				expect(t, target, test.path, test.old)
				expect(t, target, "/gc", "collected")
			}
			target.MustLive()
		})
	}
}

func TestStackedPatchesUnloadInAnyOrder(t *testing.T) {
	s := newShop(t)
	modules := []string{
		s.module(t, "first", edit{"return n * price", "return n*price + 1"}),
		s.module(t, "second", edit{"return n * price", "return n*price + 2"}),
		s.module(t, "third", edit{"return n * price", "return n*price + 3"}),
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			target := s.start(t)
			e, _ := attach(t, target)
			var patches []*patcher.Patch
			for i, m := range modules {
				p := load(t, e, m)
				patches = append(patches, p)
				activate(t, e, p)
				expect(t, target, "/total", fmt.Sprint(301+i))
			}
			active := []int{0, 1, 2}
			for _, i := range order {
				deactivate(t, e, patches[i])
				active = slices.DeleteFunc(active, func(j int) bool { return i == j })
				want := "300"
				if n := len(active); n > 0 {
					want = fmt.Sprint(301 + active[n-1])
				}
				expect(t, target, "/total", want)
				unload(t, e, patches[i])
				expect(t, target, "/total", want)
			}
			target.MustLive()
		})
	}
}

func TestNextEngineTakesOver(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	e, detach := attach(t, target)
	activate(t, e, load(t, e, m))
	detach()
	expect(t, target, "/total", "270")

	e, _ = attach(t, target)
	l, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Patches) != 1 || l.Patches[0].State != patcher.Active || l.Patches[0].Functions[0].Name != "main.total" {
		t.Fatalf("list says %+v", l)
	}
	p := &l.Patches[0]
	deactivate(t, e, p)
	expect(t, target, "/total", "300")
	activate(t, e, p)
	expect(t, target, "/total", "270")
	deactivate(t, e, p)
	unload(t, e, p)
	expect(t, target, "/total", "300")
}

func TestToggleMakesNoHalt(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, m)
	if r := activate(t, e, p); r.Halts != 1 {
		t.Errorf("the first activation made %d halts, want 1", r.Halts)
	}
	for range 100 {
		if r := deactivate(t, e, p); r.Halts != 0 {
			t.Fatalf("deactivate made %d halts", r.Halts)
		}
		if r := activate(t, e, p); r.Halts != 0 {
			t.Fatalf("activate made %d halts", r.Halts)
		}
	}
}

func TestUnloadNamesWhoIsInTheModule(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "wait", edit{`return "waited"`, `return "waited anew"`})
	target := s.start(t)
	e, _ := attach(t, target)
	p := load(t, e, m)
	activate(t, e, p)
	answer := make(chan string)
	go func() { answer <- target.Get("/wait") }()
	targettest.Eventually(t, "a goroutine in the new code", func() bool {
		return strings.TrimSpace(target.Get("/waiting")) == "1"
	})
	deactivate(t, e, p)
	_, err := e.Unload(t.Context(), p.ID)
	if finding.CodeOf(err) != finding.InUse || !strings.Contains(err.Error(), "main.wait") || !strings.Contains(err.Error(), "goroutine") {
		t.Errorf("unload says %v", err)
	}
	l, lerr := e.List(t.Context())
	if lerr != nil || len(l.Patches) != 1 || l.Patches[0].State != patcher.Loaded {
		t.Errorf("after the refusal list says %+v, %v", l, lerr)
	}
	expect(t, target, "/release", "released")
	if got := strings.TrimSpace(<-answer); got != "waited anew" {
		t.Errorf("the waiting request was answered %q", got)
	}
	unload(t, e, p)
}

func TestRefusals(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	other := newShop(t, "-tags=other", "-gcflags=all=-N")
	target, stranger := s.start(t), other.start(t)
	ctx := t.Context()
	e, detach := attach(t, target)
	p := load(t, e, m)
	tests := []struct {
		name string
		do   func() error
		code finding.Code
		text string
	}{
		{"load again", func() error { _, _, err := e.Load(ctx, m); return err }, finding.AlreadyLoaded, "already loaded as patch 1, which is loaded"},
		{"deactivate what is not active", func() error { _, _, err := e.Deactivate(ctx, p.ID); return err }, finding.WrongState, "cannot deactivate patch 1: it is loaded"},
		{"unknown id", func() error {
			_, _, err := e.Activate(ctx, "7", patcher.ActivateOptions{})
			return err
		}, finding.NotLoaded, `no patch "7" is loaded`},
		{"unload what is active", func() error {
			activate(t, e, p)
			defer deactivate(t, e, p)
			_, err := e.Unload(ctx, p.ID)
			return err
		}, finding.WrongState, "cannot unload patch 1: it is active"},
		{"no such file", func() error { _, _, err := e.Load(ctx, "/nonexistent.so"); return err }, "", "no such file"},
		{"not a module", func() error { _, _, err := e.Load(ctx, filepath.Join(s.dir, "main.go")); return err }, finding.ModuleMalformed, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.do()
			if err == nil || finding.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	unload(t, e, p)
	detach()

	t.Run("module for another build", func(t *testing.T) {
		before := snapshot(t, stranger.Pid())
		e, detach := attach(t, stranger)
		_, _, err := e.Load(ctx, m)
		if finding.CodeOf(err) != finding.BuildIDMismatch {
			t.Errorf("got %v", err)
		}
		detach()
		if d := before.diff(snapshot(t, stranger.Pid())); d != "" {
			t.Errorf("the process is not as it was:\n%s", d)
		}
	})
}

func TestTextChangedBySomeoneElse(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	in := func() *patcher.Inspection {
		e, detach := attach(t, target)
		defer detach()
		in, err := e.Inspect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}()
	if !in.OK {
		t.Fatalf("inspect says %+v", in)
	}
	poke(t, target, in.Module.Functions[0].Address+1, 0x90)
	before := snapshot(t, target.Pid())
	e, detach := attach(t, target)
	if _, _, err := e.Load(t.Context(), m); finding.CodeOf(err) != finding.TextMismatch || !strings.Contains(err.Error(), "main.total") {
		t.Errorf("got %v", err)
	}
	detach()
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
}

var twoFunctions = edit{"return n * price", "return n*price - 30", `return "a " + t.label()`, `return "one " + t.label()`}

func TestActivationThatFailsHalfwayIsUndone(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "two", twoFunctions)
	target := s.start(t)
	e, detach := attach(t, target)
	p := load(t, e, m)
	if len(p.Functions) != 2 {
		t.Fatalf("the patch has the functions %+v", p.Functions)
	}
	// Somebody puts an equally valid first byte to the entry that is written
	// last: the write before it has been made by then.
	poke(t, target, p.Functions[1].Address, 0x90)
	before := snapshot(t, target.Pid())
	_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	if finding.CodeOf(err) != finding.TextMismatch {
		t.Errorf("activate says %v", err)
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	l, err := e.List(t.Context())
	if err != nil || l.Patches[0].State != patcher.Loaded {
		t.Errorf("list says %+v, %v", l, err)
	}
	detach()
	target.MustLive()
}

// poke changes a byte of the target's text behind Darn's back.
func poke(t testing.TB, target *targettest.Target, addr uint64, b byte) {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", target.Pid()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt([]byte{b}, int64(addr)); err != nil {
		t.Fatal(err)
	}
}

func TestNoRequestFailsWhilePatchesComeAndGo(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "two", twoFunctions)
	target := s.start(t, "GOGC=5")
	e, detach := attach(t, target)
	stop, failed := make(chan struct{}), make(chan string, 100)
	var clients sync.WaitGroup
	var requests atomic.Int64
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for path, want := range map[string][]string{"/total": {"300", "270"}, "/describe": {"a pen", "one pen"}} {
					requests.Add(1)
					if got := strings.TrimSpace(target.Get(path)); !slices.Contains(want, got) {
						failed <- path + " answered " + got
						return
					}
				}
			}
		})
	}
	const rounds = 10
	for range rounds {
		p := load(t, e, m)
		for range 50 {
			activate(t, e, p)
			deactivate(t, e, p)
		}
		targettest.Eventually(t, "an unload", func() bool {
			_, err := e.Unload(t.Context(), p.ID)
			if err != nil && finding.CodeOf(err) != finding.InUse && finding.CodeOf(err) != finding.GCTimeout {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	close(stop)
	clients.Wait()
	detach()
	target.MustLive()
	select {
	case f := <-failed:
		t.Error(f)
	default:
	}
	t.Logf("%d requests in %d rounds", requests.Load(), rounds)
}

// The itabs that the runtime has made of a patch's own type stay in its memory,
// and must not keep the next patch that comes to lie at the same place.
func TestAPatchWithATypeOfItsOwnComesAndGoes(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "boxed", edit{
		`return "a " + t.label()`, "return fmt.Sprintf(\"%v\", boxed{t})",
		"//go:noinline\nfunc describe", "type boxed struct{ thing }\n\nfunc (b boxed) String() string { return \"boxed \" + b.label() }\n\n//go:noinline\nfunc describe",
	})
	stays := s.module(t, "discount", discount)
	target := s.start(t)
	e, _ := attach(t, target)
	load(t, e, stays)
	for range 3 {
		p := load(t, e, m)
		activate(t, e, p)
		expect(t, target, "/describe", "boxed pen")
		deactivate(t, e, p)
		unload(t, e, p)
	}
}

func TestALineThatBeginsInsideTheJumpIsRefused(t *testing.T) {
	s := newShop(t)
	m := s.aim(t, s.module(t, "lines", discount), "main.mark")
	target := s.start(t)
	before := snapshot(t, target.Pid())
	e, detach := attach(t, target)
	_, _, err := e.Load(t.Context(), m)
	if finding.CodeOf(err) != finding.BreakpointAtEntry || !strings.Contains(err.Error(), "main.mark: line") {
		t.Errorf("load says %v", err)
	}
	detach()
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
}

// A program maps what it wants between two looks of ours.
func TestALoadPlansAnewIfTheProgramTakesThePlace(t *testing.T) {
	s := newShop(t)
	m := s.module(t, "discount", discount)
	target := s.start(t)
	proc, e := attachProcess(t, target)
	taken := 0
	take := func(base uint64) {
		if taken++; taken > 2 {
			return
		}
		err := proc.Halt(t.Context(), func(h *process.Halt) error {
			_, err := h.Syscall(unix.SYS_MMAP, base, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	e.WhenPlanned(take)
	p := load(t, e, m)
	if taken != 3 {
		t.Errorf("it planned %d times", taken)
	}
	activate(t, e, p)
	expect(t, target, "/total", "270")
	deactivate(t, e, p)
	unload(t, e, p)

	// One that does it again and again is left alone.
	before := snapshot(t, target.Pid())
	var places []uint64
	e.WhenPlanned(func(base uint64) { taken = 0; take(base); places = append(places, base) })
	if _, _, err := e.Load(t.Context(), m); finding.CodeOf(err) != finding.OutOfRange || !strings.HasSuffix(err.Error(), "meanwhile [out-of-range]; try again") {
		t.Errorf("load says %v", err)
	}
	if err := proc.Halt(t.Context(), func(h *process.Halt) (err error) {
		for _, at := range places {
			_, e := h.Syscall(unix.SYS_MUNMAP, at, 4096)
			err = errors.Join(err, e)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	target.MustLive()
}
