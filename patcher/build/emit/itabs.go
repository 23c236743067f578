package emit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// abi.ITab: Inter, Type *Type; Hash uint32; Fun [1]uintptr.
const (
	itabInter = 0
	itabType  = 8
	itabHash  = 16
	itabFun   = 24
)

// pair is a type and an interface, by their descriptors' addresses.
type pair struct{ typ, inter uint64 }

// itab decides whose an itab is. The runtime compares itabs by address, so that
// there must be one for a pair of a type and an interface: the target's if its
// linker made it, else one that its runtime may have made since, else the
// module's own, which is then published. Which of the latter two it is only
// the running target tells.
func (b *builder) itab(sym int) (dest, error) {
	s := &b.New.Symbols[sym]
	lo := b.new.symbol(sym)
	t, err := b.types.new.At(b.new.Pointer(lo + itabType))
	if err != nil {
		return dest{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	i, err := b.types.new.At(b.new.Pointer(lo + itabInter))
	if err != nil {
		return dest{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	pair := pair{t.Addr, i.Addr}
	if d, ok := b.itabs[pair]; ok {
		return d, nil
	}
	if _, err := b.types.bind(t); err != nil {
		return dest{}, err
	}
	if _, err := b.types.bind(i); err != nil {
		return dest{}, err
	}
	if d, ok := b.itabs[pair]; ok { // it was reached through its types
		return d, nil
	}
	d := dest{symbol: b.undefined(s.Name, elf.STT_OBJECT)}
	bind := module.ItabBinding{Symbol: s.Name, Type: b.types.symbol[t.Addr], Inter: b.types.symbol[i.Addr], Hash: t.Hash}
	b.itabs[pair] = d
	if addr, ok := b.staticItab(t, i); ok {
		bind.HasStatic, bind.Static = true, int64(addr-b.Exe.TypesStart)
	} else {
		bind.Own = b.define(s.Name + "#own")
		if err := b.ownData(segRodata, lo, lo+s.Size); err != nil {
			return dest{}, err
		}
		b.label(bind.Own, lo, s.Size)
		b.itabSlot(d)
	}
	b.goPart().Itabs = append(b.goPart().Itabs, bind)
	return d, nil
}

// itabSlot makes a place in the module that holds the address of an itab that
// the runtime may have made: that one may lie anywhere, so that no lea reaches
// it. Code is made to load the address instead, by an instruction of the same
// length.
func (b *builder) itabSlot(d dest) {
	slot := b.freshPiece(segRodata, make([]byte, 8))
	b.fixups[slot.lo] = fixup{kind: fixAbs, to: d}
	b.itabSlots[d] = slot.lo
}

// isLea tells whether the field at an address is that of lea x(%rip), reg.
func (b *builder) isLea(at uint64) bool {
	code, ok := b.new.Bytes(at-3, 3)
	return ok && code[0]&^4 == 0x48 && code[1] == 0x8d && code[2]&0xc7 == 0x05
}

// staticItab returns where the target has the itab that its linker made for the
// same type and interface.
func (b *builder) staticItab(t, i *gotype.Type) (uint64, bool) {
	if b.baseItabs == nil {
		b.baseItabs = map[pair]int{}
		for sym := range b.Base.Symbols {
			if s := &b.Base.Symbols[sym]; s.Section != 0 && strings.HasPrefix(s.Name, "go:itab.") {
				lo := b.base.symbol(sym)
				b.baseItabs[pair{b.base.Pointer(lo + itabType), b.base.Pointer(lo + itabInter)}] = sym
			}
		}
	}
	x, errX := b.types.inTarget(t)
	y, errY := b.types.inTarget(i)
	if x == nil || y == nil || errX != nil || errY != nil {
		return 0, false
	}
	sym, ok := b.baseItabs[pair{x.Addr, y.Addr}]
	if !ok {
		return 0, false
	}
	return b.Match.Addr(sym)
}

// makeItab makes an itab for a type and an interface that New's linker made
// none for, of the functions in the type's descriptor.
func (b *builder) makeItab(t, i *gotype.Type) error {
	pair := pair{t.Addr, i.Addr}
	if _, ok := b.itabs[pair]; ok {
		return nil
	}
	if _, ok := b.staticItab(t, i); ok {
		return nil // the runtime knows it
	}
	name := "go:itab." + b.types.symbol[t.Addr][len("type:"):] + "," + b.types.symbol[i.Addr][len("type:"):]
	data := make([]byte, itabFun+8*len(i.IMethods))
	binary.LittleEndian.PutUint32(data[itabHash:], t.Hash)
	p := b.freshPiece(segRodata, data)
	b.fixups[p.lo+itabInter] = fixup{kind: fixAbs, to: b.types.bound[i.Addr]}
	b.fixups[p.lo+itabType] = fixup{kind: fixAbs, to: b.types.bound[t.Addr]}
	for k := range i.IMethods {
		m := method(t, &i.IMethods[k])
		var d dest
		var err error
		if m.Reached() {
			d, err = b.functionAt(m.Ifn)
		} else {
			d, err = b.targetSymbol("runtime.unreachableMethod", 0)
		}
		if err != nil {
			return err
		}
		b.fixups[p.lo+itabFun+8*uint64(k)] = fixup{kind: fixAbs, to: d}
	}
	sym := b.define(name)
	ownName := b.define(name + "#own")
	b.label(ownName, p.lo, p.size)
	b.itabs[pair] = own(p.lo)
	b.goPart().Itabs = append(b.goPart().Itabs, module.ItabBinding{Symbol: sym, Own: ownName, Hash: t.Hash,
		Type: b.types.symbol[t.Addr], Inter: b.types.symbol[i.Addr]})
	return nil
}

// method returns the type's method that satisfies the interface's, nil if there
// is none. Both are New's.
func method(t *gotype.Type, want *gotype.IMethod) *gotype.Method {
	for k := range t.Methods {
		m := &t.Methods[k]
		if m.Name != want.Name || m.Mtyp != want.Type && m.Mtyp != 0 {
			continue
		}
		if want.PkgPath == "" || m.PkgPath == want.PkgPath || m.PkgPath == "" && t.PkgPath == want.PkgPath {
			return m
		}
	}
	return nil
}
