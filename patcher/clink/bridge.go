package clink

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/redirect"
)

// A compiler that sees what a function does with registers lets its callers keep
// values in those that the function leaves alone, although the ABI lets it change
// them (gcc's -fipa-ra, which -O2 has). New code does not know that. So where the
// old code calls nothing whose code its compiler can't have seen, calls go to the
// new code over a bridge, which keeps all registers but those of the result. What
// is called through the procedure linkage table or a pointer may change every
// register: a function with such a call needs no bridge.

// BridgeSize is the most bytes that a bridge takes.
const BridgeSize = 1024

// Span returns the most bytes of address space that a module takes with its
// bridges and gates.
func Span(m *module.Module) uint64 {
	n := len(m.Replaces())
	whole := func(size int) uint64 { return uint64(size+pageSize-1) &^ (pageSize - 1) }
	return m.End() + whole(n*BridgeSize) + whole(gateRoom+n*gateSize) + pageSize
}

const pageSize = 4096

// bridges makes the bridges that the replaced functions need.
func (b *binder) bridges() error {
	var code []byte
	start := b.base + b.m.End()
	for i := range b.image.Functions {
		f := &b.image.Functions[i]
		if b.callsOut(b.found[i].old, map[uint64]bool{}) {
			continue
		}
		s := b.signature(b.found[i].new)
		if s.stack > maxStackWords {
			return refuse(finding.SignatureChanged, f.Symbol,
				fmt.Sprintf("its callers may rely on registers that the old code leaves alone, and the new code can't be made to keep them: it takes %d bytes of arguments on the stack", 8*s.stack),
				"replace its callers in the same source file instead")
		}
		f.Bridge = start + uint64(len(code))
		piece := bridge(f.Bridge, f.New, s)
		if len(piece) > BridgeSize {
			return fmt.Errorf("clink: a bridge of %d bytes", len(piece))
		}
		code = append(code, piece...)
		for len(code)%BridgeSize != 0 {
			code = append(code, 0xCC)
		}
	}
	if len(code) == 0 {
		return nil
	}
	size := uint64(len(code)+pageSize-1) &^ (pageSize - 1)
	b.image.Segments = append(b.image.Segments, link.Segment{Addr: start, Data: code, Size: size, Flags: elf.PF_R | elf.PF_X})
	b.image.Bridges = link.Range{Start: start, End: start + size}
	b.image.Size = b.m.End() + size
	return nil
}

// maxCallees bounds how far callsOut looks.
const maxCallees = 200

// callsOut tells whether a function, or one that it calls, calls something
// through a pointer or in another object.
func (b *binder) callsOut(f *loaded.Symbol, seen map[uint64]bool) bool {
	if seen[f.Addr] || len(seen) > maxCallees {
		return false
	}
	seen[f.Addr] = true
	code, err := f.Object.Code(f.Addr, f.Size)
	if err != nil {
		return false
	}
	targets, unknown, _ := redirect.Calls(code, f.Addr)
	if unknown {
		return true
	}
	for _, at := range targets {
		if strings.HasPrefix(f.Object.SectionAt(at), ".plt") {
			return true
		}
		if g, ok := f.Object.FunctionAt(at); ok && b.callsOut(g, seen) {
			return true
		}
	}
	return false
}

// signature is what a bridge must know of a function.
type signature struct {
	stack int // words of arguments that may be on the stack
	// What of the registers for results does not hold one.
	keepRAX, keepRDX, keepXMM0, keepXMM1 bool
}

const (
	// guessedWords of stack are passed on to a function of which nothing is known.
	guessedWords  = 16
	maxStackWords = 24
)

// signature reads a function's signature from the module's debugging
// information.
func (b *binder) signature(x *module.Symbol) signature {
	unknown := signature{stack: guessedWords}
	d := moduleDWARF(b.m)
	if d == nil {
		return unknown
	}
	r := d.Reader()
	for {
		e, err := r.Next()
		if e == nil || err != nil {
			return unknown
		}
		if low, ok := e.Val(dwarf.AttrLowpc).(uint64); e.Tag != dwarf.TagSubprogram || !ok || low != x.Addr {
			continue
		}
		if _, concrete := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); concrete {
			return unknown
		}
		s := result(d, declaration(d, e))
		words, integers, floats, simple := 0, 0, 0, true
		for e.Children {
			c, err := r.Next()
			if c == nil || err != nil || c.Tag == 0 {
				break
			}
			switch c.Tag {
			case dwarf.TagUnspecifiedParameters:
				return signature{guessedWords, s.keepRAX, s.keepRDX, s.keepXMM0, s.keepXMM1}
			case dwarf.TagFormalParameter:
				size, float, scalar := class(d, c)
				words += int((size + 7) / 8)
				simple = simple && scalar
				if float {
					floats++
				} else {
					integers++
				}
			}
			if c.Children {
				r.SkipChildren()
			}
		}
		if !simple || integers > 6 || floats > 8 {
			s.stack = words
		}
		return s
	}
}

// declaration returns where the definition of a C++ method is declared, which has
// its type; e itself if nowhere else.
func declaration(d *dwarf.Data, e *dwarf.Entry) *dwarf.Entry {
	at, ok := e.Val(dwarf.AttrSpecification).(dwarf.Offset)
	if !ok {
		return e
	}
	r := d.Reader()
	r.Seek(at)
	if declared, err := r.Next(); err == nil && declared != nil {
		return declared
	}
	return e
}

// result tells which registers a function returns nothing in.
func result(d *dwarf.Data, e *dwarf.Entry) (s signature) {
	if e.Val(dwarf.AttrType) == nil {
		return signature{keepRAX: true, keepRDX: true, keepXMM0: true, keepXMM1: true}
	}
	if size, float, scalar := class(d, e); scalar && size <= 8 {
		return signature{keepRAX: float, keepRDX: true, keepXMM0: !float, keepXMM1: true}
	}
	return s
}

// class returns the size of the type of an entry in bytes, whether it goes into a
// vector register, and whether it needs just one register.
func class(d *dwarf.Data, e *dwarf.Entry) (size int64, float, scalar bool) {
	offset, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok {
		return 8, false, false
	}
	t, err := d.Type(offset)
	if err != nil {
		return 8, false, false
	}
	size = t.Size()
	for {
		switch x := t.(type) {
		case *dwarf.TypedefType:
			t = x.Type
			continue
		case *dwarf.QualType:
			t = x.Type
			continue
		case *dwarf.FloatType:
			return size, true, size <= 8
		case *dwarf.PtrType, *dwarf.EnumType, *dwarf.IntType, *dwarf.UintType, *dwarf.CharType, *dwarf.UcharType, *dwarf.BoolType, *dwarf.AddrType:
			return size, false, size <= 8
		}
		return size, false, false
	}
}

// The registers that a called function may change, by their numbers in
// instructions.
var changeable = []byte{0, 1, 2, 6, 7, 8, 9, 10, 11} // rax rcx rdx rsi rdi r8-r11

const scratch = 11 // carries nothing into a call

// bridge returns code at address at that calls the function at to, passes on the
// words of stack above its return address, and keeps all registers but those of
// the result. It has the frame of an ordinary function with %rbp.
func bridge(at, to uint64, s signature) []byte {
	saved := 8*len(changeable) + 16*16
	frame := (saved + 8*s.stack + 15) &^ 15
	code := []byte{0x55, 0x48, 0x89, 0xE5, 0x48, 0x81, 0xEC} // push %rbp; mov %rsp,%rbp; sub $frame,%rsp
	code = binary.LittleEndian.AppendUint32(code, uint32(frame))
	general := func(op, reg byte, base byte, disp int) { // mov between reg and disp(base)
		rex := byte(0x48)
		if reg >= 8 {
			rex |= 4
		}
		code = append(code, rex, op, 0x80|reg&7<<3|base)
		if base == 4 {
			code = append(code, 0x24)
		}
		code = binary.LittleEndian.AppendUint32(code, uint32(int32(disp)))
	}
	vector := func(op, reg byte, disp int) { // movups between reg and disp(%rbp)
		if reg >= 8 {
			code = append(code, 0x44)
		}
		code = append(code, 0x0F, op, 0x80|reg&7<<3|5)
		code = binary.LittleEndian.AppendUint32(code, uint32(int32(disp)))
	}
	const (
		store, load   = 0x89, 0x8B
		storeV, loadV = 0x11, 0x10
		rbp, rsp      = 5, 4
	)
	atGeneral := func(i int) int { return -8 * (i + 1) }
	atVector := func(i int) int { return -saved + 16*i }
	for i, reg := range changeable {
		general(store, reg, rbp, atGeneral(i))
	}
	for i := range 16 {
		vector(storeV, byte(i), atVector(i))
	}
	for i := range s.stack {
		general(load, scratch, rbp, 16+8*i)
		general(store, scratch, rsp, 8*i)
	}
	code = append(code, 0xE8)
	code = binary.LittleEndian.AppendUint32(code, uint32(to-(at+uint64(len(code))+4)))
	drop := func(keep bool, reg byte, regs []byte) []byte {
		if keep {
			return regs
		}
		return slices.DeleteFunc(regs, func(r byte) bool { return r == reg })
	}
	back := drop(s.keepRDX, 2, drop(s.keepRAX, 0, slices.Clone(changeable)))
	for i, reg := range changeable {
		if slices.Contains(back, reg) {
			general(load, reg, rbp, atGeneral(i))
		}
	}
	for i := range 16 {
		if i == 0 && !s.keepXMM0 || i == 1 && !s.keepXMM1 {
			continue
		}
		vector(loadV, byte(i), atVector(i))
	}
	return append(code, 0xC9, 0xC3) // leave; ret
}
