package build

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
)

// cFiles are the endings of files that cgo hands to a C compiler, or that these
// include (go/build, Package.CFiles and so on).
var cFiles = map[string]bool{".c": true, ".h": true, ".cc": true, ".cpp": true, ".cxx": true, ".hh": true, ".hpp": true, ".hxx": true, ".m": true, ".f": true, ".F": true, ".for": true, ".f90": true, ".syso": true}

// changedC finds C code of the program that the edit changed. The linker's
// object has none of it, so that no patch brings it.
func (s *sources) changedC() (findings []finding.Finding) {
	var edited []string
	for _, overlay := range []map[string]string{s.was, s.is} {
		edited = slices.AppendSeq(edited, maps.Keys(overlay))
	}
	slices.Sort(edited)
	for _, path := range slices.Compact(edited) {
		for _, name := range slices.Sorted(maps.Keys(s.packages)) {
			l := s.packages[name]
			if l.Dir != filepath.Dir(path) || len(l.CgoFiles) == 0 {
				continue
			}
			old, _ := readOverlaid(path, s.was) // nil where there was none
			now, _ := s.read(path)
			line := 1
			switch {
			case cFiles[filepath.Ext(path)]:
			case slices.Contains(l.CgoFiles, filepath.Base(path)):
				old, _ = preamble(old)
				now, line = preamble(now)
			default:
				continue
			}
			if !bytes.Equal(old, now) {
				findings = append(findings, finding.Finding{Code: finding.UnsupportedBuild, Severity: finding.Warning, Source: fmt.Sprintf("%s:%d", path, line),
					Message: "the C code of package " + name + " changed, and C code is not patched: the program keeps running the old one",
					Advice:  "restart the program with a rebuilt one if that matters"})
			}
			break
		}
	}
	return findings
}

// preamble returns the comments before import "C" in a file, which are C code,
// and the line where they begin.
func preamble(source []byte) (text []byte, line int) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", source, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return nil, 1
	}
	line = 1
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			if x, ok := spec.(*ast.ImportSpec); ok && x.Path.Value == `"C"` && gen.Doc != nil {
				line = fset.Position(gen.Doc.Pos()).Line
				for _, c := range gen.Doc.List {
					text = append(text, c.Text+"\n"...)
				}
			}
		}
	}
	return text, line
}
