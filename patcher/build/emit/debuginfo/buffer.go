package debuginfo

import "encoding/binary"

// buffer reads a section from a place on. Reading past the end sets bad and
// gives zeros.
type buffer struct {
	data []byte
	at   int
	bad  bool
}

// buf returns a buffer of data[at:end].
func buf(data []byte, at, end int) *buffer {
	if at < 0 || end > len(data) || at > end {
		return &buffer{bad: true}
	}
	return &buffer{data: data[:end], at: at}
}

// bytes returns the next n bytes.
func (b *buffer) bytes(n uint64) []byte {
	if b.bad || n > uint64(len(b.data)-b.at) {
		b.bad = true
		return nil
	}
	d := b.data[b.at : b.at+int(n) : b.at+int(n)]
	b.at += int(n)
	return d
}

// uint reads n bytes, at most 8, as a number.
func (b *buffer) uint(n int) uint64 {
	var v [8]byte
	copy(v[:], b.bytes(uint64(n)))
	return binary.LittleEndian.Uint64(v[:])
}

// uleb reads an unsigned LEB128 number; bits above 64 are lost.
func (b *buffer) uleb() (v uint64) {
	for shift := 0; ; shift += 7 {
		c := b.uint(1)
		if shift < 64 {
			v |= c & 0x7f << shift
		}
		if c < 0x80 {
			return v
		}
	}
}

// text reads a string and the zero after it.
func (b *buffer) text() string {
	for i := b.at; !b.bad && i < len(b.data); i++ {
		if b.data[i] == 0 {
			s := string(b.data[b.at:i])
			b.at = i + 1
			return s
		}
	}
	b.bad = true
	return ""
}

// left tells whether there is more to read.
func (b *buffer) left() bool { return !b.bad && b.at < len(b.data) }
