package redirect

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

const (
	// StubSize is the length of a stub in bytes.
	StubSize = 21
	// MarkedStubSize is the length of a MarkedStub in bytes.
	MarkedStubSize = 38
	// StubAlign is what the address of a stub must be a multiple of.
	StubAlign = 8
	// StubNextSize is the length of the instruction that ends a stub of either
	// kind and leads on when the switch is off. It lies in one aligned word, so
	// that one store repoints a stub that threads run through.
	StubNextSize = 5

	int3 = 0xCC
)

// nop is as long as the jump that it takes the place of.
var nop = []byte{0x0F, 0x1F, 0x44, 0, 0}

// Stub returns the StubSize bytes of a stub to be placed at address at:
//
//	cmpb $0, sw(%rip)
//	jne  newCode
//	nop                    // so that the next instruction lies in one word
//	jmp  next
//
// sw is the address of the patch's switch; next is the thunk of the old
// function or the stub of the patch below on the same function. Where next lies
// right behind the stub the last instruction is a nop: a jump less, which costs
// what a jump costs. Only the flags are changed, which are dead at a function's
// entry in the Go ABIs and the System V ABI. Refused with out-of-range if an
// address is more than 2 GiB away.
func Stub(at, sw, newCode, next uint64) ([]byte, error) {
	a := assembler{at: at}
	a.cmpZero("the switch", sw)
	a.branch([]byte{0x0F, 0x85}, "the new code", newCode)
	a.add(0x0F, 0x1F, 0)
	a.next(next)
	return a.bytes()
}

// MarkedStub returns the MarkedStubSize bytes of a stub that leads also those
// goroutines to the new code whose labels are those that are pointed to by the
// word at address mark:
//
//	cmpb $0, sw(%rip)
//	jne  newCode
//	mov  labels(%r14), %r13
//	cmp  mark(%rip), %r13
//	je   newCode
//	jmp  next
//
// labels is the offset of runtime.g.labels. It is for functions of ABIInternal,
// at whose entry %r14 is the goroutine and %r13 dead. Otherwise it is as Stub.
func MarkedStub(at, sw, newCode, next, labels, mark uint64) ([]byte, error) {
	a := assembler{at: at}
	a.cmpZero("the switch", sw)
	a.branch([]byte{0x0F, 0x85}, "the new code", newCode)
	a.add(0x4D, 0x8B, 0xAE)
	a.code = binary.LittleEndian.AppendUint32(a.code, uint32(labels))
	a.branch([]byte{0x4C, 0x3B, 0x2D}, "the mark", mark)
	a.branch([]byte{0x0F, 0x84}, "the new code", newCode)
	a.next(next)
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

// next adds the instruction that ends a stub.
func (a *assembler) next(to uint64) {
	code, err := StubNext(a.at+uint64(len(a.code)), to)
	if a.err == nil {
		a.err = err
	}
	a.add(code...)
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

// StubNext returns the StubNextSize bytes to store at address at, which is
// StubNextSize before the end of a stub, so that it goes on to next when its
// switch is off. Refused with out-of-range if next is more than 2 GiB away.
func StubNext(at, next uint64) ([]byte, error) {
	if next == at+StubNextSize {
		return bytes.Clone(nop), nil
	}
	disp, err := rel32("the code below", at+StubNextSize, next)
	return append([]byte{0xE9}, disp...), err
}

// jmp32 returns `jmp to` for the address at.
func jmp32(at, to uint64) ([]byte, error) {
	disp, err := rel32("the target of the jump", at+JumpSize, to)
	if err != nil {
		return nil, err
	}
	return append([]byte{0xE9}, disp...), nil
}

// JumpTarget returns where the jump leads that stands in b at an address, as Jump
// makes them; ok is false if there is none.
func JumpTarget(at uint64, b []byte) (to uint64, ok bool) {
	if len(b) < JumpSize || b[0] != 0xE9 {
		return 0, false
	}
	return at + JumpSize + uint64(int64(int32(binary.LittleEndian.Uint32(b[1:])))), true
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
