package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"strings"
)

// equality decides whether symbols of two objects hold the same, by what they
// hold and refer to. Names that last stand for themselves.
type equality struct {
	base, new *Object
	// settled tells of a package whose names all last, since its compiled
	// archive is the same in both.
	settled func(pkg string) bool
	// renewed are functions that share a name but not an ABI.
	renewed map[string]string
	// closures, if not nil, are the new closures that continue old ones: then a
	// reference to the one equals a reference to the other, whatever the code.
	// If it is nil closures are told by their content.
	closures map[int]int
	refs     func(o *Object, fn int) []Reloc

	memo map[[2]int]bool // what is known
	// assumed holds the pairs that are being compared or were found equal on
	// the way: to end cycles, they are taken to be equal until the outermost
	// comparison is done.
	assumed map[[2]int]bool
	depth   int
}

// symbols tells whether two symbols hold the same, following references.
func (e *equality) symbols(b, n int) bool { return e.symbolsWhy(b, n) == "" }

// symbolsWhy returns the first difference, or "".
func (e *equality) symbolsWhy(b, n int) string {
	pair := [2]int{b, n}
	if same, known := e.memo[pair]; known && (same || e.depth > 0) {
		if same {
			return ""
		}
		return "its content differs"
	}
	if e.assumed[pair] {
		return ""
	}
	e.assumed[pair] = true
	e.depth++
	why := e.contents(b, n)
	e.depth--
	if why != "" {
		e.memo[pair] = false // although the assumptions were generous
		delete(e.assumed, pair)
	}
	if e.depth == 0 {
		if why == "" {
			maps.Copy(e.memo, e.assumed)
		}
		clear(e.assumed)
	}
	return why
}

// contents compares the bytes of two symbols and what they refer to.
func (e *equality) contents(b, n int) string {
	bs, ns := &e.base.Symbols[b], &e.new.Symbols[n]
	code := e.base.IsFunction(b)
	if code != e.new.IsFunction(n) {
		return "one is code, the other data"
	}
	if bs.Size != ns.Size {
		if code {
			return "its code differs"
		}
		return fmt.Sprintf("its size was %d and is %d bytes", bs.Size, ns.Size)
	}
	br, nr := e.relocs(e.base, b), e.relocs(e.new, n)
	bc, nc := e.base.Content(b), e.new.Content(n)
	if bc == nil || nc == nil { // of bss: zero, without relocations
		if len(br) == 0 && len(nr) == 0 && isZero(bc) && isZero(nc) {
			return ""
		}
		return "its initial value differs"
	}
	what := "its content differs"
	if code {
		what = "its code differs"
	}
	if len(br) != len(nr) {
		return what
	}
	at := uint64(0)
	for i := range br {
		x, y := &br[i], &nr[i]
		off := x.Offset - bs.Offset
		if off != y.Offset-ns.Offset || x.Type != y.Type || off < at || off+uint64(x.Size) > bs.Size || !bytes.Equal(bc[at:off], nc[at:off]) {
			return what
		}
		at = off + uint64(x.Size)
	}
	if !bytes.Equal(bc[at:], nc[at:]) {
		return what
	}
	var words func(uint64) bool
	if code {
		words = lastWords(bc)
	}
	for i := range br {
		lengths := words
		if !code {
			lengths = stringHeader(bc, br[i].Offset-bs.Offset)
		}
		if why := e.references(&br[i], &nr[i], lengths); why != "" {
			return why
		}
	}
	return ""
}

// stringHeader returns what a string's length may be that data points to with
// the field at off: the word behind the pointer.
func stringHeader(data []byte, off uint64) func(uint64) bool {
	return func(n uint64) bool {
		return off+16 <= uint64(len(data)) && binary.LittleEndian.Uint64(data[off+8:]) == n
	}
}

func (e *equality) relocs(o *Object, sym int) []Reloc {
	if o.IsFunction(sym) {
		return e.refs(o, sym)
	}
	return o.Relocs(sym)
}

// references tells how two references differ, "" if they don't.
func (e *equality) references(b, n *Reloc, lengths func(uint64) bool) string {
	bs, ns := &e.base.Symbols[b.Symbol], &e.new.Symbols[n.Symbol]
	bo, no := b.Target.Offset-bs.Offset, n.Target.Offset-ns.Offset
	switch {
	case bs.Container && ns.Container:
		return e.nameless(b, n, lengths)
	case bs.Container != ns.Container, bs.Section == 0 != (ns.Section == 0), bo != no:
	case bs.Section == 0:
		if sameNames(bs.Name, ns.Name) {
			return ""
		}
	case e.base.IsFunction(b.Symbol) && e.new.IsFunction(n.Symbol):
		return e.functions(b.Symbol, n.Symbol)
	case namedByContent(bs.Name) && namedByContent(ns.Name):
		if bs.Name == ns.Name && e.settled(PackageOf(bs.Name)) || e.symbols(b.Symbol, n.Symbol) {
			return ""
		}
		return "a constant or table it uses differs"
	case sameNames(bs.Name, ns.Name) && e.base.Writable(b.Symbol) == e.new.Writable(n.Symbol):
		if e.base.Writable(b.Symbol) || bs.Size == 0 || strings.HasPrefix(bs.Name, "go:") || e.settled(PackageOf(bs.Name)) || e.symbols(b.Symbol, n.Symbol) {
			return ""
		}
		return fmt.Sprintf("the constant %s that it uses differs", bs.Name)
	}
	return e.instead(b, n)
}

// instead says that two references lead to different things.
func (e *equality) instead(b, n *Reloc) string {
	was, is := e.name(e.base, b), e.name(e.new, n)
	if was == is {
		return fmt.Sprintf("it uses %s, which changed, or another part of it", is)
	}
	return fmt.Sprintf("it uses %s instead of %s", is, was)
}

// name describes what a reference leads to.
func (e *equality) name(o *Object, r *Reloc) string {
	s := &o.Symbols[r.Symbol]
	if !s.Container {
		return s.Name
	}
	if isTypes(s.Name) {
		if t, err := o.TypeAt(r.Target); err == nil {
			return "type " + t.String
		}
	}
	if f, ok := o.carried(r.Target); ok {
		return o.Symbols[f].Name
	}
	return "another constant"
}

func isTypes(container string) bool {
	return container == "type:*" || container == "typerel.*"
}

// carried returns the function that a function value in a container leads to.
func (o *Object) carried(p Place) (int, bool) {
	r := o.relocs(p.Section, p.Offset, p.Offset+1)
	if len(r) != 1 || r[0].Offset != p.Offset || !o.IsFunction(r[0].Symbol) {
		return 0, false
	}
	return r[0].Symbol, true
}

// nameless compares references into containers.
func (e *equality) nameless(b, n *Reloc, lengths func(uint64) bool) string {
	bs, ns := &e.base.Symbols[b.Symbol], &e.new.Symbols[n.Symbol]
	f, okb := e.base.carried(b.Target)
	g, okn := e.new.carried(n.Target)
	if okb && okn {
		return e.functions(f, g)
	}
	if isTypes(bs.Name) && isTypes(ns.Name) {
		if e.isLoad(b) && sameWord(e.base, e.new, b.Target, n.Target) || e.types(b.Target, n.Target) {
			return ""
		}
		return e.instead(b, n)
	}
	if bs.Name == "go:string.*" && ns.Name == "go:string.*" {
		if e.isLoad(b) {
			lengths = nil
		}
		if sameString(e.base, e.new, b.Target, n.Target, lengths) {
			return ""
		}
		return "a string constant differs"
	}
	if x, y := e.base.bytesAt(b.Target, 8), e.new.bytesAt(n.Target, 8); okb == okn && bs.Name == ns.Name && x != nil && bytes.Equal(x, y) {
		return ""
	}
	return "a constant it uses differs"
}

// types tells whether two descriptors are of the same type. That is what the
// hash of a type's name tells, but for types declared in functions and those
// made of them: their names have a number, which depends on how many there are
// before, and tell nothing of what they are made of.
func (e *equality) types(b, n Place) bool {
	x, errb := e.base.TypeAt(b)
	y, errn := e.new.TypeAt(n)
	if errb != nil || errn != nil {
		return false
	}
	was, localb := e.base.describeLocal(b)
	is, localn := e.new.describeLocal(n)
	if localb || localn {
		return localb && localn && was == is
	}
	parts := typeParts[x.Kind]
	if x.Named || len(parts) == 0 {
		return x == y
	}
	if x.Hash = y.Hash; x != y {
		return false
	}
	for _, at := range parts {
		fromB, fromN := e.base.relocs(b.Section, b.Offset+at, b.Offset+at+8), e.new.relocs(n.Section, n.Offset+at, n.Offset+at+8)
		if len(fromB) != 1 || len(fromN) != 1 || !e.types(fromB[0].Target, fromN[0].Target) {
			return false
		}
	}
	return true
}

// sameWord tells whether what is at two places, to the end of the word there, is
// the same, and no address: that is all that code sees which reads a field of a
// descriptor, as inlined code of package reflect does.
func sameWord(base, now *Object, b, n Place) bool {
	size := 8 - b.Offset%8
	x, y := base.bytesAt(b, size), now.bytesAt(n, size)
	return x != nil && bytes.Equal(x, y) &&
		len(base.relocs(b.Section, b.Offset, b.Offset+size)) == 0 && len(now.relocs(n.Section, n.Offset, n.Offset+size)) == 0
}

// typeParts says of the kinds of nameless types that are made of others alone
// where their descriptors refer to these (internal/abi/type.go, map.go).
var typeParts = [kindMask + 1][]uint64{
	17: {48},     // abi.ArrayType.Elem
	18: {48},     // abi.ChanType.Elem
	21: {48, 56}, // abi.MapType.Key, Elem
	22: {48},     // abi.PtrType.Elem
	23: {48},     // abi.SliceType.Elem
}

// isLoad tells whether code reads what the reference leads to rather than
// taking its address.
func (e *equality) isLoad(r *Reloc) bool {
	text := e.base.Sections[e.base.Text].Data
	return r.Type != elf.R_X86_64_64 && r.Offset >= 2 && r.Offset < uint64(len(text)) && text[r.Offset-2] != 0x8d
}

// functions tells how references to two functions differ.
func (e *equality) functions(b, n int) string {
	bname, nname := e.base.Symbols[b].Name, e.new.Symbols[n].Name
	pkg := PackageOf(bname)
	if bname == nname && pkg != "" && e.settled(pkg) {
		return ""
	}
	switch {
	case isClosure(bname) && isClosure(nname):
		if e.closures == nil {
			if e.symbols(b, n) {
				return ""
			}
		} else if old, ok := e.closures[n]; ok && old == b {
			return ""
		}
		return fmt.Sprintf("it uses the new %s", nname)
	case namedByContent(bname) && namedByContent(nname):
		if e.symbols(b, n) {
			return ""
		}
		return fmt.Sprintf("%s, which it uses, differs", nname)
	case !sameNames(bname, nname):
		return fmt.Sprintf("it uses %s instead of %s", nname, bname)
	case e.renewed[nname] != "":
		return fmt.Sprintf("it uses %s, whose %s changed", nname, e.renewed[nname])
	}
	return ""
}

func isZero(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}
