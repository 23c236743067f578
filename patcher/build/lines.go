package build

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sergi/go-diff/diffmatchpatch"

	"github.com/darn-dev/darn/patcher/module"
)

// changedSources describes the files of the program that the edit changed; what
// is wholly new has no lines from before, what is gone is not there.
func (s *sources) changedSources() []module.Source {
	names := make(map[string]string, len(s.paths))
	for name, path := range s.paths {
		names[path] = name
	}
	var files []module.Source
	seen := map[string]bool{}
	for _, overlay := range []map[string]string{s.was, s.is} {
		for path := range overlay {
			if seen[path] || filepath.Ext(path) != ".go" || names[path] == "" {
				continue
			}
			seen[path] = true
			is, err := s.read(path)
			if err != nil {
				continue
			}
			was, _ := readOverlaid(path, s.was) // none: it is new
			if string(is) == string(was) {
				continue
			}
			sum := sha256.Sum256(is)
			f := module.Source{Path: path, SHA256: hex.EncodeToString(sum[:]), Same: sameLines(string(was), string(is))}
			if s.trimmed {
				f.Path = names[path]
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b module.Source) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// sameLines returns the lines that two texts have in common.
func sameLines(was, is string) (same []module.Same) {
	d := diffmatchpatch.New()
	d.DiffTimeout = 0 // or what it finds depends on how fast the machine is
	old, now, all := d.DiffLinesToChars(was, is)
	oldLine, newLine := 1, 1
	for _, piece := range d.DiffCharsToLines(d.DiffMain(old, now, false), all) {
		n := strings.Count(piece.Text, "\n")
		if piece.Text != "" && !strings.HasSuffix(piece.Text, "\n") {
			n++ // the last line
		}
		switch {
		case n == 0:
		case piece.Type == diffmatchpatch.DiffEqual:
			same = append(same, module.Same{Old: oldLine, New: newLine, Lines: n})
			oldLine, newLine = oldLine+n, newLine+n
		case piece.Type == diffmatchpatch.DiffDelete:
			oldLine += n
		default:
			newLine += n
		}
	}
	return same
}
