package redirect

import "encoding/binary"

// FarJumpSize is the most bytes a FarJump takes, wherever it is.
const FarJumpSize = 24

// FarJumpTo returns where the address is that a FarJump at address at leads to:
// eight bytes, aligned, so that one store changes it.
func FarJumpTo(at uint64) uint64 { return (at + 6 + wordSize - 1) &^ (wordSize - 1) }

// FarJump returns the code of a jump to any address, that runs at address at:
//
//	jmp *to(%rip)
//	int3...
//	to: .quad to
func FarJump(at, to uint64) []byte {
	code := []byte{0xFF, 0x25}
	gap := FarJumpTo(at) - at - 6
	code = binary.LittleEndian.AppendUint32(code, uint32(gap))
	for range gap {
		code = append(code, int3)
	}
	return binary.LittleEndian.AppendUint64(code, to)
}
