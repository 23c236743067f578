package scan

import (
	"os"
	"strconv"
	"unsafe"

	"github.com/darn-dev/darn/patcher/process"
)

const (
	pageSize  = 4096
	scanChunk = 1 << 20 // bytes read at once
)

// Memory calls hit with the address and the value of every word in a
// mapping that lies in the set. Pages that the process never touched are not
// read.
func Memory(p *process.Process, m *process.Mapping, in *Set, hit func(addr, value uint64)) error {
	present := touched(p.Pid(), m)
	buf := make([]byte, min(scanChunk, m.End-m.Start))
	for start := m.Start; start < m.End; start += scanChunk {
		end := min(start+scanChunk, m.End)
		for lo := start; lo < end; {
			if !present(lo) {
				lo += pageSize
				continue
			}
			hi := lo + pageSize
			for hi < end && present(hi) {
				hi += pageSize
			}
			b := buf[:hi-lo]
			if err := p.ReadMemory(b, lo); err != nil {
				return err
			}
			words := Words(b)
			in.Scan(words, func(i int) { hit(lo+8*uint64(i), words[i]) })
			lo = hi
		}
	}
	return nil
}

// touched returns a function that tells of the pages of an anonymous mapping
// whether they hold anything (Linux's admin-guide/mm/pagemap: bit 63 in
// memory, bit 62 swapped out). Where that can't be known it says yes.
func touched(pid int, m *process.Mapping) func(addr uint64) bool {
	always := func(uint64) bool { return true }
	if m.Inode != 0 {
		return always
	}
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/pagemap")
	if err != nil {
		return always
	}
	defer f.Close()
	entries := make([]byte, (m.End-m.Start)/pageSize*8)
	if _, err := f.ReadAt(entries, int64(m.Start/pageSize*8)); err != nil {
		return always
	}
	return func(addr uint64) bool { return entries[(addr-m.Start)/pageSize*8+7]>>6 != 0 }
}

// Words views bytes as words. len(b) must be a multiple of 8; a []byte of
// that length from make is aligned.
func Words(b []byte) []uint64 {
	if len(b) < 8 {
		return nil
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), len(b)/8)
}
