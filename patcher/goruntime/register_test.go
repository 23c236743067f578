package goruntime

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// names are the functions of runtime-modules that its modules replace, one
// each.
var names = []string{"first", "second", "third"}

// modules are built once for all tests.
var modules struct {
	exe  string
	list []*module.Module
}

// buildModules builds the program and, of edits of it, a module for each of
// its functions. Each brings types and methods of its own, a package that the
// program lacks, and so itabs and pruned methods.
func buildModules(t testing.TB) {
	t.Helper()
	if modules.exe != "" {
		return
	}
	source := filepath.Join(targettest.Root(t), "testdata", "targets", "runtime-modules")
	old, err := os.ReadFile(filepath.Join(source, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	base, dir := filepath.Join(t.TempDir(), "base"), filepath.Join(t.TempDir(), "edited")
	for _, d := range []string{base, dir} {
		if err := os.CopyFS(d, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "go.mod"), []byte("module runtime-modules\n\ngo 1.24\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// It must be built where it is edited, for the same paths.
	program := targettest.Build(t, dir)
	var list []*module.Module
	for _, name := range names {
		edited := strings.NewReplacer(
			`fmt.Sprint("`+name+` ", n)`, `fmt.Sprint(boxed{n}, marshal(n))`,
			"//go:noinline\nfunc "+name, strings.ReplaceAll(additions, "NAME", name)+"//go:noinline\nfunc "+name,
			`"fmt"`, "\"encoding/xml\"\n\t\"fmt\"",
		).Replace(string(old))
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(edited), 0o644); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, name+".so")
		if _, err := build.Build(t.Context(), build.Options{Dir: dir, Base: base, Target: program, Output: out}); err != nil {
			t.Fatalf("building %s: %v", name, err)
		}
		m, err := module.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	modules.exe, modules.list = program, list
}

const additions = `type boxed struct{ n int }

func (b boxed) String() string { return fmt.Sprintf("NAME anew %d", b.n) }

var wrote []any

func marshal(n int) string {
	b, err := xml.Marshal(struct {
		XMLName xml.Name
		N       int
	}{xml.Name{Local: "NAME"}, n})
	wrote = append(wrote[:0], b, err, boxed{n})
	return string(b)
}

`

// host is a process that modules are loaded into.
type host struct {
	*subject
	target *link.ProcessTarget
	arena  *arena.Arena
	ledger Ledger
}

func startHost(t testing.TB) *host {
	t.Helper()
	buildModules(t)
	target := targettest.Start(t, targettest.Command{Path: modules.exe, Env: []string{"GOGC=1"}})
	target.Get("/all")
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	x, err := exe.Open(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	s := &host{subject: &subject{Target: target, t: t, p: p}}
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), x.Close()); err != nil {
			t.Error(err)
		}
		target.MustLive()
		target.Get("/gc")
	})
	if s.target, err = link.NewTarget(x, p, p.LoadBias()); err != nil {
		t.Fatal(err)
	}
	text := s.target.Text()
	if s.arena, err = arena.Plan(p, arena.Range{Start: text.Start, End: text.End}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.arena.Close() })
	s.halt(func(h *process.Halt) (err error) {
		if s.rt, err = Open(h); err != nil {
			return err
		}
		return s.arena.Reserve(h)
	})
	s.target.FindItab = s.rt.Itab
	return s
}

// alloc is an Alloc that maps what it gives.
func (s *host) alloc(h *process.Halt) Alloc {
	return func(size uint64) (uint64, error) {
		size = (size + 4095) &^ 4095
		addr, err := s.arena.Alloc(size, 0)
		if err != nil {
			return 0, err
		}
		return addr, s.arena.Map(h, addr, size, unix.PROT_READ|unix.PROT_WRITE)
	}
}

// quiet halts the target when its runtime is idle.
func (s *host) quiet(fn func(h *process.Halt) error) {
	s.t.Helper()
	targettest.Eventually(s.t, "the runtime is idle", func() (idle bool) {
		s.halt(func(h *process.Halt) (err error) {
			if idle, err = s.rt.Idle(h); !idle || err != nil {
				return err
			}
			return fn(h)
		})
		return idle
	})
}

// apply makes writes, or none of them.
func (s *host) apply(h *process.Halt, writes []Write) error {
	for i, w := range writes {
		var err error
		if len(w.Old) == 0 {
			err = s.p.WriteMemory(w.Addr, w.New)
		} else {
			err = h.WriteText(w.Addr, w.Old, w.New)
		}
		if err == nil {
			continue
		}
		for _, w := range slices.Backward(writes[:i]) {
			if len(w.Old) != 0 {
				err = errors.Join(err, h.WriteText(w.Addr, w.New, w.Old))
			}
		}
		return err
	}
	return nil
}

// load maps and registers a module.
func (s *host) load(m *module.Module) (*link.Image, *Registration) {
	s.t.Helper()
	base, err := s.arena.Alloc(m.End(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	image, err := link.Bind(m, s.target, base)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, seg := range image.Segments {
		copy(s.arena.View(seg.Addr, seg.Size), seg.Data)
	}
	var reg *Registration
	s.quiet(func(h *process.Halt) error {
		for _, seg := range image.Segments {
			prot := unix.PROT_READ
			if seg.Flags&elf.PF_X != 0 {
				prot |= unix.PROT_EXEC
			}
			if seg.Flags&elf.PF_W != 0 {
				prot |= unix.PROT_WRITE
			}
			if err := s.arena.Map(h, seg.Addr, seg.Size, prot); err != nil {
				return err
			}
		}
		var writes []Write
		if reg, writes, err = s.rt.Register(h, &s.ledger, image, s.alloc(h)); err != nil {
			return err
		}
		return s.apply(h, writes)
	})
	return image, reg
}

// unload unregisters a module when nobody refers to it, and unmaps it.
func (s *host) unload(reg *Registration) {
	s.t.Helper()
	s.collect()
	var holders []Holder
	defer func() {
		if s.t.Failed() {
			s.t.Logf("it is held by\n%s", where(holders))
		}
	}()
	targettest.Eventually(s.t, "nobody refers to the module", func() bool {
		s.quiet(func(h *process.Halt) (err error) {
			l := s.ledger
			l.Modules = slices.Clone(l.Modules)
			writes, err := s.rt.Unregister(h, &l, reg, s.alloc(h))
			if err != nil {
				return err
			}
			var cleanup []Write
			if holders, cleanup, err = s.rt.References(h, &l, reg, writes, nil); len(holders) > 0 || err != nil {
				return err
			}
			if err := s.apply(h, append(writes, cleanup...)); err != nil {
				return err
			}
			h.ClearCaches()
			for _, b := range l.Retired {
				size := (b.Size + 4095) &^ 4095
				if err := s.arena.Unmap(h, b.Addr, size); err != nil {
					return err
				}
				s.arena.Free(b.Addr, size)
			}
			l.Retired = nil
			s.ledger = l
			return s.arena.Unmap(h, reg.Base, reg.Size)
		})
		return len(holders) == 0
	})
	s.arena.Free(reg.Base, reg.Size)
}

// state is what Register changes in the runtime, read as bytes.
func (s *host) state() []byte {
	s.t.Helper()
	var b bytes.Buffer
	s.quiet(func(h *process.Halt) error {
		b.Reset()
		for _, addr := range []uint64{s.rt.modulesSlice, s.rt.lastmoduledata, s.rt.firstmoduledata + s.rt.layout.moduledata.next, s.rt.pinnedTypemaps, s.rt.itabTable} {
			w, err := s.rt.word(addr)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%#x ", w)
		}
		types := s.target.Types()
		data := make([]byte, types.End-types.Start)
		if err := s.p.ReadMemory(data, types.Start); err != nil {
			return err
		}
		b.Write(data) // with the slots of pruned methods
		return nil
	})
	return b.Bytes()
}

// permutations of three.
var orders = [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

func TestModulesComeAndGoInAnyOrder(t *testing.T) {
	s := startHost(t)
	before := s.state()
	known := func(image *link.Image, want string) {
		t.Helper()
		if got := s.Get(fmt.Sprintf("/name?%x", image.Functions[0].New)); got != want {
			t.Errorf("the runtime says that %#x is in %s, want %s", image.Functions[0].New, got, want)
		}
	}
	for _, order := range orders {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			var images []*link.Image
			var regs []*Registration
			for i, m := range modules.list {
				image, reg := s.load(m)
				images, regs = append(images, image), append(regs, reg)
				known(image, "main."+names[i])
				s.Get("/gc")
			}
			if len(regs[0].Fills) == 0 {
				t.Error("the module fills no pruned method")
			}
			gone := map[int]bool{}
			for _, i := range order {
				s.unload(regs[i])
				gone[i] = true
				for j, image := range images {
					if gone[j] {
						known(image, "none")
					} else {
						known(image, "main."+names[j])
					}
				}
				s.Get("/gc")
				s.Get("/all")
			}
			if !bytes.Equal(s.state(), before) {
				t.Error("the runtime is not as it was")
			}
			if !s.ledger.Empty() {
				t.Errorf("the ledger says %+v", s.ledger)
			}
		})
	}
}

func TestRegisterIsUndone(t *testing.T) {
	s := startHost(t)
	before := s.state()
	m := modules.list[0]
	base, err := s.arena.Alloc(m.End(), 0)
	if err != nil {
		t.Fatal(err)
	}
	image, err := link.Bind(m, s.target, base)
	if err != nil {
		t.Fatal(err)
	}
	s.quiet(func(h *process.Halt) error {
		var l Ledger
		_, writes, err := s.rt.Register(h, &l, image, s.alloc(h))
		if err != nil {
			return err
		}
		for n := range writes {
			// The last one does not find what it expects.
			broken := append([]Write(nil), writes[:n+1]...)
			if len(broken[n].Old) == 0 {
				continue
			}
			broken[n].Old = bytes.Repeat([]byte{0x5a}, len(broken[n].Old))
			err := s.apply(h, broken)
			if finding.CodeOf(err) != finding.TextMismatch || !strings.Contains(err.Error(), "not 5a 5a") {
				t.Errorf("got %v", err)
			}
		}
		return nil
	})
	if !bytes.Equal(s.state(), before) {
		t.Error("the runtime is not as it was")
	}
}

// A load that was given up while the collector was at work leaves the program's list
// held twice.
func TestAListThatIsHeldAlreadyIsNoPlugins(t *testing.T) {
	s := startHost(t)
	before := s.state()
	header, err := s.rt.word(s.rt.modulesSlice)
	if err == nil {
		err = s.p.WriteMemory(s.rt.pinnedTypemaps, bytesOf(header))
	}
	if err != nil {
		t.Fatal(err)
	}
	_, registration := s.load(modules.list[0])
	s.unload(registration)
	if !bytes.Equal(s.state(), before) {
		t.Error("the runtime is not as it was")
	}
}

func TestRegisterRefuses(t *testing.T) {
	s := startHost(t)
	m := modules.list[0]
	base, err := s.arena.Alloc(m.End(), 0)
	if err != nil {
		t.Fatal(err)
	}
	image, err := link.Bind(m, s.target, base)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, code finding.Code, says string, alter func(h *process.Halt, image *link.Image) (restore func())) {
		t.Run(name, func(t *testing.T) {
			s.quiet(func(h *process.Halt) error {
				altered := *image
				restore := alter(h, &altered)
				defer restore()
				var l Ledger
				_, _, err := s.rt.Register(h, &l, &altered, s.alloc(h))
				if finding.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v", err)
				}
				t.Log(err)
				return nil
			})
		})
	}
	poke := func(addr, value uint64) (restore func()) {
		old, err := s.rt.word(addr)
		if err == nil {
			err = s.p.WriteMemory(addr, bytesOf(value))
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := s.p.WriteMemory(addr, bytesOf(old)); err != nil {
				t.Error(err)
			}
		}
	}
	refused("another runtime", finding.ModuleMalformed, "its moduledata has 8 bytes", func(h *process.Halt, i *link.Image) func() {
		i.ModuledataSize = 8
		return func() {}
	})
	refused("plugins", finding.UnsupportedTarget, "has loaded plugins", func(h *process.Halt, i *link.Image) func() {
		return poke(s.rt.pinnedTypemaps+8, 1)
	})
	refused("a chain that goes on", finding.TextMismatch, "its last module is followed by one at 0x1234", func(h *process.Halt, i *link.Image) func() {
		return poke(s.rt.firstmoduledata+s.rt.layout.moduledata.next, 0x1234)
	})
	refused("a slot that something else has filled", finding.TextMismatch, "the method slot at", func(h *process.Halt, i *link.Image) func() {
		i.Fills = append([]Write(nil), i.Fills...)
		i.Fills[0].Old = bytes.Repeat([]byte{7}, len(i.Fills[0].Old))
		return func() {}
	})
}

func TestSoakOfModules(t *testing.T) {
	s := startHost(t)
	stop := make(chan bool)
	done := make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
				s.Get("/all")
				s.Get("/gc")
			}
		}
	}()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		_, a := s.load(modules.list[0])
		_, b := s.load(modules.list[1])
		s.unload(a)
		s.unload(b)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkRegister(b *testing.B) {
	s := startHost(b)
	m := modules.list[0]
	base, err := s.arena.Alloc(m.End(), 0)
	if err != nil {
		b.Fatal(err)
	}
	image, err := link.Bind(m, s.target, base)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("bind", func(b *testing.B) {
		for b.Loop() {
			if _, err := link.Bind(m, s.target, base); err != nil {
				b.Fatal(err)
			}
		}
	})
	s.quiet(func(h *process.Halt) error {
		b.Run("register", func(b *testing.B) {
			alloc := func(uint64) (uint64, error) { return base, nil }
			for b.Loop() {
				var l Ledger
				if _, _, err := s.rt.Register(h, &l, image, alloc); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open", func(b *testing.B) {
			for b.Loop() {
				if _, err := Open(h); err != nil {
					b.Fatal(err)
				}
			}
		})
		return nil
	})
}

func TestTableOfItabsGrowsIntoOurMemoryAndBack(t *testing.T) {
	s := startHost(t)
	before := s.state()
	table := s.rt.itabTableInit + s.rt.layout.itabTable.count
	count, err := s.rt.word(table)
	if err != nil {
		t.Fatal(err)
	}
	// Make believe that it is all but full.
	if err := s.p.WriteMemory(table, bytesOf(maxSlots(512))); err != nil {
		t.Fatal(err)
	}
	image, reg := s.load(modules.list[0])
	if err := s.p.WriteMemory(table, bytesOf(count)); err != nil {
		t.Fatal(err)
	}
	if len(image.Itabs) == 0 {
		t.Fatal("the module brings no itabs")
	}
	if at, err := s.rt.word(s.rt.itabTable); at != s.ledger.Table.Addr || at == 0 || err != nil {
		t.Fatalf("the table is at %#x (%v), the ledger says %#x", at, err, s.ledger.Table)
	}
	for _, i := range image.Itabs {
		// Its own types are in memory that a Runtime can read just as well.
		if at, ok, err := s.rt.Itab(i.Inter, i.Type); at != i.Addr || !ok || err != nil {
			t.Errorf("the itab of %#x and %#x is %#x, %v, %v; want %#x", i.Inter, i.Type, at, ok, err, i.Addr)
		}
	}
	s.Get("/all")
	s.Get("/gc")
	s.unload(reg)
	s.Get("/all")
	if !bytes.Equal(s.state(), before) {
		t.Error("the runtime is not as it was")
	}
	if !s.ledger.Empty() {
		t.Errorf("the ledger says %+v", s.ledger)
	}
}

func TestRegisterNoticesAnItabMadeMeanwhile(t *testing.T) {
	s := startHost(t)
	m := modules.list[0]
	base, err := s.arena.Alloc(m.End(), 0)
	if err != nil {
		t.Fatal(err)
	}
	image, err := link.Bind(m, s.target, base)
	if err != nil {
		t.Fatal(err)
	}
	s.quiet(func(h *process.Halt) error {
		table, err := s.rt.table()
		if err != nil {
			return err
		}
		infos, err := s.rt.itabs(table.entries)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(infos, func(i itabInfo) bool { return i.addr != 0 && !i.absent() })
		made := infos[i]
		image.Itabs = append(image.Itabs, link.Itab{Addr: base, Inter: made.inter, Type: made.typ, Hash: made.hash})
		_, _, err = s.rt.Register(h, new(Ledger), image, s.alloc(h))
		if !errors.Is(err, ErrStale) {
			t.Errorf("got %v", err)
		}
		return nil
	})
}
