package goruntime

import (
	"encoding/binary"
	"fmt"
)

// The target's words are ours: both are little-endian x86-64.
var le = binary.LittleEndian

// word reads 8 bytes.
func (r *Runtime) word(addr uint64) (uint64, error) {
	var b [8]byte
	err := r.mem.ReadMemory(b[:], addr)
	return le.Uint64(b[:]), err
}

// word32 reads 4 bytes.
func (r *Runtime) word32(addr uint64) (uint32, error) {
	var b [4]byte
	err := r.mem.ReadMemory(b[:], addr)
	return le.Uint32(b[:]), err
}

// maxSlice bounds what a length in the target may make this process allocate,
// in bytes.
const maxSlice = 1 << 30

// words reads n words.
func (r *Runtime) words(addr, n uint64) ([]uint64, error) {
	if n > maxSlice/8 {
		return nil, fmt.Errorf("the runtime has a list of %d words at %#x: that can't be", n, addr)
	}
	b := make([]byte, 8*n)
	if err := r.mem.ReadMemory(b, addr); err != nil {
		return nil, err
	}
	w := make([]uint64, n)
	for i := range w {
		w[i] = le.Uint64(b[8*i:])
	}
	return w, nil
}

// slice reads the words of the slice whose header is at addr.
func (r *Runtime) slice(addr uint64) ([]uint64, error) {
	header, err := r.words(addr, 2)
	if err != nil {
		return nil, err
	}
	return r.words(header[0], header[1])
}

// bytesOf returns words as they stand in memory.
func bytesOf(words ...uint64) []byte {
	b := make([]byte, 0, 8*len(words))
	for _, w := range words {
		b = le.AppendUint64(b, w)
	}
	return b
}
