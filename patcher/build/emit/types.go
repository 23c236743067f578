package emit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// types decides whose each type is: the target's if the target has it, since
// the runtime tells types apart by their address, else the module's own.
type types struct {
	b      *builder
	new    *gotype.Set
	base   *gotype.Set
	equal  *gotype.Comparer
	all    []*gotype.Type // New's, by address
	byName map[gotype.Identity][]*gotype.Type
	bound  map[uint64]dest         // by New's descriptor
	inter  []*gotype.Type          // interface types that the module uses
	own    map[uint64]bool         // New's descriptors that are the module's
	symbol map[uint64]string       // by New's descriptor
	asked  map[string]bool         // methods that an interface of New asks for
	twin   map[uint64]*gotype.Type // New's descriptor -> Base's of the same identity
	locals locals
}

func newTypes(b *builder) (*types, error) {
	t := &types{b: b, new: gotype.NewSet(b.new), base: gotype.NewSet(&running{b.base, &b.earlier}), byName: map[gotype.Identity][]*gotype.Type{},
		bound: map[uint64]dest{}, own: map[uint64]bool{}, symbol: map[uint64]string{}, twin: map[uint64]*gotype.Type{}, asked: map[string]bool{}}
	t.equal = gotype.NewComparer(t.new, t.base)
	t.equal.Ignore = t.unnoticed
	if err := t.readLocals(); err != nil {
		return nil, err
	}
	if err := allTypes(b.base, t.base, func(x *gotype.Type) {
		id := t.base.Identity(x)
		t.byName[id] = append(t.byName[id], x)
	}); err != nil {
		return nil, err
	}
	if err := b.placeEarlier(t); err != nil {
		return nil, err
	}
	if err := allTypes(b.new, t.new, func(x *gotype.Type) { t.all = append(t.all, x) }); err != nil {
		return nil, err
	}
	for _, x := range t.all {
		for _, m := range x.IMethods {
			t.asked[m.Name] = true
		}
	}
	sort.Slice(t.all, func(i, j int) bool { return t.all[i].Addr < t.all[j].Addr })
	t.groupLocals()
	return t, nil
}

// allTypes visits every type of an object: those that code and data refer to,
// those in the list for reflection, and whatever these are made of.
func allTypes(s *space, set *gotype.Set, visit func(*gotype.Type)) error {
	o := s.obj
	lists := map[int]span{} // where descriptors are, by section
	for i := range o.Symbols {
		if x := &o.Symbols[i]; x.Container && isTypes(x.Name) {
			lo := s.symbol(i)
			if old, ok := lists[x.Section]; ok {
				lists[x.Section] = span{min(old.lo, lo), max(old.hi, lo+x.Size)}
			} else {
				lists[x.Section] = span{lo, lo + x.Size}
			}
		}
	}
	var roots []uint64
	for i := range o.Sections {
		sec := &o.Sections[i]
		for k := range sec.Relocs {
			r := &sec.Relocs[k]
			addr := s.addr(r.Target)
			within, ok := lists[r.Target.Section]
			if x := &o.Symbols[r.Symbol]; !ok || addr < within.lo || addr >= within.hi || !x.Container && x.Type != elf.STT_SECTION {
				continue // not to a type, or to a mark that the linker sets
			}
			if l := lists[i]; s.start[i]+r.Offset >= l.lo && s.start[i]+r.Offset < l.hi {
				continue // descriptors refer to other things there as well
			}
			lea := i == o.Text && isLea(sec.Data, r.Offset)
			if (lea || r.Type == elf.R_X86_64_64) && len(s.relocs(addr, addr+1)) == 0 {
				roots = append(roots, addr)
			}
		}
		if sec.Name == ".typelink" || strings.HasSuffix(sec.Name, ".typelink") {
			for d := sec.Data; len(d) >= 4; d = d[4:] {
				roots = append(roots, s.types+uint64(binary.LittleEndian.Uint32(d)))
			}
		}
	}
	return set.Walk(roots, visit)
}

func isTypes(container string) bool {
	return container == "type:*" || strings.HasPrefix(container, "typerel")
}

// unnoticed tells whether nobody notices that the target's type lacks a new
// method, or has one that is no more: no interface asks for one of that name, so
// that no conversion does. Only reflection can see it.
func (t *types) unnoticed(_ *gotype.Type, method string) bool { return !t.asked[method] }

// calling returns a type of Base that has the function of Base as a method which
// interfaces may call, "" if there is none.
func (t *types) calling(fn int) string {
	off := int64(t.b.base.symbol(fn) - t.b.base.text)
	for _, all := range t.byName {
		for _, x := range all {
			for k := range x.Methods {
				if x.Methods[k].Reached() && x.Methods[k].Ifn == off {
					return x.String
				}
			}
		}
	}
	return ""
}

// containing returns the type whose descriptor holds the address.
func (t *types) containing(addr uint64) (*gotype.Type, bool) {
	i := sort.Search(len(t.all), func(i int) bool { return t.all[i].Addr > addr }) - 1
	if i < 0 || addr >= t.all[i].End {
		return nil, false
	}
	return t.all[i], true
}

// inTarget returns the target's type, Base's or an earlier module's, that is
// the same as New's, nil if there is none. One of the same name that is another
// type is an error.
func (t *types) inTarget(x *gotype.Type) (*gotype.Type, error) {
	if y, ok := t.twin[x.Addr]; ok {
		return y, nil
	}
	if t.isUnclear(x) {
		return nil, nil
	}
	var first error
	renumbered := false
	for _, y := range t.byName[t.new.Identity(x)] {
		err := t.equal.Equal(x.Addr, y.Addr)
		if err == nil && y.Hash != x.Hash {
			// It was declared in a function, and has another number now. Code has
			// the hash that follows from that in it, to tell types by.
			renumbered = true
			continue
		}
		if err == nil {
			t.twin[x.Addr] = y
			return y, nil
		}
		if first == nil {
			if e := t.b.earlierAt(y.Addr); e != nil {
				err = e.difference(err)
			}
			first = err
		}
	}
	if renumbered || t.new.Numbered(x) {
		return nil, nil // another type, of the same name
	}
	return nil, first
}

// address returns where the target has a place of Base that belongs to a type
// or an itab.
func (b *builder) address(base uint64) (uint64, error) {
	p, ok := b.base.place(base)
	if ok {
		if addr, ok := b.Match.AddrAt(p); ok {
			return addr, nil
		}
	}
	return 0, fmt.Errorf("where the target has what is at %#x of base can't be found", base)
}

// bind decides whose a type is and owns it if it is new.
func (t *types) bind(x *gotype.Type) (dest, error) {
	if d, ok := t.bound[x.Addr]; ok {
		return d, nil
	}
	y, err := t.inTarget(x)
	if err != nil {
		return dest{}, difference(err)
	}
	if y == nil {
		t.noteLocal(x)
	}
	if x.Kind == gotype.Interface && len(x.IMethods) > 0 {
		t.inter = append(t.inter, x)
	}
	name := t.name(x)
	t.symbol[x.Addr] = name
	if y == nil {
		d := own(x.Addr)
		t.bound[x.Addr] = d
		t.own[x.Addr] = true
		return d, t.ownType(x)
	}
	binding := module.TypeBinding{Symbol: name, Hash: x.Hash, Kind: uint8(x.Kind), Size: x.Size, String: x.String, PkgPath: x.PkgPath}
	if e := t.b.earlierAt(y.Addr); e != nil {
		binding.Module, binding.Offset = t.b.require(e), y.Addr-e.lo
	} else {
		addr, err := t.b.address(y.Addr)
		if err != nil {
			return dest{}, err
		}
		if err := t.verify(y, addr); err != nil {
			return dest{}, err
		}
		binding.Offset = addr - t.b.Exe.TypesStart
	}
	d := dest{symbol: t.b.undefined(name, elf.STT_OBJECT)}
	t.bound[x.Addr] = d
	t.b.goPart().Types = append(t.b.goPart().Types, binding)
	return d, nil
}

// name makes up a symbol for a type.
func (t *types) name(x *gotype.Type) string {
	name := "type:" + x.String
	if x.Named() && x.PkgPath != "" {
		if i := strings.IndexByte(x.String, '.'); i >= 0 {
			name = "type:" + x.PkgPath + x.String[i:]
		}
	}
	name = strings.NewReplacer("\n", `\n`, "\x00", `\0`).Replace(name)
	return t.b.define(name)
}

// define returns a name that the module's symbol table has not yet, as close to
// the one asked for as can be.
func (b *builder) define(name string) string {
	for i, n := 1, name; ; i++ {
		if _, undefined := b.symbols[n]; !undefined && !b.defined[n] {
			b.defined[n] = true
			return n
		}
		n = fmt.Sprintf("%s#%d", name, i)
	}
}

// verify checks that what the target has at addr looks like base's type.
func (t *types) verify(y *gotype.Type, addr uint64) error {
	var head, want [24]byte
	if err := t.b.Exe.ReadAt(head[:], addr); err != nil {
		return err
	}
	d, _ := t.base.Image.Bytes(y.Addr, len(want))
	copy(want[:], d)
	if head != want {
		return fmt.Errorf("the target has another type than %s at %#x", y.String, addr)
	}
	return nil
}

// ownType owns a descriptor and follows what it refers to.
func (t *types) ownType(x *gotype.Type) error {
	b := t.b
	b.addSpan(segRodata, x.Addr, x.End)
	for _, r := range x.Refs {
		f, err := t.ref(x, r)
		if err != nil {
			return fmt.Errorf("type %s: %w", x.String, err)
		}
		if f.kind != 0 {
			b.fixups[r.Addr] = f
		}
	}
	return nil
}

// ref follows one reference of a descriptor of the module's own.
func (t *types) ref(x *gotype.Type, r gotype.Ref) (fixup, error) {
	b := t.b
	switch r.Kind {
	case gotype.TypePointer, gotype.TypeOff:
		y, err := t.new.At(r.Target)
		if err != nil {
			return fixup{}, err
		}
		kind := fixAbs
		if r.Kind == gotype.TypeOff {
			kind = fixTypeOff
		}
		d, err := t.bind(y)
		return fixup{kind: kind, to: d}, err
	case gotype.NamePointer:
		return fixup{kind: fixAbs, to: own(r.Target)}, b.ownName(r.Target)
	case gotype.NameOff:
		return fixup{kind: fixNameOff, to: own(r.Target)}, b.ownName(r.Target)
	case gotype.SelfPointer:
		return fixup{kind: fixAbs, to: own(r.Target)}, nil
	case gotype.TextOff:
		p, _ := b.new.place(b.new.text + r.Target)
		sym, ok := b.New.SymbolAt(p)
		if !ok || !b.New.IsFunction(sym) {
			return fixup{}, fmt.Errorf("no function at text offset %#x", r.Target)
		}
		d, err := b.function(sym)
		return fixup{kind: fixTextOff, to: b.inModule(d, b.New.Symbols[sym].Name)}, err
	case gotype.MaskPointer:
		if !x.MaskOnDemand() {
			return fixup{kind: fixAbs, to: own(r.Target)}, b.ownData(segRodata, r.Target, r.Target+r.Size)
		}
		// The runtime keeps the mask that it makes in a word of its own, which
		// has no name.
		return fixup{kind: fixAbs, to: own(r.Target)}, b.ownData(segData, r.Target, r.Target+r.Size)
	case gotype.FuncPointer:
		rel := b.new.relocs(r.Addr, r.Addr+1)
		return fixup{}, b.follow(r.Addr, &rel[0])
	}
	return fixup{}, fmt.Errorf("reference of kind %d", r.Kind)
}

// ownName owns an encoded name.
func (b *builder) ownName(addr uint64) error {
	n, err := gotype.ReadName(b.new, addr)
	if err != nil || !b.addSpan(segRodata, n.Addr, n.End) || n.PkgPathField == 0 {
		return err
	}
	raw, _ := b.new.Bytes(n.PkgPathField, 4)
	if off := int32(binary.LittleEndian.Uint32(raw)); off != 0 {
		path := b.new.types + uint64(int64(off))
		b.fixups[n.PkgPathField] = fixup{kind: fixNameOff, to: own(path)}
		return b.ownName(path)
	}
	return nil
}

// inModule returns the dest itself if it is in the module, else that of a jump
// to it, for offsets that can't reach out of the module: the runtime takes a
// text offset as unsigned, from the module's own text on.
func (b *builder) inModule(d dest, name string) dest {
	if d.symbol < 0 {
		return d
	}
	at, ok := b.thunks[d]
	if !ok {
		code := make([]byte, thunkSize)
		for i := range code {
			code[i] = 0xcc
		}
		code[0] = 0xe9 // jmp rel32
		p := b.freshPiece(segText, code)
		at = p.lo
		b.thunks[d] = at
		b.fixups[at+1] = fixup{kind: fixPC, to: d, adj: -4}
		b.thunkNames = append(b.thunkNames, thunkName{at, name, b.define(name + "#jump")})
	}
	return own(at)
}

// goPart returns the manifest's part for Go.
func (b *builder) goPart() *module.Go {
	if b.out.Manifest.Go == nil {
		b.out.Manifest.Go = &module.Go{}
	}
	return b.out.Manifest.Go
}

// pointerReloc returns the relocation of the pointer at addr, nil if it is nil.
func (s *space) pointerReloc(addr uint64) *object.Reloc {
	if r := s.relocs(addr, addr+1); len(r) == 1 && r[0].Type == elf.R_X86_64_64 {
		return &r[0]
	}
	return nil
}
