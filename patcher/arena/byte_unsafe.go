package arena

import (
	"sync/atomic"
	"unsafe"
)

// Go has no atomic store of a byte. On amd64 any store of one is atomic; what
// the language must be kept from is to leave it out or put it elsewhere. So the
// word around it is exchanged as a whole: only Darn writes this page, under the
// arena's lock, and the target sees one store.

// storeByte stores b at p.
func storeByte(p *byte, b byte) {
	word, shift := wordAround(p)
	v := word.Load()
	word.Store(v&^(0xff<<shift) | uint32(b)<<shift)
}

// loadByte loads the byte at p.
func loadByte(p *byte) byte {
	word, shift := wordAround(p)
	return byte(word.Load() >> shift)
}

func wordAround(p *byte) (word *atomic.Uint32, shift uint) {
	offset := uintptr(unsafe.Pointer(p)) % 4
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(p), -int(offset))), uint(offset) * 8
}
