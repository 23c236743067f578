package object

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/darn-dev/darn/patcher/build/source"
	"github.com/darn-dev/darn/patcher/finding"
)

// Options says how Compare goes about it.
type Options struct {
	// Differs tells whether the compiled archive of the package (its import
	// path as in symbol names: "main" for the main package) differs between
	// base and new. Functions of other packages are taken as equal. Nil: every
	// package may differ.
	Differs func(pkg string) bool
	// Source returns how the source of a package differs, nil if that is not
	// known: then what initialises the package is told by its code alone, and
	// findings lack their line. Nil: no package's is known.
	Source func(pkg string) *source.Edit
	// Fixed tells why the entry of a function of base can't be redirected where
	// it runs, nil if it can. The callers of such a function are changed
	// instead, and it is taken as a new one. Nil: all entries can.
	Fixed func(baseFn int) *finding.Finding
	// Edited are the packages of which a source file differs; nil if that is
	// not known.
	Edited []string
}

// Diff is what an edit changed. Functions are indices in the Symbols of the
// base or the new object.
type Diff struct {
	// Changed functions, by the new function's name. Functions that initialise
	// packages are not among them: they never run again.
	Changed []Change
	// Added are new's functions without a counterpart in base, by name. They
	// include functions whose signature or dictionary changed: see Old.
	Added []int
	// Removed are base's functions without a counterpart in new, by name.
	Removed []int
	// Lost is code of base that calls of a changed function may be in and that no
	// call of the new one runs, beside the function itself, by the changed function
	// of base: closures and wrappers in it that nothing continues, and functions
	// that are taken as new ones, because of their signature for one.
	Lost map[int][]int
	// Bypassed functions are changed, but their entries can't be redirected.
	Bypassed []Bypass
	// Findings, errors first, then by source.
	Findings []finding.Finding

	base, new *Object
	debug     *programDebug // of new; nil if nothing differs
	old       map[int]int   // new function -> base function, where names don't tell; -1: none
}

// Change is a function whose old code must lead to new code.
type Change struct {
	Base, New int
	// Why is the first difference, in words.
	Why string
}

// Bypass is a function that is reached through its callers only.
type Bypass struct {
	Base, New int
	// Why says why its entry can't be redirected.
	Why finding.Finding
}

// Old returns base's function that the new object's function continues: it is
// that function, perhaps changed. ok is false for a new function, and for one
// that callers must not reach through the old one's entry, because its
// signature, its dictionary or what it captures differs.
func (d *Diff) Old(newFn int) (baseFn int, ok bool) {
	if old, known := d.old[newFn]; known {
		return old, old >= 0
	}
	return sameName(d.base, d.new, newFn)
}

// Inlined returns the symbols of the functions whose code the compiler has
// inlined in a function of new, also of those that were inlined in these. It
// knows the packages that differ.
func (d *Diff) Inlined(newFn int) []string {
	if f := d.debug.function(d.new.Symbols[newFn].Name); f != nil {
		return f.inlined
	}
	return nil
}

// Refused tells whether a finding is an error.
func (d *Diff) Refused() bool {
	return slices.ContainsFunc(d.Findings, func(f finding.Finding) bool { return f.Severity == finding.Error })
}

// sameName returns base's function with the name of the new one. Of several
// that share it, which only assembly has, it is the one in the same position.
func sameName(base, new *Object, newFn int) (int, bool) {
	name := new.Symbols[newFn].Name
	old, now := base.byName[name], new.byName[name]
	if len(old) != len(now) {
		return 0, false
	}
	i := slices.Index(now, int32(newFn))
	if i < 0 || !base.IsFunction(int(old[i])) {
		return 0, false
	}
	return int(old[i]), true
}

func (d *Diff) sort() {
	slices.SortFunc(d.Changed, func(a, b Change) int { return cmp.Compare(d.new.Symbols[a.New].Name, d.new.Symbols[b.New].Name) })
	byName := func(o *Object) func(a, b int) int {
		return func(a, b int) int { return cmp.Compare(o.Symbols[a].Name, o.Symbols[b].Name) }
	}
	slices.SortFunc(d.Added, byName(d.new))
	slices.SortFunc(d.Removed, byName(d.base))
	slices.SortStableFunc(d.Findings, func(a, b finding.Finding) int {
		rank := func(f finding.Finding) int {
			return slices.Index([]finding.Severity{finding.Error, finding.Warning, finding.Info}, f.Severity)
		}
		aFile, aLine := splitSource(a.Source)
		bFile, bLine := splitSource(b.Source)
		return cmp.Or(rank(a)-rank(b), cmp.Compare(aFile, bFile), aLine-bLine, cmp.Compare(a.Function, b.Function), cmp.Compare(a.Message, b.Message))
	})
}

// splitSource splits file:line.
func splitSource(source string) (file string, line int) {
	i := strings.LastIndexByte(source, ':')
	line, _ = strconv.Atoi(source[i+1:])
	return source[:max(i, 0)], line
}
