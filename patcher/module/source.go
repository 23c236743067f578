package module

import (
	"cmp"
	"slices"
)

// Source is a file of source that the edit changed, with which lines of the old
// and the new text are each other's: by that a debugger tells where a line of the
// file stands in code that was compiled before.
type Source struct {
	Path   string `json:"path"`            // as the compiler names it, and so the debugging information
	SHA256 string `json:"sha256"`          // of the new text, hex
	Lines  []Run  `json:"lines,omitempty"` // in order, not overlapping
}

// Run is a run of lines of the old text that are the same in the new one, or in
// whose place others came there.
type Run struct {
	Old int `json:"old"` // the number of the first in the old text, from 1
	New int `json:"new"` // and in the new one
	N   int `json:"n"`   // how many
}

// OldLine returns the number that a line of the new text had in the old one; ok
// is false for a line that is new.
func (s *Source) OldLine(line int) (old int, ok bool) {
	return s.other(line, func(x Run) (from, to int) { return x.New, x.Old })
}

// NewLine returns the number that a line of the old text has in the new one; ok
// is false for a line that is gone.
func (s *Source) NewLine(line int) (now int, ok bool) {
	return s.other(line, func(x Run) (from, to int) { return x.Old, x.New })
}

// other returns the number of a line in the other text; sides tells where a run
// begins in the line's own and in that.
func (s *Source) other(line int, sides func(Run) (from, to int)) (int, bool) {
	i, ok := slices.BinarySearchFunc(s.Lines, line, func(x Run, line int) int {
		from, _ := sides(x)
		if line >= from && line < from+x.N {
			return 0
		}
		return cmp.Compare(from, line)
	})
	if !ok {
		return 0, false
	}
	from, to := sides(s.Lines[i])
	return line - from + to, true
}

// ordered tells whether Lines is as it must be.
func (s *Source) ordered() bool {
	const most = 1 << 30 // lines
	old, now := 1, 1
	for _, x := range s.Lines {
		if x.N < 1 || x.N > most || x.Old < old || x.New < now || x.Old > most || x.New > most {
			return false
		}
		old, now = x.Old+x.N, x.New+x.N
	}
	return true
}
