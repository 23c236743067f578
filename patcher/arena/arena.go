// Package arena is the memory Darn owns in a target: one reservation near the
// text, backed by a memfd that Darn maps too, so that it is filled without a
// system call in the target, and while it runs.
//
// The memfd is named darn and is as long as the reservation; what is at offset
// n of it belongs at Base+n. Nothing of the reservation is accessible but the
// pieces that were mapped. The first pages of it:
//
//	switches  one byte each; shared and read-only in the target, so that a
//	          switch is set in it and its forked children by one store of Darn's
//	header    magic, version, size; not accessible in the target
//	seat      two pages for a helper thread in the target: one by which Darn
//	          talks to it, one for its code; see Seat
//	registry  two slots; not accessible in the target
//
// The file is sealed: it can't shrink under Darn's mapping. What is in it may
// still be anybody's: a reader trusts none of it.
package arena

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/fault"
	"github.com/darn-dev/darn/patcher/process"
)

// ErrNone is returned by Open for a process that has no arena.
var ErrNone = errors.New("the process has no arena")

// Range is a range of addresses in the target.
type Range struct{ Start, End uint64 }

const pageSize = 4096

// The layout of the memfd, in bytes from its start.
const (
	switchesAt   = 0
	switchesSize = pageSize // and as many switches
	headerAt     = switchesAt + switchesSize
	controlAt    = headerAt + pageSize // of the seat
	codeAt       = controlAt + pageSize
	registryAt   = codeAt + pageSize
	slotSize     = 16 << 20 // of the registry; sparse
	poolAt       = registryAt + 2*slotSize
)

// Arena is Darn's memory in a target. Its methods may be called from several
// goroutines.
type Arena struct {
	p    *process.Process // nil under Peek
	pid  int
	base uint64
	size uint64

	mu       sync.Mutex
	fd       uint64                    // the target's descriptor of the memfd
	file     int                       // Darn's own; -1 while there is none
	id       fileID                    // of the memfd
	mem      []byte                    // Darn's mapping of all of it; nil while there is none
	switches [switchesSize / 64]uint64 // set bits are taken
	taken    []Range                   // of the pool, sorted, not adjacent to be merged
	outposts []Outpost
}

// Base returns the lowest address.
func (a *Arena) Base() uint64 { return a.base }

// Size returns the size in bytes of address space. Memory is used only by what
// was written.
func (a *Arena) Size() uint64 { return a.size }

// Close gives up Darn's own mapping and descriptor; in the target everything
// stays as it is. The Arena can't be used afterwards.
func (a *Arena) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.close()
}

func (a *Arena) close() error {
	var err error
	if a.mem != nil {
		err = unix.Munmap(a.mem)
		a.mem = nil
	}
	if a.file >= 0 {
		err = errors.Join(err, unix.Close(a.file))
		a.file = -1
	}
	return err
}

// errClosed is returned after Close and Release, and before Reserve.
var errClosed = errors.New("the arena is not mapped")

// Alloc sets aside size bytes, rounded up to pages, zeroed and not accessible in
// the target yet, and returns their address, which is not below above. It's
// refused with out-of-range if there is no such room left.
func (a *Arena) Alloc(size, above uint64) (addr uint64, err error) {
	return a.AllocIn(Range{Start: above, End: a.base + a.size}, size)
}

// AllocIn is Alloc within a range of addresses.
func (a *Arena) AllocIn(within Range, size uint64) (addr uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if size = roundUp(size); size == 0 || size > a.size {
		return 0, a.full(size)
	}
	addr = max(a.base+poolAt, roundUp(within.Start))
	for _, r := range a.taken {
		if r.End <= addr {
			continue
		}
		if r.Start >= addr && r.Start-addr >= size {
			break
		}
		addr = r.End
	}
	if end := min(a.base+a.size, within.End); addr > end || end-addr < size {
		return 0, a.full(size)
	}
	if a.mem != nil {
		// A Darn that was killed may have left something there.
		if err := a.punch(addr, size); err != nil {
			return 0, err
		}
	}
	a.take(Range{Start: addr, End: addr + size})
	return addr, nil
}

func (a *Arena) full(size uint64) error {
	return finding.Refuse(finding.OutOfRange,
		fmt.Sprintf("the arena of %d MiB near the program's text has no %d KiB left in one piece", a.size>>20, size>>10),
		"unload patches that are no longer needed")
}

// Claim sets aside a range that an earlier Darn had from Alloc: after Open
// nothing is set aside. It's an error if the range is outside the arena or set
// aside already.
func (a *Arena) Claim(addr, size uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	size = roundUp(size)
	if addr%pageSize != 0 || addr < a.base+poolAt || size == 0 || size > a.size || addr-a.base > a.size-size {
		return fmt.Errorf("[%#x, +%#x) is no range of the arena at %#x", addr, size, a.base)
	}
	for _, r := range a.taken {
		if addr < r.End && r.Start < addr+size {
			return fmt.Errorf("[%#x, +%#x) overlaps [%#x, %#x) of the arena", addr, size, r.Start, r.End)
		}
	}
	a.take(Range{Start: addr, End: addr + size})
	return nil
}

func (a *Arena) take(r Range) {
	i, _ := slices.BinarySearchFunc(a.taken, r, func(x, y Range) int {
		if x.Start < y.Start {
			return -1
		}
		return 1
	})
	a.taken = slices.Insert(a.taken, i, r)
}

// Free gives back a whole range from Alloc or AllocOutside; it must not be
// accessible in the target any more.
func (a *Arena) Free(addr, size uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.IndexFunc(a.outposts, func(o Outpost) bool { return o.Addr == addr }); i >= 0 {
		addr = a.outposts[i].Home
		a.outposts = slices.Delete(a.outposts, i, i+1)
	}
	r := Range{Start: addr, End: addr + roundUp(size)}
	a.taken = slices.DeleteFunc(a.taken, func(x Range) bool { return x == r })
}

// View returns Darn's own window on [addr, addr+n), after Reserve or Open, in
// either state of the target. It must not be used after Close or Release. What
// is written to it is in the target at once, but for pages that the target (or
// a tracer) has written privately. A range that's not inside the arena's pool
// is a mistake of the caller's, and panics.
func (a *Arena) View(addr, n uint64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil || addr < a.base+poolAt || n > a.size || addr-a.base > a.size-n {
		panic(fmt.Sprintf("arena: view of [%#x, +%#x), of an arena at %#x with %#x bytes mapped", addr, n, a.base, len(a.mem)))
	}
	at := addr - a.base
	return a.mem[at : at+n : at+n]
}

// allocated tells whether a page-aligned range lies inside one that was set
// aside.
func (a *Arena) allocated(addr, n uint64) bool {
	for _, r := range a.taken {
		if addr >= r.Start && addr < r.End && n <= r.End-addr {
			return addr%pageSize == 0 && n%pageSize == 0 && n > 0
		}
	}
	return false
}

// punch gives the memory of a range back; it reads as zeros then.
func (a *Arena) punch(addr, n uint64) error {
	return unix.Fallocate(a.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(addr-a.base), int64(n))
}

func roundUp(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// NewSwitch sets a switch aside, which is off, and returns its address in the
// target. It's refused with out-of-range if all are in use.
func (a *Arena) NewSwitch() (addr uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, word := range a.switches {
		if free := bits.TrailingZeros64(^word); free < 64 {
			a.switches[i] |= 1 << free
			n := i*64 + free
			if a.mem != nil {
				storeByte(&a.mem[switchesAt+n], 0)
			}
			return a.base + switchesAt + uint64(n), nil
		}
	}
	return 0, finding.Refuse(finding.OutOfRange, fmt.Sprintf("all %d switches are in use", switchesSize), "unload patches that are no longer needed")
}

// ClaimSwitch sets aside a switch that an earlier Darn had from NewSwitch,
// leaving it on or off.
func (a *Arena) ClaimSwitch(addr uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := a.switchAt(addr)
	if err != nil {
		return err
	}
	a.switches[n/64] |= 1 << (n % 64)
	return nil
}

// FreeSwitch gives a switch back. No code may read it any more.
func (a *Arena) FreeSwitch(addr uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n, err := a.switchAt(addr); err == nil {
		a.switches[n/64] &^= 1 << (n % 64)
	}
}

// Position is a switch and the position that it has or is to have.
type Position struct {
	Switch uint64 `json:"switch"` // its address in the target
	On     bool   `json:"on"`
}

// SetSwitches sets switches, in either state of the target, by one atomic store
// for each word that they are in: all the target's threads and forked children
// see what is in one word change at the same instant, and not in parts.
func (a *Arena) SetSwitches(positions ...Position) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var words []int
	masks, bits := map[int]uint64{}, map[int]uint64{}
	for _, p := range positions {
		n, err := a.switchAt(p.Switch)
		if err != nil {
			return err
		}
		word, shift := n/wordSize, n%wordSize*8
		if masks[word] == 0 {
			words = append(words, word)
		}
		masks[word] |= 0xff << shift
		if p.On {
			bits[word] |= 1 << shift
		}
	}
	if a.mem == nil {
		return errClosed
	}
	for _, word := range words {
		storeWord(&a.mem[switchesAt+word*wordSize], masks[word], bits[word])
		fault.Point()
	}
	return nil
}

// Together tells whether SetSwitches sets all of these by one store. NewSwitch
// takes the lowest that is free, so that few patches have theirs in one word.
func (a *Arena) Together(positions ...Position) bool {
	for _, p := range positions {
		if p.Switch/wordSize != positions[0].Switch/wordSize {
			return false
		}
	}
	return true
}

// Switch tells whether a switch is on.
func (a *Arena) Switch(addr uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := a.switchAt(addr)
	return err == nil && a.mem != nil && loadByte(&a.mem[switchesAt+n]) != 0
}

// switchAt returns the number of the switch at an address.
func (a *Arena) switchAt(addr uint64) (int, error) {
	if n := addr - a.base - switchesAt; addr >= a.base && n < switchesSize {
		return int(n), nil
	}
	return 0, fmt.Errorf("%#x is no switch of the arena at %#x", addr, a.base)
}

// Save stores the registry; a Darn that is killed meanwhile leaves the one
// before. It's an error if state has more than about 16 MiB.
func (a *Arena) Save(state []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil {
		return errClosed
	}
	return a.slots().save(state, func(to, from []byte) { copy(to, from) })
}

// Load returns what was saved last, nil if nothing ever was. It's refused with
// unsupported-target if both slots are damaged.
func (a *Arena) Load() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil {
		return nil, errClosed
	}
	return a.slots().load()
}

func (a *Arena) slots() slots {
	return slots{a.mem[registryAt:][:slotSize], a.mem[registryAt+slotSize:][:slotSize]}
}
