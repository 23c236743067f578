package meter

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slot is what one thread of the program writes; the programs have the same.
type slot struct {
	beats   atomic.Int64 // how many gaps it has measured
	longest atomic.Int64 // ns
	_       [48]byte     // a cache line of its own
}

// mapSlots makes f as large as n slots and maps them.
func mapSlots(f *os.File, n int) ([]slot, error) {
	size := n * int(unsafe.Sizeof(slot{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	p, err := unix.MmapPtr(int(f.Fd()), 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*slot)(p), n), nil
}

// unmapSlots takes back what mapSlots gave; fails for nothing else.
func unmapSlots(slots []slot) {
	_ = unix.MunmapPtr(unsafe.Pointer(&slots[0]), uintptr(len(slots))*unsafe.Sizeof(slot{}))
}
