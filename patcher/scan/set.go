// Package scan finds addresses among very many words: on stacks and in all the
// memory that a process can write.
package scan

import (
	"cmp"
	"slices"
	"sort"

	"github.com/darn-dev/darn/patcher/link"
)

// Set is a set of addresses, made to be asked for very many words.
type Set struct {
	lo, n  uint64 // the bounds: from lo, n addresses
	ranges []link.Range
}

// NewSet makes a set of ranges, which may overlap.
func NewSet(ranges []link.Range) *Set {
	s := &Set{}
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b link.Range) int { return cmp.Compare(a.Start, b.Start) })
	for _, r := range sorted {
		if r.Start >= r.End {
			continue
		}
		if last := len(s.ranges) - 1; last >= 0 && r.Start <= s.ranges[last].End {
			s.ranges[last].End = max(s.ranges[last].End, r.End)
			continue
		}
		s.ranges = append(s.ranges, r)
	}
	if len(s.ranges) > 0 {
		s.lo = s.ranges[0].Start
		s.n = s.ranges[len(s.ranges)-1].End - s.lo
	}
	return s
}

// Holds tells whether addr is in the set.
func (s *Set) Holds(addr uint64) bool {
	if addr-s.lo >= s.n {
		return false
	}
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].End > addr })
	return i < len(s.ranges) && addr >= s.ranges[i].Start
}

// Scan calls hit with the index of every word that is in the set.
func (s *Set) Scan(words []uint64, hit func(i int)) {
	lo, n := s.lo, s.n
	for i, w := range words {
		if w-lo < n && s.Holds(w) {
			hit(i)
		}
	}
}
