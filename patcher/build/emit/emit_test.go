package emit

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// whole is an edit that replaces the main program by a file of testdata/edits.
func whole(t testing.TB, name string) edit {
	t.Helper()
	old, err := os.ReadFile(appDir + "/main.go")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/edits/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return edit{"main.go", string(old), string(data)}
}

// edits are small ones; each ends in a module.
var edits = map[string][]edit{
	"a constant":         {{"main.go", `"%s %d", best.name()`, `"new %s %d", best.name()`}},
	"a deferred closure": {{"main.go", `fmt.Errorf("recovered: %v", r)`, `fmt.Errorf("recovered %T: %v", r, r)`}},
	"a generic function": {{"main.go", "if i == 0 || less(best, x) {", "if i == 0 || !less(x, best) {"}},
	"a method":           {{"main.go", "c.n[key]++\n", "c.n[key] += 1 + len(key)/100\n"}},
	"another package":    {{"sub/sub.go", "return 2 * n", `return n + n + Table["three"]`}},
	"variables": {{"main.go", "	counts.add(best.name())\n", `	total += n
	names = append(names[:0], best.name())
	last = best
	if table == nil {
		table = map[string]int{}
	}
	table["x"] = total
	counts.add(names[0] + words[n%len(words)] + last.name())
`}, {"main.go", "func main() {", `var (
	total int
	names []string
	last  shape
	table map[string]int
	words = []string{"", "", ""}
	pair  = struct {
		n int
		s *string
	}{7, nil}
)

func main() {`}},
	"methods that were pruned": {{"main.go", "	counts.add(best.name())\n", `	if d, ok := any(time.Duration(n)).(interface{ Round(time.Duration) time.Duration }); ok {
		counts.add(d.Round(time.Second).String())
	}
	if g, ok := any(time.Now()).(interface{ GobEncode() ([]byte, error) }); ok {
		_, _ = g.GobEncode()
	}
`}},
	"a local type": {{"main.go", "	counts.add(best.name())\n", `	type local struct {
		shape
		next *local
		by   map[string]local
	}
	v := &local{shape: best}
	v.by = map[string]local{v.name(): *v}
	counts.add(v.by[best.name()].name())
	counts.add(fmt.Sprint(any(*v) == any(local{})))
`}},
}

// emitted emits a module for an edit and ties it to the target.
func emitted(t testing.TB, p *program, e ...edit) (Input, *linked) {
	t.Helper()
	in := p.input(t, e...)
	m, _, err := Emit(in)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := m.Write(&file); err != nil {
		t.Fatal(err)
	}
	if m, err = module.Read(file.Bytes()); err != nil {
		t.Fatal(err)
	}
	return in, link(t, m, in.Exe)
}

func TestEveryReferenceLeadsWhereTheSourceSays(t *testing.T) {
	for _, build := range []struct {
		name string
		p    *program
	}{{"plain", plain}, {"not optimised", noInline}, {"PIE", pie}, {"cgo", withC}} {
		t.Run(build.name, func(t *testing.T) {
			all := map[string][]edit{"everything": {whole(t, "everything.go")}}
			for name, e := range edits {
				if build.p == plain || build.p == noInline && name == "variables" || name == "methods that were pruned" {
					all[name] = e
				}
			}
			for name, e := range all {
				t.Run(name, func(t *testing.T) {
					in, l := emitted(t, build.p, e...)
					c := newChecker(t, in, l)
					c.functions()
					c.lineTable()
					c.masks()
					c.fills()
				})
			}
		})
	}
}

// checker compares a module, tied to its target, with the object of the new
// source.
type checker struct {
	*linked
	in    Input
	space *space
	md    *moduledataLayout
	types *gotype.Comparer // New with the module and the target
	// referred are all places of New that a relocation leads to, sorted.
	referred []uint64
	own      map[int]uint64 // New's functions in the module -> their address there
}

func newChecker(t *testing.T, in Input, l *linked) *checker {
	t.Helper()
	s, err := newSpace(in.New)
	if err != nil {
		t.Fatal(err)
	}
	md, err := readModuledataLayout(in.Exe)
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{linked: l, in: in, space: s, md: md, types: gotype.NewComparer(gotype.NewSet(s), gotype.NewSet(l)), own: map[int]uint64{}}
	for _, sym := range l.m.Symbols {
		if sym.Type != elf.STT_FUNC || sym.Undefined || strings.HasSuffix(sym.Name, "#jump") {
			continue
		}
		name := strings.TrimSuffix(sym.Name, "#new")
		fn, ok := in.New.Lookup(name)
		if !ok {
			t.Fatalf("the new source has no function %s", name)
		}
		c.own[fn] = l.base + sym.Addr
	}
	if len(c.own) == 0 {
		t.Fatal("no function in the module")
	}
	return c
}

// functions checks every field of every function that refers to something, and
// that nothing else differs from what the compiler made.
func (c *checker) functions() {
	c.t.Helper()
	for fn, addr := range c.own {
		s := &c.in.New.Symbols[fn]
		want := bytes.Clone(c.in.New.Content(fn))
		got := bytes.Clone(c.bytes(addr, s.Size))
		refs, err := c.in.New.Refs(fn)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range refs {
			r := &refs[i]
			at := r.Offset - s.Offset
			to := addr + at + uint64(int64(int32(binary.LittleEndian.Uint32(got[at:])))) - uint64(r.Addend) + r.Target.Offset - c.in.New.Symbols[r.Symbol].Offset
			if at >= 2 && got[at-2] == 0x8b && want[at-2] == 0x8d { // see itabSlot
				to, got[at-2] = c.Pointer(to), 0x8d
			}
			switch {
			case c.in.New.Symbols[r.Symbol].Type == elf.STT_TLS:
				if v := int64(int32(binary.LittleEndian.Uint32(got[at:]))); v != c.exe.TLSOffset {
					c.t.Errorf("%s+%#x: thread-local offset %d", s.Name, at, v)
				}
				if r.Type == elf.R_X86_64_GOTTPOFF {
					clear(got[at-3 : at])
					clear(want[at-3 : at])
				}
			default:
				if err := c.same(r, to); err != nil {
					c.t.Errorf("%s+%#x: %v", s.Name, at, err)
				}
			}
			clear(got[at : at+uint64(r.Size)])
			clear(want[at : at+uint64(r.Size)])
		}
		if !bytes.Equal(got, want) {
			c.t.Errorf("%s: its code differs from what the compiler made", s.Name)
		}
	}
}

// same tells how what is at an address differs from what New's reference leads
// to.
func (c *checker) same(r *object.Reloc, to uint64) error {
	o := c.in.New
	s := &o.Symbols[r.Symbol]
	if !s.Container && s.Type != elf.STT_SECTION {
		want := fmt.Sprintf("%s+%#x", s.Name, r.Target.Offset-s.Offset)
		got := c.symbol(to)
		if strings.Contains(s.Name, "..") || !o.Writable(r.Symbol) && !o.IsFunction(r.Symbol) {
			return c.sameContent(r.Symbol, to-(r.Target.Offset-s.Offset))
		}
		if got != want {
			return fmt.Errorf("leads to %s, wanted %s", got, want)
		}
		if b, known := c.in.Diff.Old(r.Symbol); known && b >= 0 && isReplaced(c.m, s.Name) && c.linked.own(to) && !closure.MatchString(s.Name) {
			return fmt.Errorf("%s is reached around its redirect", s.Name)
		}
		return nil
	}
	addr := c.space.addr(r.Target)
	switch s.Name {
	case "go:string.*", "runtime.gcbits.*":
		// As much as the next constant's beginning allows.
		n := min(c.nextConstant(r.Symbol, addr)-addr, 1<<12)
		want, _ := c.space.Bytes(addr, int(n))
		if got := c.bytes(to, n); !bytes.Equal(got, want) {
			return fmt.Errorf("leads to %q, wanted %q", got, want)
		}
		return nil
	case "go:funcdesc", "go:func.*":
		return c.samePointer(addr, to)
	}
	if c.space.pointerReloc(addr) != nil { // a function value among the types
		return c.samePointer(addr, to)
	}
	if err := c.types.Equal(addr, to); err != nil {
		return fmt.Errorf("leads to another type: %w", err)
	}
	return nil
}

// isReplaced tells whether the module replaces a function.
func isReplaced(m *module.Module, name string) bool {
	return slices.ContainsFunc(m.Manifest.Functions, func(f module.Function) bool { return f.Symbol == name })
}

// nextConstant returns the next place of a container that anything refers to.
func (c *checker) nextConstant(container int, addr uint64) uint64 {
	if c.referred == nil {
		for i := range c.in.New.Sections {
			for _, r := range c.in.New.Sections[i].Relocs {
				c.referred = append(c.referred, c.space.addr(r.Target))
			}
		}
		slices.Sort(c.referred)
	}
	end := c.space.symbol(container) + c.in.New.Symbols[container].Size
	if i, _ := slices.BinarySearch(c.referred, addr+1); i < len(c.referred) {
		end = min(end, c.referred[i])
	}
	return end
}

// samePointer compares what two pointers lead to.
func (c *checker) samePointer(want, got uint64) error {
	r := c.space.pointerReloc(want)
	if r == nil {
		return fmt.Errorf("nothing is at %#x of the new source", want)
	}
	return c.same(r, c.Pointer(got))
}

// sameContent compares a constant, a table or a variable without a lasting name.
func (c *checker) sameContent(sym int, to uint64) error {
	s := &c.in.New.Symbols[sym]
	if strings.HasPrefix(s.Name, "go:itab.") {
		return c.sameItab(sym, to)
	}
	lo := c.space.symbol(sym)
	got := bytes.Clone(c.bytes(to, s.Size))
	want := make([]byte, s.Size)
	copy(want, c.in.New.Content(sym))
	for _, r := range c.in.New.Relocs(sym) {
		off := r.Offset - s.Offset
		if err := c.same(&r, c.Pointer(to+off)); err != nil {
			return fmt.Errorf("%s+%#x: %w", s.Name, off, err)
		}
		clear(got[off : off+8])
		clear(want[off : off+8])
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s at %#x differs", s.Name, lo)
	}
	return nil
}

// sameItab compares the type, the interface and the functions of an itab.
func (c *checker) sameItab(sym int, to uint64) error {
	s := &c.in.New.Symbols[sym]
	lo := c.space.symbol(sym)
	if err := c.types.Equal(c.space.Pointer(lo+itabType), c.Pointer(to+itabType)); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := c.types.Equal(c.space.Pointer(lo+itabInter), c.Pointer(to+itabInter)); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	for off := uint64(itabFun); off < s.Size; off += 8 {
		r := c.space.pointerReloc(lo + off)
		if r == nil || c.filled(to+off) {
			continue
		}
		want := c.in.New.Symbols[r.Symbol].Name + "+0x0"
		if got := c.symbol(c.Pointer(to + off)); got != want {
			return fmt.Errorf("%s: method at %d is %s, wanted %s", s.Name, off, got, want)
		}
	}
	return nil
}

// filled tells whether the loader fills the slot.
func (c *checker) filled(addr uint64) bool {
	return slices.ContainsFunc(c.m.Manifest.Go.Methods, func(f module.MethodFill) bool {
		return c.exe.TypesStart+uint64(f.Offset) == addr
	})
}

// fills checks that every slot to be filled is empty, and what goes into it.
func (c *checker) fills() {
	c.t.Helper()
	unreachable, ok, _ := c.exe.Symbol("runtime.unreachableMethod")
	if !ok {
		c.t.Fatal("the target has no runtime.unreachableMethod")
	}
	for _, f := range c.m.Manifest.Go.Methods {
		at := c.exe.TypesStart + uint64(f.Offset)
		if f.Size == 8 && c.Pointer(at) != unreachable.Addr {
			c.t.Errorf("the slot at %#x leads to %s", at, c.symbol(c.Pointer(at)))
		}
		if f.Size == 4 && int32(binary.LittleEndian.Uint32(c.bytes(at, 4))) != -1 {
			c.t.Errorf("the slot at %#x is not empty", at)
		}
		if _, ok := c.addr[f.Symbol]; !ok {
			if _, ok, _ := c.exe.Symbol(f.Symbol); !ok {
				c.t.Errorf("nothing is named %s", f.Symbol)
			}
		}
	}
}

// lineTable checks that for each instruction that may be on a stack the
// runtime finds the function, the line and the pointers there that the
// compiler said.
func (c *checker) lineTable() {
	c.t.Helper()
	md := func(field string, add uint64) uint64 { return c.field(c.md, field, add) }
	text := md("text", 0)
	pcln := c.bytes(md("pcHeader", 0), c.base+c.m.Manifest.Go.TypesAddr+(md("etypes", 0)-md("types", 0))-md("pcHeader", 0))
	got, err := gosym.NewTable(nil, gosym.NewLineTable(pcln, text))
	if err != nil {
		c.t.Fatal(err)
	}
	old, err := readLineTable(c.space, c.md)
	if err != nil {
		c.t.Fatal(err)
	}
	want, err := gosym.NewTable(nil, gosym.NewLineTable(old.data, c.space.text))
	if err != nil {
		c.t.Fatal(err)
	}
	if md("minpc", 0) > md("maxpc", 0) || md("text", 0) == 0 || md("gofunc", 0) >= md("end", 0) {
		c.t.Error("the bounds in moduledata are wrong")
	}
	for fn, addr := range c.own {
		s := &c.in.New.Symbols[fn]
		for off := uint64(0); off < s.Size; off += 1 + off%7 {
			gotFile, gotLine, f := got.PCToLine(addr + off)
			wantFile, wantLine, g := want.PCToLine(c.space.symbol(fn) + off)
			if f == nil || g == nil || f.Name != g.Name || gotFile != wantFile || gotLine != wantLine {
				c.t.Fatalf("%s+%#x: %s:%d, wanted %s:%d", s.Name, off, gotFile, gotLine, wantFile, wantLine)
			}
			entry, rec := c.findFunc(addr + off)
			if entry != addr {
				c.t.Fatalf("%s+%#x: the runtime finds the function at %#x, not at %#x", s.Name, off, entry, addr)
			}
			if off == 0 {
				c.record(fn, old, rec)
			}
		}
	}
}

// findFunc does what runtime.findfunc does.
func (c *checker) findFunc(pc uint64) (entry, record uint64) {
	md := func(field string) uint64 { return c.field(c.md, field, 0) }
	le := binary.LittleEndian
	x := pc - md("minpc")
	bucket := c.bytes(md("findfunctab")+x/4096*20, 20)
	idx := uint64(le.Uint32(bucket)) + uint64(bucket[4+x%4096/256])
	ftab := func(i uint64) []byte { return c.bytes(md("ftab")+8*i, 8) }
	for uint64(le.Uint32(ftab(idx+1))) <= pc-md("text") {
		idx++
	}
	return md("text") + uint64(le.Uint32(ftab(idx))), md("pclntable") + uint64(le.Uint32(ftab(idx)[4:]))
}

// record compares the tables of a function with those that New's linker wrote.
func (c *checker) record(fn int, old *lineTable, rec uint64) {
	c.t.Helper()
	s := &c.in.New.Symbols[fn]
	want, err := old.find(c.space.symbol(fn) - c.space.text)
	if err != nil {
		c.t.Fatal(err)
	}
	le := binary.LittleEndian
	head := c.bytes(rec, recordSize)
	word := func(off int) uint32 { return le.Uint32(head[off:]) }
	if word(8) != want.args || word(12) != want.deferReturn || word(36) != want.startLine || head[40] != want.id || head[41] != want.flag ||
		int(word(28)) != len(want.pcdata) || int(head[43]) != len(want.funcdata) {
		c.t.Errorf("%s: its record differs", s.Name)
		return
	}
	pctab := c.field(c.md, "pctab", 0)
	table := func(name string, at, was uint32) {
		d, err := old.values(was, func(int32) {})
		if err != nil || was == 0 && at == 0 {
			return
		}
		if !bytes.Equal(c.bytes(pctab+uint64(at), uint64(len(d))), d) {
			c.t.Errorf("%s: its table %s differs", s.Name, name)
		}
	}
	table("pcsp", word(16), want.pcsp)
	table("pcfile", word(20), want.pcfile)
	table("pcln", word(24), want.pcln)
	list := c.bytes(rec+recordSize, uint64(4*(len(want.pcdata)+len(want.funcdata))))
	for i, was := range want.pcdata {
		table(fmt.Sprint("pcdata ", i), le.Uint32(list[4*i:]), was)
	}
	gofunc, rodata := c.field(c.md, "gofunc", 0), c.field(c.md, "rodata", 0)
	for i, was := range want.funcdata {
		at := le.Uint32(list[4*(len(want.pcdata)+i):])
		if was == noTable || at == noTable {
			if was != at {
				c.t.Errorf("%s: its table %d is missing", s.Name, i)
			}
			continue
		}
		d, err := old.funcdata(want, i)
		if err != nil {
			c.t.Fatal(err)
		}
		d, got := bytes.Clone(d), bytes.Clone(c.bytes(gofunc+uint64(at), uint64(len(d))))
		switch i {
		case funcStackObjects:
			for o, g := d[8:], got[8:]; len(o) > 0; o, g = o[16:], g[16:] {
				n := int(le.Uint32(o[8:])/8+7) / 8
				x, _ := c.space.Bytes(old.rodata+uint64(le.Uint32(o[12:])), n)
				if y := c.bytes(rodata+uint64(le.Uint32(g[12:])), uint64(n)); !bytes.Equal(x, y) {
					c.t.Errorf("%s: the mask of an object on its stack is %x, wanted %x", s.Name, y, x)
				}
				clear(o[12:16])
				clear(g[12:16])
			}
		case funcInlTree:
			names := c.field(c.md, "funcnametab", 0)
			for o, g := d, got; len(o) > 0; o, g = o[16:], g[16:] {
				x, _ := cstring(old.names, le.Uint32(o[4:]))
				if y := string(c.bytes(names+uint64(le.Uint32(g[4:])), uint64(len(x)+1))); y != x+"\x00" {
					c.t.Errorf("%s: it inlines %s, wanted %s", s.Name, y, x)
				}
				clear(o[4:8])
				clear(g[4:8])
			}
		case funcWrapInfo:
			p, _ := c.space.place(c.space.text + uint64(le.Uint32(d)))
			sym, _ := c.in.New.SymbolAt(p)
			if to := c.symbol(c.field(c.md, "text", 0) + uint64(le.Uint32(got))); to != c.in.New.Symbols[sym].Name+"+0x0" {
				c.t.Errorf("%s: it wraps %s, wanted %s", s.Name, to, c.in.New.Symbols[sym].Name)
			}
			clear(d)
			clear(got)
		}
		if !bytes.Equal(d, got) {
			c.t.Errorf("%s: its table %d differs", s.Name, i)
		}
	}
}

// masks checks that the collector looks at just the words of the module's
// variables that New's DWARF says are pointers.
func (c *checker) masks() {
	c.t.Helper()
	want := map[uint64]bool{}
	var vars *variables
	for addr, name := range c.name {
		sym, ok := c.in.New.Lookup(strings.TrimSuffix(name, "#new"))
		if !ok || !c.in.New.Writable(sym) || c.in.New.Symbols[sym].Type != elf.STT_OBJECT {
			continue
		}
		section := c.in.New.Sections[c.in.New.Symbols[sym].Section].Name
		if vars == nil {
			vars = readVariables(c.t, c.in.New)
		}
		words, ok := vars.pointers(c.t, c.in.New.Symbols[sym].Name)
		if !ok {
			continue
		}
		for _, w := range words {
			want[addr+8*uint64(w)] = true
		}
		if (section == ".data" || section == ".bss") != (len(words) > 0) {
			c.t.Errorf("%s is in %s and has %d pointers", name, section, len(words))
		}
	}
	for _, part := range []string{"data", "bss"} {
		lo, hi := c.field(c.md, part, 0), c.field(c.md, "e"+part, 0)
		n := uint64(binary.LittleEndian.Uint32(c.bytes(c.base+c.m.Manifest.Go.ModuledataAddr+c.md.offset["gc"+part+"mask"], 4)))
		if n != (hi-lo)/8 {
			c.t.Errorf("the mask of %s has %d bits for %d words", part, n, (hi-lo)/8)
		}
		mask := c.bytes(c.field(c.md, "gc"+part+"mask", 8), (n+7)/8)
		for i := range n {
			addr := lo + 8*i
			if bit := mask[i/8]>>(i%8)&1 != 0; bit != want[addr] && !strings.Contains(c.symbol(addr), "..") {
				c.t.Errorf("%s: pointer %v, wanted %v", c.symbol(addr), bit, want[addr])
			}
			delete(want, addr)
		}
	}
	for addr := range want {
		c.t.Errorf("%s is a pointer that the collector does not see", c.symbol(addr))
	}
}
