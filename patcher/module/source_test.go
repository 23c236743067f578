package module

import "testing"

func TestLinesAreFoundInTheOtherText(t *testing.T) {
	s := &Source{Lines: []Run{{Old: 1, New: 1, N: 3}, {Old: 5, New: 7, N: 2}, {Old: 7, New: 20, N: 1}}}
	for now, old := range map[int]int{0: 0, 1: 1, 3: 3, 4: 0, 6: 0, 7: 5, 8: 6, 9: 0, 19: 0, 20: 7, 21: 0} {
		if got, ok := s.OldLine(now); got != old || ok != (old != 0) {
			t.Errorf("line %d was %d (%t), want %d", now, got, ok, old)
		}
	}
	for old, now := range map[int]int{0: 0, 1: 1, 3: 3, 4: 0, 5: 7, 6: 8, 7: 20, 8: 0} {
		if got, ok := s.NewLine(old); got != now || ok != (now != 0) {
			t.Errorf("line %d is %d (%t), want %d", old, got, ok, now)
		}
	}
}
