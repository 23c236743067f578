package build

import (
	"context"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/emit"
	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// leftOutWords begin what is said of a function that is left out.
const leftOutWords = "left out of the patch, the program keeps its old code: "

// leftOut is what a partial build leaves out: declared functions, by their
// symbols without type arguments, and why.
type leftOut map[string]finding.Finding

// declared returns the key in leftOut of a function's symbol. Closures go with
// the function that they are in.
func declared(symbol string) string {
	return symbolOf(object.PackageOf(symbol), object.SourceName(symbol))
}

// leaveOut decides what of the diff is left out, before the first module of a
// partial build: what depends on a type, a variable or an initialisation that
// refuses the edit.
func (b *builder) leaveOut(ctx context.Context) error {
	b.left = leftOut{}
	refused := slices.DeleteFunc(slices.Clone(b.diff.Findings), func(f finding.Finding) bool { return f.Severity != finding.Error })
	if len(refused) == 0 {
		return nil
	}
	b.stage("finding out what depends on what is refused")
	d, err := b.dependents(ctx, refused)
	if err != nil {
		return err
	}
	for _, c := range b.diff.Changed {
		if cause, found := d.reaches(c.New); found {
			b.left[declared(b.newObject.Symbols[c.New].Name)] = cause
		}
	}
	return nil
}

// withoutLeftOut takes what is left out from the diff, with findings that say so.
func (b *builder) withoutLeftOut() {
	for i := range b.diff.Findings {
		if f := &b.diff.Findings[i]; f.Severity == finding.Error {
			f.Severity = finding.Warning
			f.Message += "; what depends on it is left out of the patch"
		}
	}
	closures := map[string][]string{} // that change, by the function that they are in
	for _, c := range b.diff.Changed {
		name := b.newObject.Symbols[c.New].Name
		if key := declared(name); strings.HasPrefix(name, key+".") {
			closures[key] = append(closures[key], name)
		}
	}
	b.diff.Changed = slices.DeleteFunc(b.diff.Changed, func(c object.Change) bool {
		key := declared(b.newObject.Symbols[c.New].Name)
		cause, left := b.left[key]
		if _, said := b.places[key]; left && !said {
			b.places[key] = b.sourceOf(c.New)
			f := finding.Finding{Code: cause.Code, Severity: finding.Warning, Function: key, Source: b.places[key],
				Message: leftOutWords + cause.Message, Advice: cause.Advice}
			if in := closures[key]; len(in) > 0 {
				f.Message += "; with it what changes in it: " + strings.Join(in, ", ")
			}
			b.diff.Findings = append(b.diff.Findings, f)
		}
		return left
	})
}

// declaredLeftOut lists what is left out.
func (b *builder) declaredLeftOut() (left []module.Declared) {
	for _, key := range slices.Sorted(maps.Keys(b.places)) {
		left = append(left, module.Declared{Symbol: key, Source: b.places[key], Why: b.left[key].Message})
	}
	return left
}

// sourceOf returns file:line of a function, "" if it is not known.
func (b *builder) sourceOf(fn int) string {
	name := b.newObject.Symbols[fn].Name
	if edit := b.sources.edit(object.PackageOf(name)); edit != nil {
		if at := edit.Find(object.SourceName(name)).String(); at != "" {
			return at
		}
	}
	file, line, err := b.newObject.Source(fn)
	if err != nil || strings.HasPrefix(file, "<") {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// emitApart finds out which functions can't be in a module, by making one of
// each function alone, and leaves them out.
func (b *builder) emitApart(in emit.Input) {
	changed := b.diff.Changed
	groups := map[string][]object.Change{}
	for _, c := range changed {
		key := declared(b.newObject.Symbols[c.New].Name)
		groups[key] = append(groups[key], c)
	}
	for n, key := range slices.Sorted(maps.Keys(groups)) {
		b.Progress("trying "+key, n, len(groups))
		b.diff.Changed = groups[key]
		if _, _, err := emit.Emit(in); finding.As(err) != nil {
			f := finding.As(err).Findings[0]
			b.left[key] = f
		}
	}
	b.diff.Changed = changed
}

// dependents tells which functions of the new program depend on what is
// refused, by their source and their code.
type dependents struct {
	b         *builder
	types     map[string]finding.Finding // by symbol, without type arguments
	variables map[string]finding.Finding
	constants map[types.Object]finding.Finding
	functions leftOut                         // whose own source depends on it
	calls     map[string]map[string]bool      // declared functions that a declared one mentions
	unknown   map[string]error                // packages that can't be checked
	known     map[string]bool                 // declared functions
	memo      map[types.Type]*finding.Finding // see mentions
}

func (b *builder) dependents(ctx context.Context, refused []finding.Finding) (*dependents, error) {
	d := &dependents{b: b, types: map[string]finding.Finding{}, variables: map[string]finding.Finding{},
		constants: map[types.Object]finding.Finding{}, functions: leftOut{},
		calls: map[string]map[string]bool{}, unknown: map[string]error{}, known: map[string]bool{}, memo: map[types.Type]*finding.Finding{}}
	scratch := filepath.Join(b.scratch, "partial")
	if err := os.Mkdir(scratch, 0o777); err != nil {
		return nil, err
	}
	all, err := b.program.list(ctx, b.program.overlay, scratch, true)
	if err != nil {
		return nil, err
	}
	var inits []finding.Finding
	std := false // whether a package of the standard library is concerned
	for _, f := range refused {
		name, _, _ := strings.Cut(f.Function, "[")
		switch f.Code {
		case finding.TypeLayoutChanged, finding.MethodSetChanged:
			d.types[name] = f
		case finding.GlobalChanged:
			d.variables[name] = f
		case finding.InitChanged:
			inits = append(inits, f)
		default:
			return nil, &finding.Refusal{Findings: refused}
		}
		if l := all[object.PackageOf(name)]; l != nil {
			std = std || l.Standard
		}
	}
	var packages []*checked
	for _, pkg := range slices.Sorted(maps.Keys(all)) {
		if b.basePackages[pkg] == b.newPackages[pkg] || all[pkg].Standard && !std && b.basePackages[pkg] == "" {
			continue
		}
		t, err := b.typeCheck(all, pkg)
		if err != nil {
			d.unknown[pkg] = err
			continue
		}
		packages = append(packages, t)
	}
	for _, f := range inits {
		d.taintInit(packages, f)
	}
	for _, t := range packages {
		d.read(t)
	}
	return d, nil
}

// functionKey is the key of a declared function: its symbol without type
// arguments.
func functionKey(f *types.Func) string {
	f = f.Origin()
	if f.Pkg() == nil {
		return ""
	}
	name := f.Name()
	if recv := f.Signature().Recv(); recv != nil {
		t, pointer := recv.Type(), false
		if p, ok := t.(*types.Pointer); ok {
			t, pointer = p.Elem(), true
		}
		named, ok := t.(*types.Named)
		if !ok {
			return ""
		}
		if name = named.Obj().Name() + "." + name; pointer {
			name = "(*" + named.Obj().Name() + ")." + f.Name()
		}
	}
	return symbolOf(f.Pkg().Path(), name)
}

// variableKey is the symbol of a package's variable, "" of another object.
func variableKey(o types.Object) string {
	v, ok := o.(*types.Var)
	if !ok || v.Pkg() == nil || v.Parent() != v.Pkg().Scope() {
		return ""
	}
	return symbolOf(v.Pkg().Path(), v.Name())
}

// taintInit takes all variables that a refused func init mentions, or a function
// that it mentions, and so on, for refused.
func (d *dependents) taintInit(packages []*checked, f finding.Finding) {
	bodies := map[string]ast.Node{}
	infos := map[string]*types.Info{}
	var todo []string
	for _, t := range packages {
		for _, file := range t.files {
			for _, decl := range file.Decls {
				fd, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				at := t.fset.PositionFor(fd.Type.Pos(), false)
				key := fmt.Sprintf("%s:%d", at.Filename, at.Line)
				if fd.Name.Name != "init" || fd.Recv != nil {
					if o, ok := t.info.Defs[fd.Name].(*types.Func); ok {
						key = functionKey(o)
					}
				} else if key == f.Source {
					todo = append(todo, key)
				}
				bodies[key], infos[key] = fd, t.info
			}
		}
	}
	seen := map[string]bool{}
	for len(todo) > 0 {
		key := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[key] || bodies[key] == nil {
			continue
		}
		seen[key] = true
		ast.Inspect(bodies[key], func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				o := infos[key].Uses[id]
				if v := variableKey(o); v != "" {
					d.variables[v] = f
				} else if fn, ok := o.(*types.Func); ok {
					todo = append(todo, functionKey(fn))
				}
			}
			return true
		})
	}
}

// read finds the functions of a package that depend on what is refused.
func (d *dependents) read(t *checked) {
	d.readConstants(t)
	for _, file := range t.files {
		for _, decl := range file.Decls {
			fd, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			o, ok := t.info.Defs[fd.Name].(*types.Func)
			if !ok {
				continue
			}
			key := functionKey(o)
			d.known[key] = true
			d.calls[key] = map[string]bool{}
			if cause := d.uses(t.info, fd, d.calls[key]); cause != nil {
				d.functions[key] = *cause
			}
		}
	}
}

// readConstants finds the constants of a package that depend on what is refused,
// as the size of a type does.
func (d *dependents) readConstants(t *checked) {
	for known := -1; known < len(d.constants); { // one may be made of others
		known = len(d.constants)
		for _, file := range t.files {
			for _, decl := range file.Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.CONST {
					continue
				}
				if cause := d.uses(t.info, gen, map[string]bool{}); cause != nil { // one of a group counts for all
					for _, spec := range gen.Specs {
						for _, name := range spec.(*ast.ValueSpec).Names {
							d.constants[t.info.Defs[name]] = *cause
						}
					}
				}
			}
		}
	}
}

// uses returns what of the refused things a declaration mentions, and notes the
// functions that it does.
func (d *dependents) uses(info *types.Info, decl ast.Node, calls map[string]bool) (cause *finding.Finding) {
	note := func(f *finding.Finding) {
		if cause == nil {
			cause = f
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			for _, o := range []types.Object{info.Uses[id], info.Defs[id]} {
				if o == nil {
					continue
				}
				if f, ok := d.variables[variableKey(o)]; ok {
					note(&f)
				}
				if f, ok := d.constants[o]; ok {
					note(&f)
				}
				if fn, ok := o.(*types.Func); ok {
					calls[functionKey(fn)] = true
				}
				d.methods(o.Type(), calls)
				note(d.mentions(o.Type()))
			}
			for arg := range info.Instances[id].TypeArgs.Types() {
				note(d.mentions(arg))
			}
		}
		if e, ok := n.(ast.Expr); ok {
			d.methods(info.Types[e].Type, calls)
			note(d.mentions(info.Types[e].Type))
		}
		if sel, ok := n.(*ast.SelectorExpr); ok {
			// The way to a promoted field or method leads through others.
			if s := info.Selections[sel]; s != nil {
				at := s.Recv()
				for _, i := range s.Index()[:len(s.Index())-1] {
					note(d.mentions(at))
					if p, ok := at.Underlying().(*types.Pointer); ok {
						at = p.Elem()
					}
					x, ok := at.Underlying().(*types.Struct)
					if !ok {
						break
					}
					at = x.Field(i).Type()
				}
				note(d.mentions(at))
			}
		}
		return true
	})
	return cause
}

// methods notes the methods of a type that the program does not have: they come
// with the type, through interfaces.
func (d *dependents) methods(t types.Type, calls map[string]bool) {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if named, ok := types.Unalias(t).(*types.Named); ok {
		for m := range named.Methods() {
			if key := functionKey(m); len(d.b.baseObject.Named(key)) == 0 {
				calls[key] = true
			}
		}
	}
}

// key is the key of a function's symbol. What the compiler makes for pointers
// of a method on values goes with that.
func (d *dependents) key(symbol string) string {
	key := declared(symbol)
	if !d.known[key] {
		if value := strings.NewReplacer("(*", "", ")", "").Replace(key); d.known[value] {
			return value
		}
	}
	return key
}

// mentions returns the refused type that the code for values of a type depends
// on, nil if it does on none: the type itself, what it holds, or what it leads
// to without another name between.
func (d *dependents) mentions(t types.Type) *finding.Finding {
	if t == nil {
		return nil
	}
	if f, known := d.memo[t]; known {
		return f
	}
	f := d.find(t, false, map[types.Type]bool{})
	d.memo[t] = f
	return f
}

// find looks for a refused type in a type. held tells that only what a value
// holds itself matters: what it points to does not.
func (d *dependents) find(t types.Type, held bool, seen map[types.Type]bool) *finding.Finding {
	if seen[t] {
		return nil
	}
	seen[t] = true
	first := func(held bool, of ...types.Type) *finding.Finding {
		for _, t := range of {
			if f := d.find(t, held, seen); f != nil {
				return f
			}
		}
		return nil
	}
	switch t := types.Unalias(t).(type) {
	case *types.Named:
		if o := t.Obj(); o.Pkg() != nil {
			if f, ok := d.types[symbolOf(o.Pkg().Path(), o.Name())]; ok {
				return &f
			}
		}
		for arg := range t.TypeArgs().Types() {
			if f := first(held, arg); f != nil {
				return f
			}
		}
		return first(held, t.Underlying())
	case *types.Struct:
		for f := range t.Fields() {
			if f := first(true, f.Type()); f != nil {
				return f
			}
		}
	case *types.Array:
		return first(held, t.Elem())
	case *types.Tuple:
		for v := range t.Variables() {
			if f := first(held, v.Type()); f != nil {
				return f
			}
		}
	case *types.Signature:
		if !held {
			return first(false, t.Params(), t.Results())
		}
	case *types.Pointer:
		if !held {
			return first(false, t.Elem())
		}
	case *types.Slice:
		if !held {
			return first(false, t.Elem())
		}
	case *types.Chan:
		if !held {
			return first(false, t.Elem())
		}
	case *types.Map:
		if !held {
			return first(false, t.Key(), t.Elem())
		}
	case *types.Interface:
		if !held {
			for m := range t.Methods() {
				if f := first(false, m.Type()); f != nil {
					return f
				}
			}
		}
	}
	return nil
}

// reaches tells whether a function that is to be in the module depends on what
// is refused: by itself, by a function that is inlined in it, or by one that
// would be in the module with it. The cause says through which.
func (d *dependents) reaches(root int) (cause finding.Finding, found bool) {
	o := d.b.newObject
	seen := map[int]bool{}
	from := map[int]int{} // what has led to a function
	// through adds to a cause how the root leads to what is in fn.
	through := func(cause finding.Finding, fn int, inlined ...string) finding.Finding {
		for ; fn != root; fn = from[fn] {
			inlined = slices.Insert(inlined, 0, d.key(o.Symbols[fn].Name))
		}
		via := slices.DeleteFunc(slices.Compact(inlined), func(key string) bool { return key == d.key(o.Symbols[root].Name) })
		if len(via) > 0 {
			cause.Message += "; it depends on that via " + strings.Join(via, ", ")
		}
		return cause
	}
	for todo := []int{root}; len(todo) > 0; {
		fn := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[fn] {
			continue
		}
		seen[fn] = true
		name := o.Symbols[fn].Name
		if err := d.unknown[object.PackageOf(name)]; err != nil {
			return finding.Finding{Code: finding.UnsupportedBuild, Message: "what it depends on is not known: " + err.Error(),
				Advice: "restart the program with a rebuilt one"}, true
		}
		refs, err := o.Refs(fn)
		if err != nil {
			return finding.Finding{Code: finding.UnsupportedBuild, Message: "its code can't be decoded: " + err.Error(), Advice: "restart the program with a rebuilt one"}, true
		}
		called := map[string]bool{}
		for _, r := range refs {
			to := r.Symbol
			if i, ok := o.SymbolAt(r.Target); ok {
				to = i
			}
			if o.IsFunction(to) {
				called[d.key(o.Symbols[to].Name)] = true
			}
			for _, to := range d.b.functionsBehind(to) {
				if _, old := d.b.diff.Old(to); !old || declared(o.Symbols[to].Name) == declared(name) {
					if _, known := from[to]; !known && to != root {
						from[to] = fn
					}
					todo = append(todo, to)
				}
			}
		}
		key := d.key(name)
		if fn == root && !d.known[key] {
			return finding.Finding{Code: finding.UnsupportedBuild, Message: "where it is in the source is not known, and so what it depends on",
				Advice: "restart the program with a rebuilt one"}, true
		}
		if cause, via, found := d.inlined(key, called, map[string]bool{}); found {
			return through(cause, fn, via...), true
		}
		// What the compiler has inlined the source need not mention: it finds
		// out which method an interface's value has.
		for _, symbol := range d.b.diff.Inlined(fn) {
			if cause, found = d.functions[d.key(symbol)]; found {
				return through(cause, fn, d.key(symbol)), true
			}
		}
	}
	return cause, false
}

// inlined tells whether a declared function depends on what is refused, or one
// that it mentions without calling it, via others or not: that may be inlined.
func (d *dependents) inlined(key string, called, seen map[string]bool) (cause finding.Finding, via []string, found bool) {
	if seen[key] {
		return cause, nil, false
	}
	seen[key] = true
	if cause, found = d.functions[key]; found {
		return cause, nil, true
	}
	for _, callee := range slices.Sorted(maps.Keys(d.calls[key])) {
		if called[callee] {
			continue
		}
		if cause, via, found = d.inlined(callee, called, seen); found {
			return cause, slices.Insert(via, 0, callee), true
		}
	}
	return cause, nil, false
}

// functionsBehind returns the functions that a symbol is or leads to: data with
// pointers to functions leads to them.
func (b *builder) functionsBehind(sym int) (functions []int) {
	o := b.newObject
	if o.IsFunction(sym) {
		return []int{sym}
	}
	if o.Symbols[sym].Container || o.Writable(sym) {
		return nil
	}
	for _, r := range o.Relocs(sym) {
		if o.IsFunction(r.Symbol) {
			functions = append(functions, r.Symbol)
		}
	}
	return functions
}
