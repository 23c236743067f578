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
// is wholly new has no lines from before, and what is gone is not there.
func (s *sources) changedSources() []module.Source { return Sources(s.changedFiles()) }

// Sources describes files that an edit changed, for a module's manifest.
func Sources(files []ChangedFile) (sources []module.Source) {
	for _, c := range files {
		sum := sha256.Sum256(c.Is)
		sources = append(sources, module.Source{Path: c.Name, SHA256: hex.EncodeToString(sum[:]), Lines: pairLines(string(c.Was), string(c.Is))})
	}
	return sources
}

// ChangedFile is a file of the program that the edit changed. Was is nil if it is
// new.
type ChangedFile struct {
	Name    string // as the compiler names it
	Was, Is []byte
}

// changedFiles returns the files that the edit changed, by name; what is gone is
// not among them.
func (s *sources) changedFiles() []ChangedFile {
	names := make(map[string]string, len(s.paths))
	for name, path := range s.paths {
		names[path] = name
	}
	var files []ChangedFile
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
			f := ChangedFile{path, was, is}
			if s.trimmed {
				f.Name = names[path]
			}
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b ChangedFile) int { return strings.Compare(a.Name, b.Name) })
	return files
}

// pairLines returns which lines of two texts are each other's: those that they
// have in common, and where some were replaced, as many as there are on both
// sides.
func pairLines(was, is string) (runs []module.Run) {
	d := diffmatchpatch.New()
	d.DiffTimeout = 0 // or what it finds depends on how fast the machine is
	old, now, all := d.DiffLinesToChars(was, is)
	oldLine, newLine, gone, come := 1, 1, 0, 0
	pair := func(n int) {
		switch last := len(runs) - 1; {
		case n == 0:
			return
		case last >= 0 && runs[last].Old+runs[last].N == oldLine && runs[last].New+runs[last].N == newLine:
			runs[last].N += n
		default:
			runs = append(runs, module.Run{Old: oldLine, New: newLine, N: n})
		}
		oldLine, newLine = oldLine+n, newLine+n
	}
	replaced := func() {
		n := min(gone, come)
		pair(n)
		oldLine, newLine, gone, come = oldLine+gone-n, newLine+come-n, 0, 0
	}
	for _, piece := range d.DiffCharsToLines(d.DiffMain(old, now, false), all) {
		n := strings.Count(piece.Text, "\n")
		if piece.Text != "" && !strings.HasSuffix(piece.Text, "\n") {
			n++ // the last line
		}
		switch piece.Type {
		case diffmatchpatch.DiffEqual:
			replaced()
			pair(n)
		case diffmatchpatch.DiffDelete:
			gone += n
		case diffmatchpatch.DiffInsert:
			come += n
		}
	}
	replaced()
	return runs
}
