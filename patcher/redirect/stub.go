package redirect

import (
	"encoding/binary"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

const (
	// StubSize is the length of a stub in bytes.
	StubSize = 24
	// StubAlign is what the address of a stub must be a multiple of.
	StubAlign = 8
	// StubNextOffset is where, from the start of a stub, the rel32 of its
	// `jmp next` is. It is 4-byte aligned, so that one store repoints a stub
	// that threads run through.
	StubNextOffset = 16

	stubNewEnd  = 13                 // end of `jne newCode`
	stubNextEnd = StubNextOffset + 4 // end of `jmp next`
	int3        = 0xCC
)

// Stub returns the StubSize bytes of a stub to be placed at address at:
//
//	cmpb $0, sw(%rip)
//	jne  newCode
//	xchg %ax, %ax          // so that the next field is aligned
//	jmp  next
//
// sw is the address of the patch's switch; next is the thunk of the old
// function or the stub of the patch below on the same function. Only the
// flags are changed, which are dead at a function's entry in the Go ABIs and
// the System V ABI. Refused with out-of-range if an address is more than
// 2 GiB away.
func Stub(at, sw, newCode, next uint64) ([]byte, error) {
	if at%StubAlign != 0 {
		return nil, fmt.Errorf("redirect: stub at %#x is not aligned to %d bytes", at, StubAlign)
	}
	b := make([]byte, 0, StubSize)
	disp, err := rel32("the switch", at+7, sw)
	if err != nil {
		return nil, err
	}
	b = append(b, 0x80, 0x3D)
	b = append(append(b, disp...), 0)
	if disp, err = rel32("the new code", at+stubNewEnd, newCode); err != nil {
		return nil, err
	}
	b = append(append(b, 0x0F, 0x85), disp...)
	if disp, err = StubNext(at, next); err != nil {
		return nil, err
	}
	b = append(append(b, 0x66, 0x90, 0xE9), disp...)
	for len(b) < StubSize {
		b = append(b, int3)
	}
	return b, nil
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
