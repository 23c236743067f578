package emit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// functionAt decides whose the function at an offset from New's text is.
func (b *builder) functionAt(off int64) (dest, error) {
	p, _ := b.new.place(b.new.text + uint64(off))
	sym, ok := b.New.SymbolAt(p)
	if !ok || !b.New.IsFunction(sym) {
		return dest{}, fmt.Errorf("no function at text offset %#x", off)
	}
	return b.function(sym)
}

// fillMethods finds the methods that the target's linker dropped because
// nothing could call them, and New's kept because the patch can: their slots in
// the target's types and itabs lead to runtime.unreachableMethod, and are to
// be filled. It runs to a fixed point, since a method may bring new types.
func (b *builder) fillMethods() error {
	if err := b.fillTypes(); err != nil {
		return err
	}
	if err := b.fillItabs(); err != nil {
		return err
	}
	if err := b.drain(); err != nil {
		return err
	}
	return b.seedItabs()
}

// fillTypes fills the slots in abi.Method.
func (b *builder) fillTypes() error {
	for _, x := range b.types.all {
		if len(x.Methods) == 0 {
			continue
		}
		y, err := b.types.inTarget(x)
		if y == nil || err != nil {
			continue // new, or changed and not used by the patch
		}
		for k := range x.Methods {
			m := &x.Methods[k]
			old := y.Method(m.PkgPath, m.Name)
			if !m.Reached() || old == nil {
				continue
			}
			at, raw, err := b.methodSlot(old.Addr)
			if err != nil {
				return err
			}
			for _, slot := range []struct {
				offset uint64
				fn     int64
			}{{gotype.IfnOffset, m.Ifn}, {gotype.TfnOffset, m.Tfn}} {
				if int32(binary.LittleEndian.Uint32(raw[slot.offset:])) != -1 || slot.fn == -1 || slot.fn == 0 {
					continue
				}
				fill := module.MethodFill{Offset: at.Offset + int64(slot.offset), Size: 4, Module: at.Module}
				if err := b.fill(fill, slot.fn); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fillItabs fills the slots in the itabs that the target's linker made.
func (b *builder) fillItabs() error {
	for sym := range b.New.Symbols {
		s := &b.New.Symbols[sym]
		if s.Section == 0 || !strings.HasPrefix(s.Name, "go:itab.") {
			continue
		}
		lo := b.new.symbol(sym)
		t, errT := b.types.new.At(b.new.Pointer(lo + itabType))
		i, errI := b.types.new.At(b.new.Pointer(lo + itabInter))
		if errT != nil || errI != nil {
			return fmt.Errorf("%s has no types", s.Name)
		}
		addr, ok := b.staticItab(t, i)
		if !ok {
			continue
		}
		x, _ := b.types.inTarget(t)
		y, _ := b.types.inTarget(i)
		oldLo := b.base.symbol(b.baseItabs[pair{x.Addr, y.Addr}])
		for off := uint64(itabFun); off < s.Size; off += 8 {
			r, o := b.new.pointerReloc(lo+off), b.base.pointerReloc(oldLo+off)
			if r == nil || o == nil || b.Base.Symbols[o.Symbol].Name != unreachableMethod || b.New.Symbols[r.Symbol].Name == unreachableMethod {
				continue
			}
			old, err := b.unrelocated(addr + off)
			if err != nil {
				return err
			}
			fill := module.MethodFill{Offset: int64(addr + off - b.Exe.TypesStart), Size: 8, Old: old}
			if err := b.fill(fill, int64(b.new.addr(r.Target)-b.new.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreachableMethod is where the linker lets dropped methods lead.
const unreachableMethod = "runtime.unreachableMethod"

// methodSlot returns where the target has an abi.Method of Base's or of an
// earlier module's, as a fill says it, and what it holds.
func (b *builder) methodSlot(base uint64) (at module.MethodFill, raw []byte, err error) {
	const size = 16 // of abi.Method
	if e := b.earlierAt(base); e != nil {
		raw, ok := e.bytes(base, size)
		if !ok {
			return at, nil, fmt.Errorf("module %s has no method at %#x", e.m.Manifest.Name, base-e.lo)
		}
		return module.MethodFill{Module: b.require(e), Offset: int64(base - e.lo)}, raw, nil
	}
	addr, err := b.address(base)
	if err != nil {
		return at, nil, err
	}
	raw = make([]byte, size)
	return module.MethodFill{Offset: int64(addr - b.Exe.TypesStart)}, raw, b.Exe.ReadAt(raw, addr)
}

// fill asks for a slot of the target, or of an earlier module, to be filled with
// New's function at an offset from its text. The slot's symbol is still to be
// decided.
func (b *builder) fill(f module.MethodFill, fn int64) error {
	at := slot{f.Module, f.Offset}
	if b.filled[at] {
		return nil
	}
	b.filled[at] = true
	p, _ := b.new.place(b.new.text + uint64(fn))
	sym, ok := b.New.SymbolAt(p)
	if !ok || !b.New.IsFunction(sym) {
		return fmt.Errorf("no function at text offset %#x", fn)
	}
	d, err := b.function(sym)
	if err != nil {
		return err
	}
	f.Symbol = b.New.Symbols[sym].Name
	// An earlier module's slot counts from its own text, below which the
	// target's lies.
	if d.symbol >= 0 && (b.out.Symbols[d.symbol].Name != f.Symbol || f.Module != "") {
		d = b.inModule(d, f.Symbol)
	}
	if d.symbol < 0 {
		f.Symbol = b.functionName(d.addr)
	}
	b.goPart().Methods = append(b.goPart().Methods, f)
	return nil
}

// slot is a slot that is to be filled: where MethodFill says.
type slot struct {
	module string
	offset int64
}

// unrelocated returns what a pointer of the target holds if it holds the same
// wherever the target runs although that is position independent, else 0.
func (b *builder) unrelocated(addr uint64) (uint64, error) {
	if !b.Exe.PIE {
		return 0, nil
	}
	if b.relocated == nil {
		b.relocated = map[uint64]bool{}
		for _, s := range b.Exe.Sections {
			if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
				continue
			}
			relocs := make([]byte, s.Size)
			if err := b.Exe.ReadAt(relocs, s.Addr); err != nil {
				return 0, err
			}
			const sizeRela = 24
			for ; len(relocs) >= sizeRela; relocs = relocs[sizeRela:] {
				b.relocated[binary.LittleEndian.Uint64(relocs)] = true
			}
		}
	}
	if b.relocated[addr] {
		return 0, nil
	}
	var raw [8]byte
	err := b.Exe.ReadAt(raw[:], addr)
	return binary.LittleEndian.Uint64(raw[:]), err
}

// seedItabs makes itabs for pairs of a target's type and an interface of the
// patch that the runtime could not pair itself: it compares the methods' types,
// and the target's linker dropped the method's type because the program had
// none such.
func (b *builder) seedItabs() error {
	for n := 0; n < len(b.types.inter); n++ { // grows
		i := b.types.inter[n]
		for _, t := range b.types.all {
			if t.Kind == gotype.Interface || len(t.Methods) < len(i.IMethods) || !b.dropped(t, i) {
				continue
			}
			if _, err := b.types.bind(t); err != nil {
				return err
			}
			if err := b.makeItab(t, i); err != nil {
				return err
			}
			if err := b.drain(); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropped tells whether t, a type of the target, has the methods of i, and the
// target does not know the type of one of them.
func (b *builder) dropped(t, i *gotype.Type) bool {
	for k := range i.IMethods {
		if m := method(t, &i.IMethods[k]); m == nil || m.Mtyp == 0 {
			return false
		}
	}
	y, err := b.types.inTarget(t)
	if y == nil || err != nil {
		return false
	}
	for k := range i.IMethods {
		m := method(t, &i.IMethods[k])
		if old := y.Method(m.PkgPath, m.Name); old != nil && old.Mtyp == 0 {
			return true
		}
	}
	return false
}

// label gives a place of the module a symbol.
func (b *builder) label(name string, addr, size uint64) {
	b.labels = append(b.labels, label{name, addr, size, elf.STT_OBJECT})
}

// label is a defined symbol, by where it comes from.
type label struct {
	name       string
	addr, size uint64
	typ        elf.SymType
}

// thunkName names a jump to a function of the target.
type thunkName struct {
	addr   uint64
	name   string // of the function
	symbol string // of the jump
}
