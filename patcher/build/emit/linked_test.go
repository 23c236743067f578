package emit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/module"
)

// linked is a module tied to the executable it is for, by a linker that knows
// nothing but the module's format: what a test finds in it is what the target
// will run. Addresses are link-time ones of the executable.
type linked struct {
	t    testing.TB
	m    *module.Module
	exe  *exe.Executable
	base uint64
	segs [][]byte
	addr map[string]uint64 // of every symbol and binding of the module
	name map[uint64]string // of the module's own functions and variables, by start
	ptrs map[uint64]uint64 // pointers in the executable that its relocations give
}

func link(t testing.TB, m *module.Module, x *exe.Executable) *linked {
	t.Helper()
	l := &linked{t: t, m: m, exe: x, base: 1 << 30, addr: map[string]uint64{}, name: map[uint64]string{}, ptrs: map[uint64]uint64{}}
	l.readRelocs()
	for _, s := range m.Segments {
		l.segs = append(l.segs, append(append([]byte{}, s.Data...), make([]byte, s.Size-uint64(len(s.Data)))...))
	}
	for _, s := range m.Symbols {
		if !s.Undefined {
			l.addr[s.Name] = l.base + s.Addr
			l.name[l.base+s.Addr] = s.Name
		}
	}
	for _, b := range m.Manifest.Go.Types {
		l.addr[b.Symbol] = x.TypesStart + b.Offset
	}
	for _, b := range m.Manifest.Go.Itabs {
		if b.HasStatic {
			l.addr[b.Symbol] = x.TypesStart + uint64(b.Static)
		} else {
			l.addr[b.Symbol] = l.addr[b.Own]
		}
	}
	for _, r := range m.Relocs {
		var value uint64
		if r.Symbol >= 0 && r.Type != elf.R_X86_64_TPOFF32 {
			s := m.Symbols[r.Symbol]
			addr, ok := l.addr[s.Name]
			if !ok {
				e, found, _ := x.Symbol(s.Name)
				if !found {
					t.Fatalf("%s is undefined", s.Name)
				}
				addr = e.Addr
			}
			value = addr + uint64(r.Addend)
		}
		at := l.base + r.Addr
		switch r.Type {
		case elf.R_X86_64_RELATIVE:
			binary.LittleEndian.PutUint64(l.bytes(at, 8), l.base+uint64(r.Addend))
		case elf.R_X86_64_64:
			binary.LittleEndian.PutUint64(l.bytes(at, 8), value)
		case elf.R_X86_64_PC32:
			v := int64(value - at)
			if int64(int32(v)) != v {
				t.Fatalf("relocation at %#x is out of range", r.Addr)
			}
			binary.LittleEndian.PutUint32(l.bytes(at, 4), uint32(v))
		case elf.R_X86_64_TPOFF32:
			binary.LittleEndian.PutUint32(l.bytes(at, 4), uint32(x.TLSOffset+r.Addend))
		default:
			t.Fatalf("relocation of type %v", r.Type)
		}
	}
	return l
}

// readRelocs reads the relative relocations of a position-independent
// executable.
func (l *linked) readRelocs() {
	for _, s := range l.exe.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		data := make([]byte, s.Size)
		if err := l.exe.ReadAt(data, s.Addr); err != nil {
			l.t.Fatal(err)
		}
		for ; len(data) >= 24; data = data[24:] {
			if elf.R_X86_64(binary.LittleEndian.Uint32(data[8:])) == elf.R_X86_64_RELATIVE {
				l.ptrs[binary.LittleEndian.Uint64(data)] = binary.LittleEndian.Uint64(data[16:])
			}
		}
	}
}

// bytes returns n bytes of the module or a copy of the executable's.
func (l *linked) bytes(addr, n uint64) []byte {
	if d, ok := l.Bytes(addr, int(n)); ok {
		return d
	}
	l.t.Fatalf("%d bytes at %#x are neither in the module nor in the executable", n, addr)
	return nil
}

// Bytes implements gotype.Image.
func (l *linked) Bytes(addr uint64, n int) ([]byte, bool) {
	for i, s := range l.m.Segments {
		if lo := l.base + s.Addr; addr >= lo && addr-lo <= s.Size && uint64(n) <= s.Size-(addr-lo) {
			return l.segs[i][addr-lo:][:n], true
		}
	}
	d := make([]byte, n)
	return d, l.exe.ReadAt(d, addr) == nil
}

// Pointer implements gotype.Image.
func (l *linked) Pointer(addr uint64) uint64 {
	if p, ok := l.ptrs[addr]; ok {
		return p
	}
	d, ok := l.Bytes(addr, 8)
	if !ok {
		return 0
	}
	return binary.LittleEndian.Uint64(d)
}

// Types implements gotype.Image.
func (l *linked) Types(addr uint64) uint64 {
	if l.own(addr) {
		return l.base + l.m.Manifest.Go.TypesAddr
	}
	return l.exe.TypesStart
}

// own tells whether an address is the module's.
func (l *linked) own(addr uint64) bool { return addr >= l.base && addr < l.base+l.m.End() }

// symbol names what is at an address, as New names it.
func (l *linked) symbol(addr uint64) string {
	if !l.own(addr) {
		if s, ok := l.exe.SymbolAt(addr); ok {
			return fmt.Sprintf("%s+%#x", s.Name, addr-s.Addr)
		}
		return fmt.Sprintf("nothing at %#x", addr)
	}
	for _, s := range l.m.Symbols {
		if lo := l.base + s.Addr; !s.Undefined && addr >= lo && addr < lo+s.Size {
			name := s.Name
			if i := strings.LastIndexByte(name, '#'); i >= 0 {
				name = name[:i]
			}
			return fmt.Sprintf("%s+%#x", name, addr-lo)
		}
	}
	return fmt.Sprintf("nothing of the module's at %#x", addr)
}

// field reads a field of the module's moduledata.
func (l *linked) field(md *moduledataLayout, name string, add uint64) uint64 {
	off, ok := md.offset[name]
	if !ok {
		l.t.Fatalf("moduledata has no %s", name)
	}
	return binary.LittleEndian.Uint64(l.bytes(l.base+l.m.Manifest.Go.ModuledataAddr+off+add, 8))
}
