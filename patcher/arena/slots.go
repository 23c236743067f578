package arena

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/fault"
)

// slots keep the registry: two copies, written alternately. A slot is
//
//	sequence  8 bytes, 0 in a slot that was never written
//	length    4 bytes, of the data
//	checksum  4 bytes, CRC-32C of the above and the data
//	data
//
// The one with the greater sequence of those that are whole is valid. A write
// that is cut off at any byte damages only the other one.
type slots [2][]byte

const slotHeader = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum of a slot that holds data.
func checksum(header, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(header[:12], castagnoli), castagnoli, data)
}

// read returns the content of slot i, if it's whole. The data is a copy: the
// target's owner can change the memory at any time, also after the check.
func (s slots) read(i int) (sequence uint64, data []byte, ok bool) {
	slot := s[i]
	var header [slotHeader]byte
	copy(header[:], slot)
	sequence = binary.LittleEndian.Uint64(header[:])
	length := uint64(binary.LittleEndian.Uint32(header[8:]))
	if sequence == 0 || length > uint64(len(slot)-slotHeader) {
		return 0, nil, false
	}
	data = append(make([]byte, 0, length), slot[slotHeader:slotHeader+length]...)
	return sequence, data, binary.LittleEndian.Uint32(header[12:]) == checksum(header[:], data)
}

// newest returns the valid slot; ok is false if there is none.
func (s slots) newest() (i int, sequence uint64, data []byte, ok bool) {
	for n := range s {
		if seq, d, whole := s.read(n); whole && (!ok || seq > sequence) {
			i, sequence, data, ok = n, seq, d, true
		}
	}
	return i, sequence, data, ok
}

// save writes data by the store function, which copies.
func (s slots) save(data []byte, store func(to, from []byte)) error {
	if len(data) > len(s[0])-slotHeader {
		return fmt.Errorf("a registry of %d bytes is too long, %d is the most", len(data), len(s[0])-slotHeader)
	}
	i, sequence, _, ok := s.newest()
	if ok {
		i = 1 - i
	}
	var header [slotHeader]byte
	binary.LittleEndian.PutUint64(header[:], sequence+1)
	binary.LittleEndian.PutUint32(header[8:], uint32(len(data)))
	binary.LittleEndian.PutUint32(header[12:], checksum(header[:], data))
	fault.Point()
	store(s[i][slotHeader:], data)
	fault.Point()
	store(s[i], header[:])
	fault.Point()
	return nil
}

// load returns the data saved last, nil if there never was any.
func (s slots) load() ([]byte, error) {
	_, _, data, ok := s.newest()
	if ok {
		return data, nil
	}
	for _, slot := range s {
		for _, b := range slot[:slotHeader] {
			if b != 0 {
				return nil, finding.Refuse(finding.UnsupportedTarget, "the registry in the target's arena is damaged",
					"something else writes into this process; restart it to patch it")
			}
		}
	}
	return nil, nil
}
