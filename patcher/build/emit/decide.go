package emit

import (
	"debug/elf"
	"fmt"
	"regexp"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
)

// decide says where a reference of New leads once the patch is loaded, and
// owns what is to be the module's own.
func (b *builder) decide(r *object.Reloc) (dest, error) {
	s := &b.New.Symbols[r.Symbol]
	if s.Section == 0 {
		return b.targetSymbol(s.Name, r.Addend)
	}
	off := int64(r.Target.Offset - s.Offset)
	switch {
	case b.New.IsFunction(r.Symbol):
		d, err := b.function(r.Symbol)
		return shift(d, off), err
	case s.Type != elf.STT_SECTION && !s.Container:
		return b.data(r.Symbol, off)
	}
	// A nameless thing.
	sym, ok := b.New.SymbolAt(r.Target)
	if !ok {
		return dest{}, fmt.Errorf("nothing is known at %s+%#x", b.New.Sections[r.Target.Section].Name, r.Target.Offset)
	}
	s = &b.New.Symbols[sym]
	off = int64(r.Target.Offset - s.Offset)
	addr := b.new.addr(r.Target)
	switch {
	case b.New.IsFunction(sym):
		d, err := b.function(sym)
		return shift(d, off), err
	case !s.Container:
		return b.data(sym, off)
	case s.Name == "go:string.*" || s.Name == "runtime.gcbits.*":
		return own(addr), b.ownData(segRodata, addr, b.constantEnd(sym, addr))
	}
	if t, ok := b.types.containing(addr); ok {
		d, err := b.types.bind(t)
		return shift(d, int64(addr-t.Addr)), err
	}
	if size := b.closureSize(addr); size > 0 {
		return own(addr), b.ownData(segRodata, addr, addr+size)
	}
	return dest{}, fmt.Errorf("what is at %s+%#x can't be told", s.Name, off)
}

// shift moves a dest by off bytes.
func shift(d dest, off int64) dest {
	if d.symbol < 0 {
		d.addr += uint64(off)
		d.off = 0
	} else {
		d.off = off + d.off
	}
	return d
}

// closure matches the names of functions that the source gives no name. See
// closureName in cmd/compile/internal/ir/func.go.
var closure = regexp.MustCompile(`(\.func|\.gowrap|\.deferwrap|-range|\.func[0-9.]*\.)[0-9]+$`)

// function decides whose a function is. A changed one is reached through its
// old entry, so that it is the target's or the module's as the switch says; but
// a closure through its own: its name tells nothing about what it was.
func (b *builder) function(fn int) (dest, error) {
	if old, ok := b.Diff.Old(fn); ok {
		_, changed := b.changed[fn]
		if addr, known := b.Match.Addr(old); known && !(changed && closure.MatchString(b.New.Symbols[fn].Name)) {
			return b.targetFunction(b.Base.Symbols[old].Name, addr), nil
		}
	}
	b.ownFunction(fn)
	return own(b.new.symbol(fn)), nil
}

// targetFunction returns the dest of the target's function of the name at a
// link-time address. If the name is not unique, the start of the text stands
// in: the module fits only one build anyway.
func (b *builder) targetFunction(name string, addr uint64) dest {
	if s, ok, _ := b.Exe.Symbol(name); ok && s.Addr == addr {
		return dest{symbol: b.undefined(name, elf.STT_FUNC)}
	}
	return b.targetAddress(addr)
}

// targetAddress returns the dest of a place in the target.
func (b *builder) targetAddress(addr uint64) dest {
	return dest{symbol: b.undefined("runtime.text", elf.STT_FUNC), off: int64(addr - b.Exe.TextStart)}
}

// targetSymbol returns the dest of the target's symbol of the name.
func (b *builder) targetSymbol(name string, off int64) (dest, error) {
	s, ok, ambiguous := b.Exe.Symbol(name)
	if ambiguous {
		return dest{}, finding.Refuse(finding.SymbolAmbiguous, fmt.Sprintf("the patch needs %s, of which the target has several", name),
			"don't use it in new code")
	}
	if !ok {
		return dest{}, finding.Refuse(finding.SymbolUnresolved, fmt.Sprintf("the patch needs %s, which the target does not have", name),
			"don't use it in new code; C functions that the program has not called yet, or in another way, and what the dynamic linker provides can't be added")
	}
	return dest{symbol: b.undefined(name, s.Type), off: off}, nil
}

// unstable tells whether the compiler numbers the symbol, so that its name
// means nothing in another build.
func unstable(name string) bool {
	i := strings.Index(name, "..")
	return i >= 0 && name[i:] != "..inittask"
}

// data decides whose a variable or constant is.
func (b *builder) data(sym int, off int64) (dest, error) {
	s := &b.New.Symbols[sym]
	lo := b.new.symbol(sym)
	if strings.HasPrefix(s.Name, "go:itab.") {
		d, err := b.itab(sym)
		return shift(d, off), err
	}
	if lo, ok := b.standIn[sym]; ok {
		return own(lo + uint64(off)), nil
	}
	if s.Size == 0 { // a mark that the linker sets, or a variable without size
		if _, ok, _ := b.Exe.Symbol(s.Name); ok {
			return b.targetSymbol(s.Name, off)
		}
		return b.targetSymbol("runtime.zerobase", 0)
	}
	if !b.New.Writable(sym) {
		return own(lo + uint64(off)), b.ownData(segRodata, lo, lo+s.Size)
	}
	if !unstable(s.Name) {
		if d, shared, err := b.share(sym); shared || err != nil {
			return shift(d, off), err
		}
		switch old := b.Base.Named(s.Name); {
		case len(old) == 1 && b.Base.Symbols[old[0]].Section != 0 && !b.Base.Writable(int(old[0])):
			// It was a function, or a constant; now it's a variable, and new.
		case len(old) == 1 && b.Base.Symbols[old[0]].Section != 0 && len(b.New.Named(s.Name)) == 1:
			o := &b.Base.Symbols[old[0]]
			if o.Size != s.Size {
				return dest{}, finding.Refuse(finding.GlobalChanged, fmt.Sprintf("the variable %s had %d bytes and has %d", s.Name, o.Size, s.Size),
					"leave the variable as it is, and put what is new into another")
			}
			if _, ok, _ := b.Exe.Symbol(s.Name); ok {
				return b.targetSymbol(s.Name, off)
			}
			if addr, ok := b.Match.Addr(int(old[0])); ok {
				return shift(b.targetAddress(addr), off), nil
			}
			return dest{}, finding.Refuse(finding.SymbolUnresolved, fmt.Sprintf("where the target keeps the variable %s can't be found", s.Name),
				"don't use it in new code")
		case len(old) > 1:
			return dest{}, finding.Refuse(finding.SymbolAmbiguous, fmt.Sprintf("there are several variables %s", s.Name),
				"don't use it in new code")
		}
	}
	return own(lo + uint64(off)), b.ownData(segData, lo, lo+s.Size)
}

// closureSize returns the size of the static function value at addr, 0 if there
// is none: a pointer to code, and for the comparing and hashing of plain memory
// of a certain size that size (cmd/compile/internal/reflectdata/alg.go).
func (b *builder) closureSize(addr uint64) uint64 {
	r := b.new.relocs(addr, addr+1)
	if len(r) != 1 || r[0].Type != elf.R_X86_64_64 || !b.New.IsFunction(r[0].Symbol) {
		return 0
	}
	if strings.HasPrefix(b.New.Symbols[r[0].Symbol].Name, "runtime.mem") && strings.HasSuffix(b.New.Symbols[r[0].Symbol].Name, "_varlen") {
		return 16
	}
	return 8
}
