package redirect

import "strings"

// The general registers that have a meaning at a function's entry.
const (
	regSP  = 4
	regBP  = 5
	regR12 = 12 // where Go computes the lower end of a large frame
	regR14 = 14 // g, the goroutine, in Go's ABIInternal
)

// ends reports whether execution never goes on to the instruction after it.
func (in *inst) ends() bool {
	if in.extended || in.space != oneByte {
		return false
	}
	switch in.op {
	case 0xC2, 0xC3, 0xE9, 0xEB: // ret, jmp
		return true
	case 0xFF: // jmp through a register or memory
		return in.reg() == 4
	}
	return false
}

// immovable says why the instruction must not run at another address, or
// returns "". It may move if it cannot fault (a Go fault has to happen at an
// address that the runtime knows, to become a panic, unless mayFault), leaves no address of
// its own behind, and means the same elsewhere once its pc-relative field is
// corrected.
func (in *inst) immovable(mayFault bool) string {
	switch k := in.branch(); {
	case k == Call, in.indirectCall():
		return "is a call, whose return address has to be the old one"
	case k != 0 && in.op == 0xC7, k != 0 && in.op >= 0xE0 && in.op <= 0xE3:
		return "is a branch that cannot be made to reach far"
	case k != 0 && (in.data16 || in.addr32 || in.lock):
		return "is a branch with an unusual prefix"
	case in.lock:
		return "is an atomic operation"
	case !in.known():
		return "may trap or depend on where it runs"
	case !mayFault && in.faulty():
		return "accesses memory that may not be there, and the fault has to happen at its own address"
	}
	return ""
}

func (in *inst) indirectCall() bool {
	return !in.extended && in.space == oneByte && in.op == 0xFF && in.reg() == 2
}

// faulty reports whether the access to the memory operand may fault. It
// can't in memory that the function's caller, the loader or the thread vouch
// for: the stack, what the image has at a fixed distance, thread-local
// variables, and the g in Go's check of the stack's bound.
func (in *inst) faulty() bool {
	switch {
	case !in.memory(), in.isLea(), in.hint():
		return false
	case in.addr32:
		return true
	case in.ripRelative():
		return in.seg == 0x64 || in.seg == 0x65
	case in.seg == 0x64 && in.base() < 0 && !in.indexed():
		return false
	case in.seg == 0x64 || in.seg == 0x65 || in.indexed():
		return true
	}
	return in.base() != regSP && in.base() != regBP && !in.stackCheck()
}

// hint reports whether the instruction is one of the prefetches and nops that
// have a memory operand but never access it.
func (in *inst) hint() bool {
	return !in.extended && in.space == map0F && (in.op == 0x0D || in.op >= 0x18 && in.op <= 0x1F)
}

// stackCheck reports whether the instruction is the one that Go's stack check
// compares with: cmp 16(%r14), %rsp or %r12, or for functions on the system
// stack 24(%r14) (cmd/internal/obj/x86.(*stacksplit), runtime.g.stackguard0
// and 1).
func (in *inst) stackCheck() bool {
	reg := in.reg() | in.rex&rexR<<1
	return !in.extended && in.space == oneByte && in.op == 0x3B && in.rex&rexW != 0 &&
		(reg == regSP || reg == regR12) && in.base() == regR14 && in.dispLen == 1
}

// opcodeSet is one bit an opcode.
type opcodeSet [4]uint64

func (s *opcodeSet) has(op byte) bool { return s[op>>6]>>(op&63)&1 != 0 }

// opcodes parses ranges of opcodes in hexadecimal: "00-05 63".
func opcodes(ranges string) (s opcodeSet) {
	digit := func(c byte) int { return strings.IndexByte("0123456789ABCDEF", c) }
	at := func(i int) int { return digit(ranges[i])<<4 | digit(ranges[i+1]) }
	for i := 0; i < len(ranges); i++ {
		lo := at(i)
		hi := lo
		if i += 2; i < len(ranges) && ranges[i] == '-' {
			hi = at(i + 1)
			i += 3
		}
		for op := lo; op <= hi; op++ {
			s[op>>6] |= 1 << (op & 63)
		}
	}
	return s
}

// The opcodes that neither trap, enter the kernel nor depend on where they
// run, whatever their operands are (a memory operand is judged apart).
// Deliberately short: what is not here costs a redirect its thunk, no more.
var (
	knownOneByte = opcodes("00-05 08-0D 10-15 18-1D 20-25 28-2D 30-35 38-3D " + // arithmetic
		"50-5F 63 68-6B 70-7F 80 81 83 84-8B 8D 90-99 9C 9E 9F A8 A9 B0-BF " + // push, pop, jcc, mov, test, xchg
		"C0-C3 C6 C7 D0-D3 D8-DF E9 EB F5-F9 FC-FF") // shifts, ret, jmp, flags, groups
	known0F = opcodes("0D 10-1F 28-2F 40-4F 50-77 7C-7F 80-9F A3-A5 AB-AD AF " +
		"B3 B6-B8 BA-BF C2-C6 C8-CF D0-F6 F8-FE")
	known0F38 = opcodes("00-41 C8-CD DB-DF F0 F1 F6")
	// VEX and EVEX: all but the loads of control state (AE), stores through
	// %rdi (F7), gathers and scatters.
	knownVector0F   = opcodes("10-17 28-2F 41-4B 50-77 7C-7F 90-99 C2 C4-C6 D0-F6 F8-FE")
	knownVector0F38 = opcodes("00-48 4C-5A 62-8F 96-9F A6-C4 C8-FF")
)

// known reports whether the instruction is one of those that do nothing but
// compute, move, or branch.
func (in *inst) known() bool {
	if in.extended {
		switch in.space {
		case map0F:
			return knownVector0F.has(in.op)
		case map0F38:
			return knownVector0F38.has(in.op)
		}
		return in.space == map0F3A
	}
	switch in.space {
	case map0F:
		return known0F.has(in.op)
	case map0F38:
		return known0F38.has(in.op)
	case map0F3A:
		return true
	}
	switch in.op {
	case 0x8F, 0xC6, 0xC7: // pop, mov
		return in.reg() == 0
	case 0xF6, 0xF7: // all of the group but div and idiv
		return in.reg() < 6
	case 0xFE: // inc, dec
		return in.reg() < 2
	case 0xFF: // inc, dec, jmp, push
		return in.reg() < 2 || in.reg() == 4 || in.reg() == 6
	}
	return knownOneByte.has(in.op)
}
