// Package clink binds a module for C or C++ to what a process has loaded, as the
// dynamic linker would do, and further: to functions and variables that are
// static or hidden as well. It writes nothing.
package clink

import (
	"debug/elf"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
)

// match is a function of a module and the one of the program that it replaces.
type match struct {
	new    *module.Symbol
	old    *loaded.Symbol
	record module.Function // of the manifest; zero without one
}

// matches finds what the module replaces. What a manifest names is refused if it
// is not there; without one, whatever has the name of a function of the
// program's is taken, or of its libraries' if there is none.
func (b *binder) matches() error {
	if named := b.m.Manifest.Functions; len(named) > 0 {
		for _, f := range named {
			if err := b.named(f); err != nil {
				return err
			}
		}
		return nil
	}
	for _, find := range []func(*module.Symbol) (*loaded.Symbol, error){b.replaced, b.ofLibrary} {
		for _, x := range b.m.Replaces() {
			if slices.ContainsFunc(b.found, func(m match) bool { return m.new == x }) {
				continue
			}
			old, err := find(x)
			if err != nil {
				return err
			}
			if old == nil {
				continue
			}
			if err := b.add(x, old); err != nil {
				return err
			}
		}
		if len(b.found) > 0 {
			break // helpers may have the names of functions of libraries
		}
	}
	b.kept()
	if len(b.found) == 0 {
		return refuse(finding.SymbolUnresolved, "", "none of the module's functions has the name of a function of the program"+b.split(),
			"compile what replaces a function under its name, and not inlined; of a stripped program only exported functions are known")
	}
	return nil
}

// kept says which functions of the module are its own although a library has some
// of their names.
func (b *binder) kept() {
	for _, x := range b.m.Replaces() {
		if x.Local || x.Weak || slices.ContainsFunc(b.found, func(m match) bool { return m.new == x || m.new.Addr == x.Addr }) {
			continue
		}
		for _, o := range b.set.Objects[1:] {
			if export(o, x.Name) != nil {
				b.image.Findings = append(b.image.Findings, finding.Finding{Code: finding.LibraryFunction, Severity: finding.Info, Function: x.Name,
					Message: "the module has it for itself: that of " + o.Path + " is not replaced along with the program's functions"})
				break
			}
		}
	}
}

// add takes x for what replaces old. Code that has several names can't be replaced
// by several functions.
func (b *binder) add(x *module.Symbol, old *loaded.Symbol) error {
	for _, m := range b.found {
		if m.old.Addr != old.Addr {
			continue
		}
		if m.new.Addr == x.Addr || sameName(m.old.Name, old.Name) {
			return nil
		}
		return refuse(finding.SymbolAmbiguous, old.Name,
			fmt.Sprintf("the program has one code for it and for %s, as they were identical, and the module one for each", m.old.Name),
			"replace one of them only, or build the program with -fno-ipa-icf")
	}
	b.found = append(b.found, match{new: x, old: old})
	return nil
}

// sameName tells whether people write two names alike, as those of the variants of
// a constructor.
func sameName(a, b string) bool {
	return a == b || strings.HasPrefix(a, "_Z") && demangle.Filter(a) == demangle.Filter(b)
}

// folded warns of functions that are replaced with others, as the compiler or
// linker has made one code of them.
func (b *binder) folded() {
	for _, f := range b.found {
		if !f.old.Object.Program {
			continue // libraries have many names for one function on purpose
		}
		var names []string
		for _, s := range f.old.Object.Symbols() {
			if s.Addr == f.old.Addr && isFunction(&s) && !sameName(s.Name, f.old.Name) && !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
		if len(names) > 0 {
			b.warn(finding.SymbolAmbiguous, f.old.Name,
				fmt.Sprintf("the program has one code for it and for %s: calls of those run the new code too", strings.Join(names, ", ")),
				"see whether they may; functions that were identical are told apart by a program built with -fno-ipa-icf")
		}
	}
}

// split names functions of the program that the compiler has made special
// versions of only.
func (b *binder) split() string {
	var names []string
	for _, x := range b.m.Replaces() {
		for _, s := range b.set.Objects[0].Symbols() {
			if strings.HasPrefix(s.Name, x.Name+".") && s.Type == elf.STT_FUNC {
				names = append(names, s.Name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(": of %s there are only versions that the compiler made for single callers, with arguments of their own", strings.Join(names, ", "))
}

// named finds the function that a manifest's record names, as name or file:name.
func (b *binder) named(f module.Function) error {
	file, name := Split(f.Symbol)
	x := b.own(f.New)
	if x == nil {
		return finding.Refuse(finding.ModuleMalformed, fmt.Sprintf("malformed module: %s: its replacement %q is not the name of one function of the module", f.Symbol, f.New), "build it again with darn build")
	}
	var found []*loaded.Symbol
	for _, o := range b.set.Objects {
		for _, s := range namedOrDemangled(o, name) {
			if isFunction(s) && (file == "" || filepath.Base(s.File) == file) {
				found = append(found, s)
			}
		}
		if found = distinct(found); len(found) > 0 {
			break
		}
	}
	switch {
	case len(found) == 0:
		return refuse(finding.SymbolUnresolved, f.Symbol, "the program has no such function", "build the module for the program that runs")
	case len(found) > 1 && f.Offset != 0 && f.SHA256 != "":
		i := slices.IndexFunc(found, func(s *loaded.Symbol) bool { return s.Addr-s.Object.Bias == f.Offset })
		if i < 0 {
			return b.ambiguous(name, found)
		}
		found = found[i:]
	case len(found) > 1:
		return b.ambiguous(name, found)
	}
	if err := b.once(found[0]); err != nil {
		return err
	}
	b.found = append(b.found, match{x, found[0], f})
	return nil
}

// isDemangled tells whether a name is one of C++ as people write it.
func isDemangled(name string) bool {
	return strings.Contains(name, "::") || strings.Contains(name, "(")
}

// namedOrDemangled returns an object's symbols with a name, mangled or not.
func namedOrDemangled(o *loaded.Object, name string) []*loaded.Symbol {
	found := o.Named(name)
	if len(found) > 0 || !isDemangled(name) {
		return found
	}
	for i := range o.Symbols() {
		if s := &o.Symbols()[i]; strings.HasPrefix(s.Name, "_Z") && demangle.Filter(s.Name) == name {
			found = append(found, s)
		}
	}
	return found
}

// Split splits file:function; file is "" if there is none. C++ has "::" in names.
func Split(symbol string) (file, name string) {
	i := strings.IndexByte(symbol, ':')
	if i <= 0 || i+1 < len(symbol) && symbol[i+1] == ':' {
		return "", symbol
	}
	return symbol[:i], symbol[i+1:]
}

// Qualified names a function as Split takes it, with its file if the name alone
// is not enough.
func Qualified(s *loaded.Symbol) string {
	if s.File != "" && len(s.Object.Named(s.Name)) > 1 {
		return s.File + ":" + s.Name
	}
	return s.Name
}

// own returns the module's function of that name, nil if there is not just one.
func (b *binder) own(name string) *module.Symbol {
	var found *module.Symbol
	for _, x := range b.m.Replaces() {
		if x.Name != name && (!isDemangled(name) || demangle.Filter(x.Name) != name) {
			continue
		}
		if found != nil {
			return nil
		}
		found = x
	}
	return found
}

// replaced returns the function of the program itself that x stands for, nil if there
// is none. Of a name that several static functions have it is the one of the file
// with the module's own name of it, else it is refused if x is global.
func (b *binder) replaced(x *module.Symbol) (*loaded.Symbol, error) {
	var found []*loaded.Symbol
	for _, s := range b.set.Objects[0].Named(x.Name) {
		if isFunction(s) {
			found = append(found, s)
		}
	}
	found = distinct(found)
	if len(found) > 1 {
		if same := ofFile(found, x.File); len(same) == 1 {
			found = same
		}
	}
	switch {
	case len(found) == 0:
		return nil, nil
	case len(found) == 1:
		return found[0], nil
	case x.Local:
		b.warn(finding.SymbolAmbiguous, x.Name,
			fmt.Sprintf("the module has a static function of this name, and the program several (%s): none of them is replaced", where(found)),
			"say which with `darn build --function FILE.c:"+x.Name+"`")
		return nil, nil
	}
	return nil, b.ambiguous(x.Name, found)
}

// ofLibrary returns the function of a library that x stands for, nil if there is
// none.
func (b *binder) ofLibrary(x *module.Symbol) (*loaded.Symbol, error) {
	if x.Local {
		return nil, nil
	}
	for _, o := range b.set.Objects[1:] {
		if s := export(o, x.Name); s != nil {
			return s, b.once(s)
		}
	}
	return nil, nil
}

// export returns the function that an object exports under a name, nil if none.
func export(o *loaded.Object, name string) *loaded.Symbol {
	for _, s := range o.Named(name) {
		if isFunction(s) && s.Dynamic && !s.Local && !s.Old {
			return s
		}
	}
	return nil
}

// once refuses a function of a library that another library exports too: of
// plugins each has its own in use. What the C library has besides is not used.
func (b *binder) once(s *loaded.Symbol) error {
	if s.Object.Program || export(s.Object, s.Name) != s {
		return nil
	}
	for _, o := range b.set.Objects[1:] {
		other := export(o, s.Name)
		if other == nil || other.Addr == s.Addr || slices.ContainsFunc(cLibrary, func(prefix string) bool { return strings.HasPrefix(o.Name(), prefix) }) {
			continue
		}
		return refuse(finding.SymbolAmbiguous, s.Name,
			fmt.Sprintf("two libraries have a function of this name: %s and %s", s.Object.Path, other.Object.Path),
			"replace a function that it calls, or that calls it, whose name is there once")
	}
	return nil
}

// cLibrary begins the names of the C library's files.
var cLibrary = []string{"libc.", "libc-", "ld-", "libm.", "libpthread", "libdl."}

func (b *binder) ambiguous(name string, found []*loaded.Symbol) error {
	return refuse(finding.SymbolAmbiguous, name,
		fmt.Sprintf("the program has several static functions or variables of this name: %s", where(found)),
		"say which with `darn build --function FILE.c:"+name+"`, or call it through something that is there once")
}

// ofFile returns those of the symbols that come from a source file of that name.
func ofFile(symbols []*loaded.Symbol, file string) (same []*loaded.Symbol) {
	for _, s := range symbols {
		if file != "" && filepath.Base(s.File) == filepath.Base(file) {
			same = append(same, s)
		}
	}
	return same
}

// where says where symbols are.
func where(symbols []*loaded.Symbol) string {
	var places []string
	for _, s := range symbols {
		place := fmt.Sprintf("%#x", s.Addr)
		if s.File != "" {
			place = s.File + " at " + place
		}
		places = append(places, place)
	}
	return strings.Join(places, ", ")
}

func isFunction(s *loaded.Symbol) bool { return s.Type == elf.STT_FUNC }

// distinct leaves one symbol for each address.
func distinct(symbols []*loaded.Symbol) []*loaded.Symbol {
	seen := map[uint64]bool{}
	return slices.DeleteFunc(symbols, func(s *loaded.Symbol) bool {
		was := seen[s.Addr]
		seen[s.Addr] = true
		return was
	})
}

// Near returns the code that the module's first replaced function lies in: near
// that the module has to be.
func Near(m *module.Module, set *loaded.Set) (link.Range, error) {
	b := &binder{m: m, set: set}
	if err := b.matches(); err != nil {
		return link.Range{}, err
	}
	for _, t := range b.found[0].old.Object.Text {
		if t.Holds(b.found[0].old.Addr, 1) {
			return t, nil
		}
	}
	return link.Range{}, refuse(finding.TextMismatch, b.found[0].new.Name, "the function is not in the program's code", "restart the program to patch it")
}

func refuse(code finding.Code, symbol, message, advice string) error {
	r := finding.Refuse(code, message, advice)
	r.Findings[0].Function = symbol
	return r
}

// Matched is a function that a module replaces, and the code that it has.
type Matched struct {
	module.Function
	Code []byte
}

// Match finds what a module would replace in a program that does not run. named
// are functions given as name or file:name; what is not named is found by its
// name.
func Match(m *module.Module, set *loaded.Set, named []string) (found []Matched, findings []finding.Finding, err error) {
	b := &binder{m: m, set: set}
	for _, n := range named {
		_, name := Split(n)
		if err := b.named(module.Function{Symbol: n, New: name}); err != nil {
			return nil, nil, err
		}
	}
	chosen := len(b.found)
	if err := b.matches(); err != nil && chosen == 0 {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for i, x := range b.found {
		if seen[x.new.Name] {
			continue
		}
		seen[x.new.Name] = true
		name := Qualified(x.old)
		if i < chosen {
			name = x.record.Symbol
		}
		code, err := x.old.Object.Code(x.old.Addr, x.old.Size)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, Matched{module.Function{
			Symbol: name, New: x.new.Name, Offset: x.old.Addr - x.old.Object.Bias, Size: x.old.Size, Source: b.source(x.new),
		}, code})
	}
	b.folded()
	b.inlined()
	return found, b.image.Findings, nil
}
