package emit

import (
	"slices"
	"sort"
)

// segment is one of the three segments of a module.
type segment int

const (
	segText segment = iota
	segRodata
	segData
	segments
)

// piece is a run of bytes of the module.
type piece struct {
	lo   uint64 // where it comes from: an address in the new object's space, or a fresh one
	size uint64
	data []byte // nil: zeros
	addr uint64 // in the module
	// pointers tells that a fresh piece of data is pointers to what the program
	// makes. The collector is told of others in the new object.
	pointers bool
}

// fresh addresses, of pieces that are in no object, begin here.
const freshStart = 1 << 48

// alignment is what every piece keeps of its address: nothing in a Go program
// is aligned to more (functions by PCALIGN, operands of vector instructions).
const alignment = 64

// pieces are sorted by lo and do not overlap.
type pieces []*piece

// at returns the piece that holds the address, or that ends there and no other
// begins there.
func (ps pieces) at(lo uint64) *piece {
	i := sort.Search(len(ps), func(i int) bool { return ps[i].lo > lo }) - 1
	if i < 0 || lo-ps[i].lo > ps[i].size {
		return nil
	}
	return ps[i]
}

// span is a run of addresses in the new object's space.
type span struct{ lo, hi uint64 }

// merge sorts spans and joins those that touch.
func merge(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int {
		if a.lo != b.lo {
			if a.lo < b.lo {
				return -1
			}
			return 1
		}
		return 0
	})
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// place gives pieces their addresses from at on and returns the first address
// behind them.
func place(ps []*piece, at uint64) uint64 {
	for _, p := range ps {
		at += (p.lo - at) % alignment
		p.addr = at
		at += p.size
	}
	return at
}
