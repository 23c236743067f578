package link

import (
	"debug/elf"
	"fmt"
	"math"
	"sort"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

const (
	pageSize = 4096
	// addressEnd is the first address that no process has (47 bits).
	addressEnd = 1 << 47
	// maxGrowth bounds the memory, in bytes, that relocations in zero-filled
	// parts of segments may cost.
	maxGrowth = 16 << 20
)

// Bind computes the image of a module placed at base. Nothing in m is trusted:
// whatever it says, no byte of the image lies outside [base, base+Size), and
// the Fills lie in the target's own types and itabs.
//
// Refusals: module-malformed; symbol-unresolved and symbol-ambiguous, for what
// the target lacks; type-layout-changed if a type or itab of the target is not
// what the module was built with; text-mismatch if a function is not where the
// module was built to replace it; out-of-range if base is too far from the
// target; not-loaded if a module that it requires is not. An error that is no Refusal is the target's (its memory can't be
// read).
func Bind(m *module.Module, t Target, base uint64) (*Image, error) {
	b := &binder{m: m, t: t, types: t.Types(), text: t.Text()}
	for _, step := range []func() error{
		func() error { return b.place(base) },
		b.index,
		b.require,
		b.relocate,
		b.functions,
		b.goParts,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &b.image, nil
}

// binder is the state of one Bind.
type binder struct {
	m     *module.Module
	t     Target
	types Range
	text  Range
	image Image
	grown uint64

	byName  map[string]int32 // index into m.Symbols, several: -1
	typeOf  map[string]*module.TypeBinding
	itabOf  map[string]*module.ItabBinding
	imports map[string]*module.Import
	earlier map[string]required // by ID
	bound   map[string]uint64   // addresses found so far of what the target has
	publish map[string]bool     // itab bindings whose own copy is used
}

// place lays the segments out.
func (b *binder) place(base uint64) error {
	m := b.m
	if len(m.Segments) == 0 {
		return malformed("it has no segments")
	}
	var end uint64
	for i := range m.Segments {
		s := &m.Segments[i]
		switch {
		case s.Addr%pageSize != 0 || s.Size%pageSize != 0 || s.Size == 0 || s.Addr < end ||
			s.Size > module.MaxImage || s.Addr > module.MaxImage-s.Size || uint64(len(s.Data)) > s.Size:
			return malformed("segment %d (%#x, %#x bytes) has no place", i, s.Addr, s.Size)
		case s.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X:
			return malformed("segment %d is writable and executable", i)
		}
		end = s.Addr + s.Size
	}
	if base%pageSize != 0 || base == 0 || base > addressEnd-end {
		return fmt.Errorf("link: a module can't be placed at %#x", base)
	}
	b.image = Image{Base: base, Size: end, Segments: make([]Segment, len(m.Segments))}
	for i := range m.Segments {
		s := &m.Segments[i]
		b.image.Segments[i] = Segment{
			Addr: base + s.Addr, Data: append([]byte(nil), s.Data...), Size: s.Size, Flags: s.Flags,
		}
	}
	return nil
}

// index makes the names of the module's symbols and bindings findable.
func (b *binder) index() error {
	b.byName = make(map[string]int32, len(b.m.Symbols))
	b.bound = make(map[string]uint64)
	b.image.Symbols = make(map[string]uint64, len(b.m.Symbols))
	for i := range b.m.Symbols {
		s := &b.m.Symbols[i]
		if !s.Undefined && (s.Addr > b.image.Size || s.Type == elf.STT_TLS) {
			return malformed("symbol %q at %#x lies outside the module", s.Name, s.Addr)
		}
		if _, dup := b.byName[s.Name]; dup {
			b.byName[s.Name] = -1
			delete(b.image.Symbols, s.Name)
			continue
		}
		b.byName[s.Name] = int32(i)
		if !s.Undefined {
			b.image.Symbols[s.Name] = b.image.Base + s.Addr
		}
	}
	g := b.m.Manifest.Go
	if g == nil {
		return nil
	}
	b.typeOf = make(map[string]*module.TypeBinding, len(g.Types))
	b.itabOf = make(map[string]*module.ItabBinding, len(g.Itabs))
	b.publish = make(map[string]bool)
	for i := range g.Types {
		x := &g.Types[i]
		if b.typeOf[x.Symbol] != nil {
			return malformed("it binds %q twice", x.Symbol)
		}
		b.typeOf[x.Symbol] = x
	}
	for i := range g.Itabs {
		x := &g.Itabs[i]
		if b.typeOf[x.Symbol] != nil || b.itabOf[x.Symbol] != nil {
			return malformed("it binds %q twice", x.Symbol)
		}
		b.itabOf[x.Symbol] = x
	}
	return nil
}

// functions finds the old and the new code of every replaced function.
func (b *binder) functions() error {
	for i := range b.m.Manifest.Functions {
		f := &b.m.Manifest.Functions[i]
		n, ok := b.byName[f.New]
		if !ok || n < 0 || b.m.Symbols[n].Undefined {
			return malformed("%s: its replacement %q is not the name of one function of the module", f.Symbol, f.New)
		}
		s := &b.m.Symbols[n]
		if !b.holds(s.Addr, max(s.Size, 1), elf.PF_X) {
			return malformed("%s: its replacement at %#x is not in executable memory", f.Symbol, s.Addr)
		}
		entry := b.text.Start + f.Offset
		if f.Size == 0 || f.Offset > b.text.End-b.text.Start || !b.text.Holds(entry, f.Size) {
			return refuse(finding.TextMismatch, f.Symbol,
				fmt.Sprintf("the module replaces %d bytes at %#x, which are not in the program's text", f.Size, entry),
				"build the module against the program that runs")
		}
		switch at, err := b.t.Symbol(f.Symbol); finding.CodeOf(err) {
		case finding.SymbolAmbiguous: // its bytes decide, see CheckText
		case "":
			if err != nil {
				return err
			}
			if at != entry {
				return refuse(finding.TextMismatch, f.Symbol,
					fmt.Sprintf("the function is at %#x, the module was built to replace it at %#x", at, entry),
					"build the module against the program that runs")
			}
		default:
			return err
		}
		bound := Function{Function: *f, Entry: entry, New: b.image.Base + s.Addr}
		for _, l := range f.Lost {
			at := b.text.Start + l.Offset
			if l.Size == 0 || l.Offset > b.text.End-b.text.Start || !b.text.Holds(at, l.Size) {
				return refuse(finding.TextMismatch, l.Symbol,
					fmt.Sprintf("it should have %d bytes at %#x, which are not in the program's text", l.Size, at),
					"build the module against the program that runs")
			}
			bound.LostCode = append(bound.LostCode, Range{Start: at, End: at + l.Size})
		}
		b.image.Functions = append(b.image.Functions, bound)
	}
	return nil
}

// goParts binds what the Go runtime must be told.
func (b *binder) goParts() error {
	g := b.m.Manifest.Go
	if g == nil {
		return nil
	}
	if g.ModuledataSize == 0 || g.ModuledataAddr%8 != 0 || !b.holds(g.ModuledataAddr, g.ModuledataSize, elf.PF_W) {
		return malformed("its moduledata (%#x, %d bytes) is not in writable memory of the module", g.ModuledataAddr, g.ModuledataSize)
	}
	b.image.Moduledata, b.image.ModuledataSize = b.image.Base+g.ModuledataAddr, g.ModuledataSize
	// An itab that no relocation asks for is wanted all the same: it is there
	// because the runtime can't make it.
	for i := range g.Itabs {
		if _, err := b.address(g.Itabs[i].Symbol); err != nil {
			return err
		}
	}
	for i := range g.Itabs {
		x := &g.Itabs[i]
		if !b.publish[x.Symbol] {
			continue
		}
		tab, err := b.ownItab(x)
		if err != nil {
			return err
		}
		b.image.Itabs = append(b.image.Itabs, *tab)
	}
	return b.fills(g.Methods)
}

// address returns what the symbol or binding of that name is bound to.
func (b *binder) address(name string) (uint64, error) {
	if addr, ok := b.bound[name]; ok {
		return addr, nil
	}
	var addr uint64
	var err error
	if x := b.typeOf[name]; x != nil {
		addr, err = b.targetType(x)
	} else if x := b.itabOf[name]; x != nil {
		addr, err = b.itab(x)
	} else if x := b.imports[name]; x != nil {
		addr, err = b.imported(x.Module, x.Offset, x.Size)
	} else if i, ok := b.byName[name]; ok && i < 0 {
		return 0, malformed("it has several symbols %q", name)
	} else if ok && !b.m.Symbols[i].Undefined {
		return b.image.Base + b.m.Symbols[i].Addr, nil
	} else {
		addr, err = b.t.Symbol(name)
	}
	if err != nil {
		return 0, err
	}
	b.bound[name] = addr
	return addr, nil
}

// segment returns the segment that holds n bytes at the module's address addr,
// or nil.
func (b *binder) segment(addr, n uint64) *Segment {
	segments := b.image.Segments
	i := sort.Search(len(segments), func(i int) bool { return segments[i].Addr-b.image.Base > addr }) - 1
	if i < 0 {
		return nil
	}
	s := &segments[i]
	if start := s.Addr - b.image.Base; !(Range{start, start + s.Size}).Holds(addr, n) {
		return nil
	}
	return s
}

// holds tells whether n bytes at the module's address addr lie in a segment
// that has the flags.
func (b *binder) holds(addr, n uint64, flags elf.ProgFlag) bool {
	s := b.segment(addr, n)
	return s != nil && s.Flags&flags == flags
}

// bytes returns n bytes of the image at the module's address addr for writing,
// or nil.
func (b *binder) bytes(addr, n uint64) []byte {
	s := b.segment(addr, n)
	if s == nil {
		return nil
	}
	off := addr - (s.Addr - b.image.Base)
	if need := off + n; need > uint64(len(s.Data)) {
		if b.grown += need - uint64(len(s.Data)); b.grown > maxGrowth {
			return nil
		}
		s.Data = append(s.Data, make([]byte, need-uint64(len(s.Data)))...)
	}
	return s.Data[off : off+n]
}

// fits32 tells whether v can stand in a signed 32-bit field.
func fits32(v int64) bool { return v >= math.MinInt32 && v <= math.MaxInt32 }

func malformed(format string, args ...any) error {
	return finding.Refuse(finding.ModuleMalformed, "malformed module: "+fmt.Sprintf(format, args...),
		"build it again with darn build")
}
