package clink

import (
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
)

// An exception can pass code only if the program's unwinder knows its tables.
// Libraries are found through the dynamic linker; a module has to be registered,
// with a function of the unwinder that takes locks and memory, and so can't be
// called in a thread that was stopped anywhere. So the calls of a module for C++
// go through a gate, in which the first of them registers the tables, as any call
// of a function may do, while others that come at that time wait.

// register is the unwinder's function (libgcc).
const register = "__register_frame"

// gateSize is the most bytes of all gates together that one function adds, and
// gateRoom those of what they share.
const (
	gateSize = 32
	gateRoom = 512
)

// unwound tells whether exceptions may pass the module: it is C++, or has
// handlers.
func unwound(m *module.Module) bool {
	return m.Shared.Frames != 0 && slices.ContainsFunc(m.Symbols, func(s module.Symbol) bool {
		return strings.HasPrefix(s.Name, "_Z") && (s.Type == elf.STT_FUNC || s.Undefined) || s.Undefined && s.Name == "_Unwind_Resume"
	})
}

// gates puts gates before the functions of a module that exceptions may pass.
func (b *binder) gates() error {
	if !unwound(b.m) {
		return nil
	}
	unwinder, err := b.lookup(&module.Symbol{Name: register, Undefined: true, Weak: true})
	if err != nil {
		return err
	}
	if unwinder == nil {
		return refuse(finding.UnsupportedTarget, "",
			"the module is C++, and the program's unwinder can't be told of it ("+register+" is not there): an exception that comes to the module would end the program",
			"write the patch in C, or link the program with libgcc_s")
	}
	start := b.base + b.image.Size
	size := uint64(gateRoom+gateSize*len(b.image.Functions)+pageSize-1) &^ (pageSize - 1)
	state := start + size // in a page of its own, which can be written
	code := registering(start, state, b.base+b.m.Shared.Frames, unwinder.Addr)
	for len(code)%16 != 0 {
		code = append(code, 0xCC)
	}
	for i := range b.image.Functions {
		f := &b.image.Functions[i]
		to := f.New
		if f.Bridge != 0 {
			to = f.Bridge
		}
		f.Bridge = start + uint64(len(code))
		code = append(code, gate(f.Bridge, state, start, to)...)
	}
	b.image.Segments = append(b.image.Segments,
		link.Segment{Addr: start, Data: code, Size: size, Flags: elf.PF_R | elf.PF_X},
		link.Segment{Addr: state, Size: pageSize, Flags: elf.PF_R | elf.PF_W})
	b.image.Size = state + pageSize - b.base
	return nil
}

// The states of a gate.
const (
	closed  = 0
	opening = 1
	open    = 2
)

// gate returns 32 bytes of code at address at that goes on at to, at the first
// time over the shared code.
func gate(at, state, shared, to uint64) []byte {
	rel := func(end int, target uint64) uint32 { return uint32(target - at - uint64(end)) }
	code := []byte{0x80, 0x3D} // cmpb $open, state(%rip)
	code = binary.LittleEndian.AppendUint32(code, rel(7, state))
	code = append(code, open, 0x0F, 0x84) // je to
	code = binary.LittleEndian.AppendUint32(code, rel(13, to))
	code = append(code, 0xFF, 0x35) // push 7(%rip): the address below
	code = binary.LittleEndian.AppendUint32(code, 5)
	code = append(code, 0xE9) // jmp shared
	code = binary.LittleEndian.AppendUint32(code, rel(24, shared))
	return binary.LittleEndian.AppendUint64(code, to)
}

// registering returns the code that the gates share, at address at: it registers
// the tables, or waits until that is done, and goes on at the address on top of
// the stack, with all registers as they were.
func registering(at, state, frames, register uint64) []byte {
	var code []byte
	add := func(b ...byte) { code = append(code, b...) }
	field := func(target uint64, behind int) { // of an operand relative to %rip
		code = binary.LittleEndian.AppendUint32(code, uint32(target-at-uint64(len(code)+4+behind)))
	}
	add(0x50, 0x51, 0x52, 0x56, 0x57, 0x41, 0x50, 0x41, 0x51, 0x41, 0x52, 0x41, 0x53) // push rax rcx rdx rsi rdi r8 r9 r10 r11
	add(0x55, 0x48, 0x89, 0xE5)                                                       // push %rbp; mov %rsp, %rbp
	add(0x48, 0x81, 0xEC, 0x00, 0x01, 0, 0)                                           // sub $256, %rsp
	add(0x48, 0x83, 0xE4, 0xF0)                                                       // and $-16, %rsp
	vectors := func(op byte) {
		for i := range byte(16) { // movups %xmm, 16*i(%rsp) or back
			if i >= 8 {
				add(0x44)
			}
			add(0x0F, op, 0x84|i&7<<3, 0x24)
			code = binary.LittleEndian.AppendUint32(code, uint32(i)*16)
		}
	}
	vectors(0x11)
	add(0x31, 0xC0, 0xB9, opening, 0, 0, 0) // xor %eax, %eax; mov $opening, %ecx
	add(0xF0, 0x0F, 0xB0, 0x0D)             // lock cmpxchg %cl, state(%rip)
	field(state, 0)
	add(0x75) // jne wait
	jne := len(code)
	add(0)
	add(0x48, 0xBF) // mov $frames, %rdi
	code = binary.LittleEndian.AppendUint64(code, frames)
	add(0x48, 0xB8) // mov $register, %rax
	code = binary.LittleEndian.AppendUint64(code, register)
	add(0xFF, 0xD0, 0xC6, 0x05) // call *%rax; movb $open, state(%rip)
	field(state, 1)
	add(open)
	code[jne] = byte(len(code) - jne - 1)
	wait := len(code)
	add(0xF3, 0x90, 0x80, 0x3D) // pause; cmpb $open, state(%rip)
	field(state, 1)
	add(open, 0x75) // jne wait
	add(byte(wait - len(code) - 1))
	vectors(0x10)
	add(0x48, 0x89, 0xEC, 0x5D) // mov %rbp, %rsp; pop %rbp
	add(0x41, 0x5B, 0x41, 0x5A, 0x41, 0x59, 0x41, 0x58, 0x5F, 0x5E, 0x5A, 0x59, 0x58)
	add(0xC3) // ret, to the function
	return code
}
