package clink

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// An exception can pass code only if the program's unwinder knows its tables.
// Libraries are found through the dynamic linker; a module has to be registered,
// with a function of the unwinder that takes locks and memory, and so can't be
// called in a thread that was stopped anywhere. Neither can constructors. So the
// calls of a module that needs such a beginning go through a gate, in which the
// first of them makes it, as any call of a function may do, while others that
// come at that time wait; but for those that the beginning itself makes.

// register is the unwinder's function (libgcc).
const register = "__register_frame"

// gateSize is the most bytes of all gates together that one function adds, and
// gateRoom those of what they share.
const (
	gateSize = 32
	gateRoom = 1024
)

// throws tells whether a module may raise or handle exceptions: it is C++, or has
// handlers.
func throws(m *module.Module) bool {
	return m.Shared.Frames != 0 && slices.ContainsFunc(m.Symbols, func(s module.Symbol) bool {
		return strings.HasPrefix(s.Name, "_Z") && (s.Type == elf.STT_FUNC || s.Undefined) || s.Undefined && s.Name == "_Unwind_Resume"
	})
}

// personality is what programs have in which exceptions of C++ are handled.
const personality = "__gxx_personality_v0"

// unwinder returns the function that has to be told of the module, nil if none
// has to: exceptions of the program's may pass also a module in C.
func (b *binder) unwinder() (*loaded.Symbol, error) {
	must := throws(b.m)
	if !must {
		handled, err := b.lookup(&module.Symbol{Name: personality, Undefined: true, Weak: true})
		if err != nil || handled == nil || b.m.Shared.Frames == 0 {
			return nil, err
		}
	}
	unwinder, err := b.lookup(&module.Symbol{Name: register, Undefined: true, Weak: true})
	if err == nil && unwinder == nil && must {
		err = refuse(finding.UnsupportedTarget, "",
			"the module is C++, and the program's unwinder can't be told of it ("+register+" is not there): an exception that comes to the module would end the program",
			"write the patch in C, or link the program with libgcc_s")
	}
	return unwinder, err
}

// maxConstructors bounds what the code that gates share has room for.
const maxConstructors = 16

// gates puts gates before the functions of a module that exceptions may pass,
// over bridges too, or that has constructors.
func (b *binder) gates() error {
	var calls []call
	unwinder, err := b.unwinder()
	if err != nil {
		return err
	}
	if unwinder != nil && !b.m.Shared.Ended {
		return refuse(finding.UnsupportedBuild, "", "the program's unwinder has to be told of the module's unwind tables, and they have no end: the module was linked without the compiler's own files",
			"link it by gcc -shared or g++ -shared, without -nostdlib or -nostartfiles")
	}
	if unwinder != nil {
		calls = append(calls, call{unwinder.Addr, b.base + b.m.Shared.Frames})
		if b.bridgeFrames != 0 {
			calls = append(calls, call{unwinder.Addr, b.bridgeFrames})
		}
	}
	constructors := b.m.Shared.Constructors
	if len(constructors) > maxConstructors {
		return refuse(finding.InitChanged, b.m.FunctionAt(constructors[0]),
			fmt.Sprintf("the module has %d constructors, more than %d", len(constructors), maxConstructors), "put what they do into fewer")
	}
	for _, c := range constructors {
		calls = append(calls, call{b.base + c, 0})
	}
	if len(calls) == 0 {
		return nil
	}
	start := b.base + b.image.Size
	size := wholePages(gateRoom + gateSize*len(b.image.Functions))
	state := start + size // in a page of its own, which can be written
	pauses := uint32(maxPauses)
	if len(constructors) > 0 {
		pauses = ConstructorPauses
	}
	code := beginning(start, state, calls, pauses, len(constructors) > 0)
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

// maxPauses bounds how long a call waits until the unwinder knows the module: a
// second or so. The thread that tells it may need a lock that the waiting one
// holds, as that of an allocator that is replaced, or may not be there any more,
// in a child that was forked meanwhile.
const maxPauses = 1 << 25

// ConstructorPauses bounds how long a call waits for the module's constructors: a
// minute or so. Then the thread that runs them has gone, as in a child that was
// forked meanwhile, or waits for the caller; this call and all others go on. It is
// read when a module is bound; tests shorten it.
var ConstructorPauses uint32 = 1 << 30

// call is one call of a beginning, with one argument.
type call struct{ function, argument uint64 }

// beginning returns the code that the gates share, at address at: it makes the
// calls, or waits until that is done, and goes on at the address on top of the
// stack, with all registers as they were. The word behind the state's is the
// thread that makes them. Waits end after so many pauses; if once is set, nobody waits after that.
func beginning(at, state uint64, calls []call, pauses uint32, once bool) []byte {
	var code []byte
	add := func(b ...byte) { code = append(code, b...) }
	field := func(target uint64, behind int) { // of an operand relative to %rip
		code = binary.LittleEndian.AppendUint32(code, uint32(target-at-uint64(len(code)+4+behind)))
	}
	thread := state + 8
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
	add(0x64, 0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 0) // mov %fs:0, %rax
	add(0x0F, 0x85)                               // jne wait
	jne := len(code)
	add(0, 0, 0, 0)
	add(0x48, 0x89, 0x05) // mov %rax, thread(%rip)
	field(thread, 0)
	for _, c := range calls {
		add(0x48, 0xBF) // mov $argument, %rdi
		code = binary.LittleEndian.AppendUint64(code, c.argument)
		add(0x31, 0xF6, 0x31, 0xD2) // xor %esi, %esi; xor %edx, %edx
		add(0x48, 0xB8)             // mov $function, %rax
		code = binary.LittleEndian.AppendUint64(code, c.function)
		add(0xFF, 0xD0) // call *%rax
	}
	add(0xC6, 0x05) // movb $open, state(%rip)
	field(state, 1)
	add(open)
	wait := len(code)
	binary.LittleEndian.PutUint32(code[jne:], uint32(wait-jne-4))
	add(0x48, 0x39, 0x05) // cmp %rax, thread(%rip)
	field(thread, 0)
	add(0x74) // je on
	je := len(code)
	add(0)
	add(0xB9) // mov $pauses, %ecx
	code = binary.LittleEndian.AppendUint32(code, pauses)
	again := len(code)
	add(0xF3, 0x90, 0x80, 0x3D) // pause; cmpb $open, state(%rip)
	field(state, 1)
	add(open)
	add(0xE0) // loopne again
	add(byte(again - len(code) - 1))
	if once {
		add(0xC6, 0x05) // movb $open, state(%rip)
		field(state, 1)
		add(open)
	}
	code[je] = byte(len(code) - je - 1)
	vectors(0x10)
	add(0x48, 0x89, 0xEC, 0x5D) // mov %rbp, %rsp; pop %rbp
	add(0x41, 0x5B, 0x41, 0x5A, 0x41, 0x59, 0x41, 0x58, 0x5F, 0x5E, 0x5A, 0x59, 0x58)
	return append(code, 0xC3) // ret, to the function
}
