package build

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/emit"
	"github.com/darn-dev/darn/patcher/build/object"
)

// initialValue is an expression that gives variables their initial values.
type initialValue struct {
	pkg, name string // the package's import path as in symbols, and name
	file      string
	left      []string // the variables; _ for those that have none
	text      string   // the expression
	source    string   // file:line of its beginning, as //line has it
}

// function returns a function that sets the variables. Its lines are those of
// the expression: a panic in it shows where it is in the source.
func (v initialValue) function(name string) string {
	return fmt.Sprintf("//line %s\nfunc %s() { %s = %s }\n", v.source, name, strings.Join(v.left, ", "), v.text)
}

// initialValues returns the initial values of the variables that need asks for,
// in each package in the order in which Go computes them (language
// specification, "Package initialization").
func (b *builder) initialValues(ctx context.Context, need *emit.InitNeeded, scratch string) ([]initialValue, error) {
	wanted := map[string]bool{}
	packages := map[string]bool{}
	for _, name := range need.Variables {
		wanted[name] = true
		packages[object.PackageOf(name)] = true
	}
	if len(packages) == 0 {
		return nil, nil
	}
	all, err := b.program.list(ctx, b.program.overlay, scratch, true)
	if err != nil {
		return nil, err
	}
	var values []initialValue
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		t, err := b.typeCheck(all, pkg)
		if err != nil {
			return nil, cannotInitialise(need, "what they need first is not known: "+err.Error())
		}
		for _, order := range t.info.InitOrder {
			v := initialValue{pkg: pkg, name: t.pkg.Name()}
			found := false
			for _, left := range order.Lhs {
				name := "_"
				if wanted[symbolOf(pkg, left.Name())] {
					name, found = left.Name(), true
				}
				v.left = append(v.left, name)
			}
			if !found {
				continue
			}
			start, end := t.fset.PositionFor(order.Rhs.Pos(), false), t.fset.PositionFor(order.Rhs.End(), false)
			content, err := b.sources.read(start.Filename)
			if err != nil {
				return nil, err
			}
			at := t.fset.Position(order.Rhs.Pos())
			v.file, v.text, v.source = start.Filename, string(content[start.Offset:end.Offset]), fmt.Sprintf("%s:%d", at.Filename, at.Line)
			values = append(values, v)
		}
	}
	return values, nil
}

// checked is a package with its types.
type checked struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	info  *types.Info
}

// typeCheck checks a package of the new source. all are the program's packages
// with their export data.
func (b *builder) typeCheck(all map[string]*listed, pkg string) (*checked, error) {
	l := all[pkg]
	if l == nil {
		return nil, fmt.Errorf("the go command does not list the package %s", pkg)
	}
	t := &checked{fset: token.NewFileSet(), info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{}, Instances: map[*ast.Ident]types.Instance{},
	}}
	for _, path := range l.files() {
		content, err := b.sources.read(path)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(t.fset, path, content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		t.files = append(t.files, f)
	}
	exported := importer.ForCompiler(t.fset, "gc", func(path string) (io.ReadCloser, error) {
		dep := all[path]
		if dep == nil || dep.Export == "" {
			return nil, fmt.Errorf("the package %s has no export data", path)
		}
		return os.Open(dep.Export)
	})
	var errs []error
	conf := types.Config{
		FakeImportC: true, Sizes: types.SizesFor("gc", "amd64"),
		Error: func(err error) { errs = append(errs, err) },
		Importer: importerFunc(func(path string) (*types.Package, error) {
			if to, ok := l.ImportMap[path]; ok {
				path, _, _ = strings.Cut(to, " ")
			}
			return exported.Import(path)
		}),
	}
	t.pkg, _ = conf.Check(pkg, t.fset, t.files, t.info)
	return t, errors.Join(errs...)
}

type importerFunc func(path string) (*types.Package, error)

func (f importerFunc) Import(path string) (*types.Package, error) { return f(path) }
