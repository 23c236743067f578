package module

import (
	"cmp"
	"slices"
)

// Source is a file of source that the edit changed, with what it left as it
// was: by that a debugger tells where a line of the file stands in code that was
// compiled before.
type Source struct {
	Path   string `json:"path"`           // as the compiler names it, and so the debugging information
	SHA256 string `json:"sha256"`         // of the new text, hex
	Same   []Same `json:"same,omitempty"` // in order, not overlapping
}

// Same are lines that the old and the new text of a file have in common.
type Same struct {
	Old   int `json:"old"` // the number of the first in the old text, from 1
	New   int `json:"new"` // and in the new one
	Lines int `json:"n"`   // how many
}

// OldLine returns the number that a line of the new text had in the old one; ok
// is false for a line that is new or changed.
func (s *Source) OldLine(line int) (old int, ok bool) {
	i, ok := slices.BinarySearchFunc(s.Same, line, func(x Same, line int) int {
		if line >= x.New && line < x.New+x.Lines {
			return 0
		}
		return cmp.Compare(x.New, line)
	})
	if !ok {
		return 0, false
	}
	return line - s.Same[i].New + s.Same[i].Old, true
}

// NewLine returns the number that a line of the old text has in the new one; ok
// is false for a line that is gone or changed.
func (s *Source) NewLine(line int) (now int, ok bool) {
	i, ok := slices.BinarySearchFunc(s.Same, line, func(x Same, line int) int {
		if line >= x.Old && line < x.Old+x.Lines {
			return 0
		}
		return cmp.Compare(x.Old, line)
	})
	if !ok {
		return 0, false
	}
	return line - s.Same[i].Old + s.Same[i].New, true
}

// ordered tells whether Same is as it must be.
func (s *Source) ordered() bool {
	const most = 1 << 30 // lines
	old, now := 1, 1
	for _, x := range s.Same {
		if x.Lines < 1 || x.Lines > most || x.Old < old || x.New < now || x.Old > most || x.New > most {
			return false
		}
		old, now = x.Old+x.Lines, x.New+x.Lines
	}
	return true
}
