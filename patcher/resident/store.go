package resident

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/process"
)

const wordSize = 8

// ErrStore says that what was to be stored is not in one aligned word, or that
// something else was there than expected: nothing was stored.
var ErrStore = errors.New("it can't be stored by one instruction")

// Store changes old to new, of the same length, at an address of memory that the
// target has mapped privately, by one atomic instruction in the target: no thread
// ever sees or runs a part of it. It is in effect for all of them when Store
// returns. All that differs must be in one aligned word of eight bytes, or it
// fails with ErrStore, as it does if anything but old is there: a debugger's
// breakpoint too.
//
// The mapping is made writable for the instant: /proc/PID/mem writes to it as it
// is, but nobody promises that the kernel copies eight bytes at once. It stays
// executable, as threads run in it; so it is both, for as long as it takes to
// make one store. It is the whole mapping, since the kernel accounts for one that
// was writable once, and would keep a single page of it apart for ever.
func (r *Resident) Store(addr uint64, old, new []byte) error {
	word, err := r.wordFor(addr, old, new)
	if err != nil {
		return err
	}
	changed := slices.Clone(word.now)
	for i, b := range new {
		if at := addr + uint64(i) - word.addr; at < wordSize {
			changed[at] = b
		}
	}
	m, err := r.mapping(word.addr)
	if err != nil {
		return err
	}
	prot := uint64(protection(m.Perms))
	requests := []request{
		{number: unix.SYS_MPROTECT, args: [6]uint64{m.Start, m.End - m.Start, prot | unix.PROT_WRITE}},
		{flags: exchange, args: [6]uint64{word.addr, binary.LittleEndian.Uint64(word.now), binary.LittleEndian.Uint64(changed)}},
		{number: unix.SYS_MPROTECT, flags: always, args: [6]uint64{m.Start, m.End - m.Start, prot}},
		{number: unix.SYS_MEMBARRIER, args: [6]uint64{syncCore}},
	}
	if prot&unix.PROT_WRITE != 0 {
		requests = slices.Delete(requests, 2, 3)[1:]
	}
	if err := r.ask(requests); err != nil {
		return err
	}
	for _, q := range requests {
		err := q.err()
		if err == nil {
			continue
		}
		if q.flags == exchange && err == unix.EAGAIN {
			return fmt.Errorf("%w: something has changed at %#x meanwhile", ErrStore, addr)
		}
		return fmt.Errorf("storing at %#x in process %d: %w", addr, r.p.Pid(), err)
	}
	return nil
}

// word is eight aligned bytes of the target.
type word struct {
	addr uint64
	now  []byte
}

// wordFor reads the word in which the change is to be made.
func (r *Resident) wordFor(addr uint64, old, new []byte) (*word, error) {
	if len(old) != len(new) {
		return nil, fmt.Errorf("storing %d bytes over %d at %#x", len(new), len(old), addr)
	}
	now := make([]byte, len(old))
	if err := r.p.ReadMemory(now, addr); err != nil {
		return nil, err
	}
	if !bytes.Equal(now, old) {
		return nil, fmt.Errorf("%w: at %#x stand the bytes % x, not % x", ErrStore, addr, now, old)
	}
	w := &word{addr: addr &^ (wordSize - 1), now: make([]byte, wordSize)}
	first := true
	for i := range old {
		at := (addr + uint64(i)) &^ (wordSize - 1)
		if old[i] == new[i] {
			continue
		}
		if first {
			w.addr, first = at, false
		}
		if at != w.addr {
			return nil, fmt.Errorf("%w: the bytes at %#x that change are not in one word", ErrStore, addr)
		}
	}
	if err := r.p.ReadMemory(w.now, w.addr); err != nil {
		return nil, err
	}
	// What was compared above is what the exchange has to find.
	for i, b := range old {
		if at := addr + uint64(i) - w.addr; at < wordSize {
			w.now[at] = b
		}
	}
	return w, nil
}

// mapping returns what is mapped at an address. It has to be private: a store
// into shared memory would be seen elsewhere.
func (r *Resident) mapping(addr uint64) (process.Mapping, error) {
	maps, err := r.p.Maps()
	if err != nil {
		return process.Mapping{}, err
	}
	for _, m := range maps {
		if m.Start <= addr && addr < m.End && m.Perms[3] == 'p' && m.Perms[0] == 'r' {
			return m, nil
		}
	}
	return process.Mapping{}, fmt.Errorf("%w: no private memory is at %#x", ErrStore, addr)
}

func protection(perms string) int {
	prot := 0
	for i, bit := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if perms[i] == "rwx"[i] {
			prot |= bit
		}
	}
	return prot
}
