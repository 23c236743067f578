package redirect

import "encoding/binary"

// FarJumpTo is where in a FarJump the address is that it leads to: eight bytes, so
// that one store changes it if the jump is aligned to eight.
const FarJumpTo = 8

// FarJump returns the code of a jump to any address, that runs at any:
//
//	jmp *2(%rip)
//	int3; int3
//	.quad to
func FarJump(to uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0xFF, 0x25, 2, 0, 0, 0, int3, int3}, to)
}
