// Package source compares the source of a Go package as it was with what it is,
// declaration by declaration. It goes by the words of the source: comments,
// blanks and lines do not count.
package source

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// File is a file of the package. Was or Is is nil where it was or is not part
// of it.
type File struct {
	Path    string // for people, and for what finds a place by it
	Was, Is []byte
}

// Edit is what differs. Names are as in symbols, without the package: F, T.M,
// (*T).M for functions, without type parameters.
type Edit struct {
	// Functions whose declarations differ, are new or are gone, by file and line.
	Functions []Function
	// Values are variables that were there before and whose initial value is
	// another expression now.
	Values []Place
	// Effects are new variables named _ whose initial value calls something.
	Effects []Place
	// Inits are the func init that are new, or that differ from all there were,
	// named init.N as in symbols. GoneInits are those that are no more, but for
	// as many as there are Inits.
	Inits, GoneInits []Place
	// Variables are the new ones.
	Variables []Place

	places    map[string]Place
	endless   map[string]bool
	functions map[string]string // of Is
	values    map[string]string // the same
}

// Place is where something is declared.
type Place struct {
	Name string
	File string
	Line int
}

// String returns file:line.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Function is a function's declaration that differs.
type Function struct {
	Place
	New, Gone bool
}

// Compare compares the files of a package. The error is one of syntax.
func Compare(files []File) (*Edit, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(filepath.Base(a.Path), filepath.Base(b.Path)) })
	was, is := newSide(), newSide()
	for _, f := range files {
		for _, s := range []struct {
			side *side
			text []byte
		}{{was, f.Was}, {is, f.Is}} {
			if s.text != nil {
				if err := s.side.read(f.Path, s.text); err != nil {
					return nil, err
				}
			}
		}
	}
	e := &Edit{places: is.places, endless: was.endless, functions: is.functions, values: is.values}
	for name, text := range is.functions {
		if old, ok := was.functions[name]; !ok || old != text {
			e.Functions = append(e.Functions, Function{Place: is.places[name], New: !ok})
		}
	}
	for name := range was.functions {
		if _, ok := is.functions[name]; !ok {
			e.Functions = append(e.Functions, Function{Place: was.places[name], Gone: true})
		}
	}
	slices.SortFunc(e.Functions, func(a, b Function) int { return a.compare(b.Place) })
	for _, name := range slices.Sorted(maps.Keys(is.values)) {
		switch old, ok := was.values[name]; {
		case !ok:
			e.Variables = append(e.Variables, is.places[name])
		case old != is.values[name]:
			e.Values = append(e.Values, is.places[name])
		}
	}
	slices.SortFunc(e.Values, Place.compare)
	slices.SortFunc(e.Variables, Place.compare)
	e.Effects, _ = surplus(is.blanks, was.blanks)
	e.Effects = slices.DeleteFunc(e.Effects, func(p Place) bool { return !is.calls[p] })
	e.Inits, e.GoneInits = surplus(is.inits, was.inits)
	e.GoneInits = e.GoneInits[min(len(e.Inits), len(e.GoneInits)):]
	return e, nil
}

// Find returns where a function, type or variable of the new source is
// declared; it is empty if nothing has the name.
func (e *Edit) Find(name string) Place { return e.places[name] }

// Mentions tells whether a function of the new source has a word in it.
func (e *Edit) Mentions(function, word string) bool {
	return strings.Contains("\n"+e.functions[function], "\n"+word+"\n")
}

// Initialises tells whether the initial value of a new variable has a word in it.
func (e *Edit) Initialises(word string) bool {
	return slices.ContainsFunc(e.Variables, func(p Place) bool { return strings.Contains("\n"+e.values[p.Name], "\n"+word+"\n") })
}

// Endless tells whether the old function's body was, or ended in, a loop
// without a condition: what is in it may stay for good.
func (e *Edit) Endless(function string) bool { return e.endless[function] }

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.File, q.File), p.Line-q.Line, cmp.Compare(p.Name, q.Name))
}

// side is the source at one time.
type side struct {
	places    map[string]Place  // of all that has a name
	functions map[string]string // their words
	values    map[string]string // of variables
	endless   map[string]bool
	inits     []text
	blanks    []text
	calls     map[Place]bool
}

// text is something without a name.
type text struct {
	Place
	words string
}

func newSide() *side {
	return &side{places: map[string]Place{}, functions: map[string]string{}, values: map[string]string{}, endless: map[string]bool{}, calls: map[Place]bool{}}
}

// surplus returns what only a has, and what only b has, by its words.
func surplus(a, b []text) (onlyA, onlyB []Place) {
	rest := slices.Clone(b)
	for _, x := range a {
		if i := slices.IndexFunc(rest, func(y text) bool { return y.words == x.words }); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
		} else {
			onlyA = append(onlyA, x.Place)
		}
	}
	for _, y := range rest {
		onlyB = append(onlyB, y.Place)
	}
	return onlyA, onlyB
}

// read adds a file's declarations.
func (s *side) read(path string, content []byte) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	place := func(name string, n ast.Node) Place {
		p := Place{name, path, fset.PositionFor(n.Pos(), false).Line}
		if name != "_" {
			s.places[name] = p
		}
		return p
	}
	words := func(n ast.Node) string {
		start := n.Pos()
		if f, ok := n.(*ast.FuncDecl); ok {
			start = f.Type.Func // not its comment
		}
		return words(content[fset.PositionFor(start, false).Offset:fset.PositionFor(n.End(), false).Offset])
	}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			switch name := functionName(d); name {
			case "init":
				s.inits = append(s.inits, text{place(fmt.Sprintf("init.%d", len(s.inits)), d.Type), words(d)})
			default:
				place(name, d.Type)
				s.functions[name] = directives(d.Doc) + words(d)
				s.endless[name] = endless(d.Body)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					place(spec.Name.Name, spec.Name)
				case *ast.ValueSpec:
					s.variables(d, spec, place, words)
				}
			}
		}
	}
	return nil
}

// variables adds the variables of a spec; constants have a place only.
func (s *side) variables(d *ast.GenDecl, spec *ast.ValueSpec, place func(string, ast.Node) Place, words func(ast.Node) string) {
	for i, id := range spec.Names {
		p := place(id.Name, id)
		if d.Tok != token.VAR {
			continue
		}
		value := directives(d.Doc) + directives(spec.Doc)
		var from ast.Expr
		switch len(spec.Values) {
		case 0:
		case len(spec.Names):
			from = spec.Values[i]
			value += words(from)
		default: // a call has them all
			from = spec.Values[0]
			value += fmt.Sprintf("%d of\n%s", i, words(from))
		}
		if id.Name == "_" {
			s.blanks = append(s.blanks, text{p, value})
			s.calls[p] = from != nil && calls(from)
			continue
		}
		s.values[id.Name] = value
	}
}

// functionName is the name that the function's symbol has after the package.
func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t, pointer := ast.Unparen(d.Recv.List[0].Type), false
	if star, ok := t.(*ast.StarExpr); ok {
		t, pointer = ast.Unparen(star.X), true
	}
	switch x := t.(type) {
	case *ast.IndexExpr:
		t = x.X
	case *ast.IndexListExpr:
		t = x.X
	}
	name := "?"
	if id, ok := t.(*ast.Ident); ok {
		name = id.Name
	}
	if pointer {
		name = "(*" + name + ")"
	}
	return name + "." + d.Name.Name
}

// endless tells whether a body ends in a loop without a condition.
func endless(body *ast.BlockStmt) bool {
	if body == nil || len(body.List) == 0 {
		return false
	}
	last := body.List[len(body.List)-1]
	if labeled, ok := last.(*ast.LabeledStmt); ok {
		last = labeled.Stmt
	}
	loop, ok := last.(*ast.ForStmt)
	return ok && loop.Cond == nil
}

// calls tells whether evaluating an expression calls a function or receives,
// as far as its syntax tells: a conversion to a named type counts too.
func calls(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.UnaryExpr:
			found = found || n.Op == token.ARROW
		case *ast.CallExpr:
			switch f := n.Fun.(type) {
			case *ast.Ident:
				found = found || f.Name != "new" && f.Name != "make" && f.Name != "len"
			case *ast.SelectorExpr, *ast.IndexExpr, *ast.IndexListExpr, *ast.FuncLit, *ast.CallExpr:
				found = true
			}
		}
		return true
	})
	return found
}

// directives returns what a comment tells the compiler.
func directives(doc *ast.CommentGroup) string {
	var b strings.Builder
	if doc != nil {
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:") {
				b.WriteString(c.Text + "\n")
			}
		}
	}
	return b.String()
}

// words returns the tokens of a piece of source, one a line, without the
// semicolons and commas that lines have at their end.
func words(text []byte) string {
	fset := token.NewFileSet()
	var s scanner.Scanner
	s.Init(fset.AddFile("", -1, len(text)), text, nil, 0)
	var b strings.Builder
	for separator := ""; ; {
		_, tok, lit := s.Scan()
		switch tok {
		case token.EOF:
			return b.String()
		case token.SEMICOLON, token.COMMA:
			b.WriteString(separator)
			separator = tok.String() + "\n"
			continue
		case token.RBRACE, token.RPAREN, token.RBRACK:
			separator = ""
		}
		if lit == "" {
			lit = tok.String()
		}
		b.WriteString(separator + lit + "\n")
		separator = ""
	}
}
