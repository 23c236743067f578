package object

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
)

// declarations finds where types and variables are declared, which DWARF does
// not say. Files are parsed when the first finding needs them.
type declarations struct {
	c     *comparer
	lines map[string]string // symbol name -> file:line
	read  map[string]bool   // packages
}

// find returns file:line of a package-level type or variable of new, "" if it
// is not known.
func (d *declarations) find(name string) string {
	pkg := PackageOf(name)
	if !d.read[pkg] {
		if d.read == nil {
			d.read, d.lines = map[string]bool{}, map[string]string{}
		}
		d.read[pkg] = true
		for _, file := range d.c.debug[1].files[pkg] {
			if strings.HasSuffix(file, ".go") {
				d.parse(pkg, file)
			}
		}
	}
	return d.lines[pkg+"."+bareName(name)]
}

// parse notes the declarations of a file. A file that can't be read leaves its
// findings without a line.
func (d *declarations) parse(pkg, file string) {
	readSource := d.c.opt.ReadSource
	if readSource == nil {
		readSource = os.ReadFile
	}
	src, err := readSource(file)
	if err != nil {
		return
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return
	}
	note := func(id *ast.Ident) {
		d.lines[pkg+"."+id.Name] = fmt.Sprintf("%s:%d", file, fset.PositionFor(id.Pos(), false).Line)
	}
	for _, decl := range f.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				note(s.Name)
			case *ast.ValueSpec:
				for _, id := range s.Names {
					note(id)
				}
			}
		}
	}
}
