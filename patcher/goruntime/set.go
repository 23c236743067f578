package goruntime

import (
	"cmp"
	"slices"
	"sort"
)

// set is a set of addresses, made to be asked for very many words.
type set struct {
	lo, n  uint64 // the bounds: from lo, n addresses
	ranges []Range
}

// newSet makes a set of ranges, which may overlap.
func newSet(ranges []Range) *set {
	s := &set{}
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
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

// holds tells whether addr is in the set.
func (s *set) holds(addr uint64) bool {
	if addr-s.lo >= s.n {
		return false
	}
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].End > addr })
	return i < len(s.ranges) && addr >= s.ranges[i].Start
}

// scan calls hit with the index of every word that is in the set.
func (s *set) scan(words []uint64, hit func(i int)) {
	lo, n := s.lo, s.n
	for i, w := range words {
		if w-lo < n && s.holds(w) {
			hit(i)
		}
	}
}
