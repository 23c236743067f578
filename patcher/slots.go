package patcher

import (
	"cmp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/redirect"
)

// block is a run of memory in the arena that outlives single patches.
type block struct {
	Addr uint64 `json:"addr"`
	Size uint64 `json:"size"`
	// Home is where in the arena its memory is, if Addr is outside of it.
	Home uint64 `json:"home,omitempty"`
}

// span is the block's addresses.
func (b block) span() goruntime.Range { return goruntime.Range{Start: b.Addr, End: b.Addr + b.Size} }

const (
	// slotSize holds a stub with its thunk, and keeps stubs aligned.
	slotSize = 128
	// blockSize has room for the stubs and thunks of 512 functions.
	blockSize = 64 << 10
)

// slot is the wish for a free slot, whose address goes to to. half is which
// half of 256 bytes it must be, or anyHalf.
type slot struct {
	to   *uint64
	half int
}

const anyHalf = -1

// slotOf returns the address of the slot that addr is in.
func slotOf(addr uint64) uint64 { return addr &^ (slotSize - 1) }

// taken is what of the blocks of code is in use.
type taken struct {
	stubs map[uint64]bool              // by slot
	pads  map[uint64][]goruntime.Range // of redirects; by each slot that they are in
}

// takenNow returns what is in use.
func (t *transition) takenNow() *taken {
	u := &taken{map[uint64]bool{}, map[uint64][]goruntime.Range{}}
	for _, p := range t.reg.Patches {
		for _, f := range p.Functions {
			switch {
			case f.Stub != 0:
				u.stubs[slotOf(f.Stub)] = true
			case f.Pad != 0:
				u.addPad(f.Pad)
			}
		}
	}
	for _, d := range t.reg.Redirects {
		if d.Pad != 0 {
			u.addPad(d.Pad)
		}
	}
	return u
}

func (u *taken) addPad(pad uint64) {
	r := padRange(pad)
	for at := slotOf(r.Start); at < r.End; at += slotSize {
		u.pads[at] = append(u.pads[at], r)
	}
}

// padRange is what the pad of a redirect takes.
func padRange(at uint64) goruntime.Range {
	return goruntime.Range{Start: at, End: at + redirect.FarJumpSize}
}

// holds tells whether anything is in a range.
func (u *taken) holds(r goruntime.Range) bool {
	for at := slotOf(r.Start); at < r.End; at += slotSize {
		if u.stubs[at] || slices.ContainsFunc(u.pads[at], func(x goruntime.Range) bool { return x.Start < r.End && r.Start < x.End }) {
			return true
		}
	}
	return false
}

// mostOutposts is how many blocks there may be outside of the arena. Each is a
// mapping of its own in the target.
const mostOutposts = 128

// takeStub returns a slot that has to begin in a window, and takePad a place for the
// pad of a redirect, in the arena or outside of it, and the piece that has to be
// mapped for it, if there is none yet. It is 0 if there is no room.
func (t *transition) takeStub(w redirect.Window) (stub uint64, pieces []piece) {
	if stub, pieces = t.takeIn(w, slotSize); stub != 0 {
		t.used.stubs[stub] = true
	}
	return stub, pieces
}

func (t *transition) takePad(w redirect.Window) (pad uint64, pieces []piece) {
	if pad, pieces = t.takeIn(w, redirect.FarJumpSize); pad != 0 {
		t.used.addPad(pad)
	}
	return pad, pieces
}

func (t *transition) takeIn(w redirect.Window, size uint64) (at uint64, pieces []piece) {
	if t.used == nil {
		t.used = t.takenNow()
	}
	used, outposts := t.used, 0
	for _, b := range t.reg.Blocks {
		if at = used.within(b, w, size); at != 0 {
			return at, nil
		}
		if b.Home != 0 {
			outposts++
		}
	}
	for _, wish := range around(w) {
		b := block{Size: wish.size}
		addr, err := t.e.arena.AllocIn(wish.Range, b.Size)
		if err != nil && outposts < mostOutposts {
			addr, b.Home, err = t.e.arena.AllocOutside(wish.Range, b.Size)
		}
		if err != nil {
			continue
		}
		b.Addr = addr
		t.onUndo(func() error { t.e.arena.Free(addr, b.Size); return nil })
		if at = used.within(b, w, size); at == 0 {
			continue // it goes with the transition
		}
		t.reg.Blocks = append(t.reg.Blocks, b)
		return at, []piece{{addr: b.Addr, size: b.Size, prot: unix.PROT_READ | unix.PROT_EXEC}}
	}
	return 0, nil
}

// place is where a block of a size in bytes may be.
type place struct {
	arena.Range
	size uint64
}

// around returns where a block with room for a pad in a window may be, the best
// first. Where there is little choice it is around the window: the pads of
// functions that are near are near each other, and find room in it.
func around(w redirect.Window) []place {
	const page = 4096
	pages := func(size uint64) arena.Range {
		return arena.Range{Start: w.Start &^ (size - 1), End: (w.End - 1 + redirect.FarJumpSize + size - 1) &^ (size - 1)}
	}
	if w.End-w.Start >= page {
		return []place{{pages(page), blockSize}, {pages(page), page}}
	}
	near, least := pages(blockSize), pages(page)
	return []place{{near, near.End - near.Start}, {least, least.End - least.Start}}
}

// within returns a place of so many bytes in a window and a block, 0 if there is none.
func (u *taken) within(b block, w redirect.Window, size uint64) uint64 {
	// Where there is room it is a slot of its own, and shares no line of the cache
	// with another one.
	step := uint64(slotSize)
	switch n := w.End - w.Start; {
	case n < slotSize:
		step = 1
	case n < blockSize:
		step = size
	}
	at := max(b.Addr, w.Start)
	if step == slotSize {
		at = (at + slotSize - 1) &^ (slotSize - 1)
	}
	for ; at < w.End && at+size <= b.Addr+b.Size; at += step {
		if !u.holds(goruntime.Range{Start: at, End: at + size}) {
			return at
		}
	}
	return 0
}

// takeSlots gives each of want a free slot in a block of code. If the blocks
// that there are have too few it adds one, returned as a piece to be mapped.
func (t *transition) takeSlots(want []slot) ([]piece, error) {
	used := t.takenNow()
	take := func(b block) {
		for at := b.Addr; at < b.Addr+b.Size; at += slotSize {
			i := slices.IndexFunc(want, func(s slot) bool { return s.half == anyHalf || s.half == int(at/slotSize%2) })
			if i >= 0 && !used.holds(slotRange(at)) {
				*want[i].to = at
				want = slices.Delete(want, i, i+1)
			}
		}
	}
	for _, b := range t.reg.Blocks {
		if b.Home == 0 { // others may be too far from the switches
			take(b)
		}
	}
	if len(want) == 0 {
		return nil, nil
	}
	// Twice as many as wanted have enough of each half.
	b, err := t.addBlock(uint64(len(want)) * slotSize * 2)
	if err != nil {
		return nil, err
	}
	take(b)
	t.reg.Blocks = append(t.reg.Blocks, b)
	return []piece{{addr: b.Addr, size: b.Size, prot: unix.PROT_READ | unix.PROT_EXEC}}, nil
}

// takeData returns an allocator of memory that the runtime keeps its lists
// in: what of the blocks of data the ledger does not name, and was not given
// away by this transition, is free. What it has to map it adds to pieces.
func (t *transition) takeData(pieces *[]piece) goruntime.Alloc {
	l := &t.reg.Runtime
	used := append([]goruntime.Block{l.List, l.Table}, l.Retired...)
	slices.SortFunc(used, func(a, b goruntime.Block) int { return cmp.Compare(a.Addr, b.Addr) })
	give := func(addr, size uint64) uint64 {
		b := goruntime.Block{Addr: addr, Size: size}
		i, _ := slices.BinarySearchFunc(used, addr, func(x goruntime.Block, addr uint64) int { return cmp.Compare(x.Addr, addr) })
		used = slices.Insert(used, i, b)
		t.data = append(t.data, b)
		return addr
	}
	return func(size uint64) (uint64, error) {
		for _, b := range t.reg.Data {
			at := b.Addr
			for _, u := range used {
				if u.Addr < at+size && at < u.Addr+u.Size {
					at = (u.Addr + u.Size + 7) &^ 7
				}
			}
			if at+size <= b.Addr+b.Size {
				return give(at, size), nil
			}
		}
		b, err := t.addBlock(size)
		if err != nil {
			return 0, err
		}
		t.reg.Data = append(t.reg.Data, b)
		*pieces = append(*pieces, piece{addr: b.Addr, size: b.Size, prot: unix.PROT_READ | unix.PROT_WRITE})
		return give(b.Addr, size), nil
	}
}

// addBlock sets aside a block of at least size bytes.
func (t *transition) addBlock(size uint64) (block, error) {
	size = (size + blockSize - 1) / blockSize * blockSize
	addr, err := t.e.arena.Alloc(size, 0)
	if err != nil {
		return block{}, err
	}
	t.onUndo(func() error { t.e.arena.Free(addr, size); return nil })
	return block{Addr: addr, Size: size}, nil
}
