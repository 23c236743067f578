package arena

import (
	"sync/atomic"
	"unsafe"
)

// Go has no atomic store of a byte. On amd64 any store of one is atomic; what
// the language must be kept from is to leave it out or put it elsewhere. So the
// word around it is exchanged as a whole: only Darn writes this page, under the
// arena's lock, and the target sees one store. Bytes in one word change at the
// same instant.

// wordSize is how many bytes one store can change.
const wordSize = 8

// storeByte stores b at p.
func storeByte(p *byte, b byte) {
	word, shift := wordAround(p)
	word.Store(word.Load()&^(0xff<<shift) | uint64(b)<<shift)
}

// storeWord stores, into the aligned word that begins at p, those bytes of bits
// that mask has.
func storeWord(p *byte, mask, bits uint64) {
	word, _ := wordAround(p)
	word.Store(word.Load()&^mask | bits)
}

// loadByte loads the byte at p.
func loadByte(p *byte) byte {
	word, shift := wordAround(p)
	return byte(word.Load() >> shift)
}

func wordAround(p *byte) (word *atomic.Uint64, shift uint) {
	offset := uintptr(unsafe.Pointer(p)) % wordSize
	return (*atomic.Uint64)(unsafe.Add(unsafe.Pointer(p), -int(offset))), uint(offset) * 8
}
