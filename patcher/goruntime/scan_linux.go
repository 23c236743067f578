package goruntime

import (
	"os"
	"strconv"

	"github.com/darn-dev/darn/patcher/process"
)

const (
	pageSize  = 4096
	scanChunk = 1 << 20 // bytes read at once
)

// scanMemory calls hit with the address and the value of every word in a
// mapping that lies in the set. Pages that the process never touched are not
// read.
func (r *Runtime) scanMemory(m *process.Mapping, in *set, hit func(addr, value uint64)) error {
	present := r.touched(m)
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
			if err := r.mem.ReadMemory(b, lo); err != nil {
				return err
			}
			words := asWords(b)
			in.scan(words, func(i int) { hit(lo+8*uint64(i), words[i]) })
			lo = hi
		}
	}
	return nil
}

// touched returns a function that tells of the pages of an anonymous mapping
// whether they hold anything (Linux's admin-guide/mm/pagemap: bit 63 in
// memory, bit 62 swapped out). Where that can't be known it says yes.
func (r *Runtime) touched(m *process.Mapping) func(addr uint64) bool {
	always := func(uint64) bool { return true }
	if m.Inode != 0 {
		return always
	}
	f, err := os.Open("/proc/" + strconv.Itoa(r.pid) + "/pagemap")
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
