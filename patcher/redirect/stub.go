package redirect

import (
	"encoding/binary"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

const (
	// StubSize is the length of a stub in bytes.
	StubSize = 24
	// MarkedStubSize is the length of a MarkedStub in bytes.
	MarkedStubSize = 38
	// StubAlign is what the address of a stub must be a multiple of.
	StubAlign = 8
	// StubNextOffset is where, from the start of a stub of either kind, the
	// rel32 of its `jmp next` is. It is 4-byte aligned, so that one store
	// repoints a stub that threads run through.
	StubNextOffset = 20

	stubNextEnd = StubNextOffset + 4 // end of `jmp next`
	int3        = 0xCC
)

// Stub returns the StubSize bytes of a stub to be placed at address at:
//
//	cmpb $0, sw(%rip)
//	jne  newCode
//	nop                    // so that the next field is aligned
//	jmp  next
//
// sw is the address of the patch's switch; next is the thunk of the old
// function or the stub of the patch below on the same function. Only the
// flags are changed, which are dead at a function's entry in the Go ABIs and
// the System V ABI. Refused with out-of-range if an address is more than
// 2 GiB away.
func Stub(at, sw, newCode, next uint64) ([]byte, error) {
	a := assembler{at: at}
	a.cmpZero("the switch", sw)
	a.branch([]byte{0x0F, 0x85}, "the new code", newCode)
	a.add(0x66, 0x0F, 0x1F, 0x44, 0, 0)
	a.branch([]byte{0xE9}, "the code below", next)
	return a.bytes()
}

// MarkedStub returns the MarkedStubSize bytes of a stub that leads also those
// goroutines to the new code whose labels are those that are pointed to by the
// word at address mark:
//
//	     cmpb $0, sw(%rip)
//	     jne  new
//	     mov  labels(%r14), %r13
//	     jmp  test
//	     nop
//	next: jmp  next
//	test: cmp  mark(%rip), %r13
//	     jne  next
//	new: jmp  newCode
//
// labels is the offset of runtime.g.labels. It is for functions of ABIInternal,
// at whose entry %r14 is the goroutine and %r13 dead. Otherwise it is as Stub.
func MarkedStub(at, sw, newCode, next, labels, mark uint64) ([]byte, error) {
	a := assembler{at: at}
	a.cmpZero("the switch", sw)
	a.add(0x75, 24)
	a.add(0x4D, 0x8B, 0xAE)
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(labels))
	a.add(0xEB, 6, 0x90)
	a.branch([]byte{0xE9}, "the code below", next)
	a.branch([]byte{0x4C, 0x3B, 0x2D}, "the mark", mark)
	a.add(0x75, 0xF2)
	a.branch([]byte{0xE9}, "the new code", newCode)
	return a.bytes()
}

// assembler collects the code of a stub at an address.
type assembler struct {
	at   uint64
	code []byte
	err  error
}

func (a *assembler) add(code ...byte) { a.code = append(a.code, code...) }

// branch adds an instruction that ends with a rel32 to to.
func (a *assembler) branch(op []byte, what string, to uint64) {
	a.relative(op, what, to, 0)
}

// cmpZero adds cmpb $0, addr(%rip).
func (a *assembler) cmpZero(what string, addr uint64) {
	a.relative([]byte{0x80, 0x3D}, what, addr, 1)
	a.add(0)
}

// relative adds an opcode and a rel32 to to, of an instruction that has more
// bytes behind that.
func (a *assembler) relative(op []byte, what string, to, more uint64) {
	a.add(op...)
	disp, err := rel32(what, a.at+uint64(len(a.code))+4+more, to)
	if err != nil {
		disp = make([]byte, 4)
	}
	if a.err == nil {
		a.err = err
	}
	a.add(disp...)
}

func (a *assembler) bytes() ([]byte, error) {
	if a.at%StubAlign != 0 {
		return nil, fmt.Errorf("redirect: stub at %#x is not aligned to %d bytes", a.at, StubAlign)
	}
	return a.code, a.err
}

// StubNext returns the 4 bytes to store at at+StubNextOffset, so that the stub
// at address at goes on to next when its switch is off. Refused with
// out-of-range if next is more than 2 GiB away.
func StubNext(at, next uint64) ([]byte, error) {
	return rel32("the code below", at+stubNextEnd, next)
}

// jmp32 returns `jmp to` for the address at.
func jmp32(at, to uint64) ([]byte, error) {
	disp, err := rel32("the target of the jump", at+JumpSize, to)
	if err != nil {
		return nil, err
	}
	return append([]byte{0xE9}, disp...), nil
}

// rel32 returns the field that leads from the end of its instruction to to.
func rel32(what string, end, to uint64) ([]byte, error) {
	d := int64(to - end)
	if d != int64(int32(d)) {
		return nil, finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("%s at %#x is more than 2 GiB away from %#x, so no 32-bit jump reaches it", what, to, end),
			"load the patch into an arena within 2 GiB of the target's text")
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(int32(d))), nil
}
