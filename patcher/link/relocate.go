package link

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

// tlsSymbol is the one thread-local variable that Go code refers to: the
// current g.
const tlsSymbol = "runtime.tlsg"

// relocate applies the relocations.
func (b *binder) relocate() error {
	relocs := b.m.Relocs
	values := make([]uint64, len(b.m.Symbols)) // S by symbol
	known := make([]bool, len(b.m.Symbols))
	for i := range relocs {
		r := &relocs[i]
		var s uint64
		switch {
		case r.Type == elf.R_X86_64_RELATIVE:
			s = b.image.Base
			if r.Addend < 0 || uint64(r.Addend) > b.image.Size {
				return malformed("relocation %d at %#x leads to %#x, outside the module", i, r.Addr, r.Addend)
			}
		case r.Symbol < 0 || r.Symbol >= len(values):
			return malformed("relocation %d at %#x refers to symbol %d, which does not exist", i, r.Addr, r.Symbol)
		case known[r.Symbol]:
			s = values[r.Symbol]
		default:
			var err error
			if s, err = b.symbol(r.Symbol, r.Type); err != nil {
				return err
			}
			values[r.Symbol], known[r.Symbol] = s, true
		}
		if err := b.apply(i, s); err != nil {
			return err
		}
	}
	return nil
}

// symbol returns the value S of symbol i for a relocation of type typ.
func (b *binder) symbol(i int, typ elf.R_X86_64) (uint64, error) {
	sym := &b.m.Symbols[i]
	if (sym.Type == elf.STT_TLS) != (typ == elf.R_X86_64_TPOFF32) {
		return 0, malformed("a relocation of type %v does not fit symbol %q of type %v", typ, sym.Name, sym.Type)
	}
	switch {
	case sym.Type == elf.STT_TLS && sym.Name == tlsSymbol:
		return uint64(b.t.TLSOffset()), nil
	case sym.Type == elf.STT_TLS:
		return 0, refuse(finding.SymbolUnresolved, sym.Name,
			fmt.Sprintf("the thread-local variable %q can't be bound", sym.Name),
			"change the patch so that it does not use it")
	case !sym.Undefined:
		return b.image.Base + sym.Addr, nil
	}
	return b.address(sym.Name)
}

// apply writes relocation i, whose symbol has the value s.
func (b *binder) apply(i int, s uint64) error {
	r := &b.m.Relocs[i]
	place := b.image.Base + r.Addr
	value := int64(s + uint64(r.Addend))
	n := uint64(4)
	switch r.Type {
	case elf.R_X86_64_64, elf.R_X86_64_RELATIVE:
		n = 8
	case elf.R_X86_64_PC32:
		value -= int64(place)
	case elf.R_X86_64_TPOFF32:
	default:
		return malformed("relocation %d at %#x has type %v, which has no place in a module", i, r.Addr, r.Type)
	}
	field := b.bytes(r.Addr, n)
	if field == nil {
		return malformed("relocation %d at %#x alters bytes that the module does not have", i, r.Addr)
	}
	if n == 8 {
		binary.LittleEndian.PutUint64(field, uint64(value))
		return nil
	}
	if !fits32(value) {
		name := b.m.Symbols[r.Symbol].Name
		return refuse(finding.OutOfRange, name,
			fmt.Sprintf("%q at %#x is too far from the module's %#x for a 32-bit displacement", name, s, place),
			"the module must lie within 2 GiB of the program; if it does, it was built for another one")
	}
	binary.LittleEndian.PutUint32(field, uint32(value))
	return nil
}
