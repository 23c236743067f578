package object

import (
	"debug/elf"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/build/source"
	"github.com/darn-dev/darn/patcher/finding"
)

// comparer is a run of Compare.
type comparer struct {
	*Diff
	opt     Options
	fixed   map[int]finding.Finding // by function of base: why its entry can't be redirected
	differs map[string]bool         // by package
	refs    map[*Object][][]Reloc
	deep    *equality // tells closures by their content
	paired  *equality // takes closures that continue old ones as equal
	changed []string  // packages of base that may differ, sorted
	debug   [2]*programDebug
	inits   map[string][]initChange // by package
}

// initChange is a function that initialises a package and that differs.
type initChange struct {
	fn  int // of new
	why string
}

// Compare finds what changed from base to new, by content, not by name: numbers
// that the compiler gives to nameless things do not matter, nor do line
// numbers. Both must have DWARF if a package differs.
func Compare(base, new *Object, opt Options) (*Diff, error) {
	fixed := map[int]finding.Finding{}
	for {
		d, err := compare(base, new, opt, fixed)
		if err != nil || opt.Fixed == nil {
			return d, err
		}
		known := len(fixed)
		for _, change := range d.Changed {
			if f := opt.Fixed(change.Base); f != nil {
				fixed[change.Base] = *f
			}
		}
		if len(fixed) == known {
			return d, nil
		}
	}
}

// compare is a run of Compare when it is known which entries of changed
// functions can't be redirected.
func compare(base, new *Object, opt Options, fixed map[int]finding.Finding) (*Diff, error) {
	c := &comparer{fixed: fixed, Diff: &Diff{base: base, new: new, old: map[int]int{}}, opt: opt, differs: map[string]bool{}, inits: map[string][]initChange{},
		refs: map[*Object][][]Reloc{base: make([][]Reloc, len(base.Symbols)), new: make([][]Reloc, len(new.Symbols))}}
	c.changed = c.packages(base)
	bases, news := c.candidates(base), c.candidates(new)
	if len(c.changed) > 0 {
		if err := c.readDebug(); err != nil {
			return nil, err
		}
	}
	renewed := c.renewed(news)
	c.deep, c.paired = c.equality(renewed, nil), c.equality(renewed, c.old)
	c.decode(base, bases)
	c.decode(new, news)
	c.pairClosures(bases, news)
	c.compareFunctions(news)
	c.callersOfFixed()
	c.findLost(renewed)
	if len(c.changed) > 0 {
		c.findings()
	}
	c.effects()
	if len(c.Changed) == 0 && !c.Refused() {
		c.Findings = append(c.Findings, finding.Finding{Code: finding.NoChange, Severity: finding.Warning,
			Message: "no function of the running program changes: " + c.noChangeReason(),
			Advice:  "edit the body of a function that the program uses"})
	}
	c.sort()
	c.Diff.debug = c.debug[1]
	return c.Diff, nil
}

func (c *comparer) equality(renewed map[string]string, closures map[int]int) *equality {
	return &equality{base: c.base, new: c.new, renewed: renewed, closures: closures,
		settled: func(pkg string) bool { return pkg != "" && !c.mayDiffer(pkg) },
		refs:    c.refsOf, memo: map[[2]int]bool{}, assumed: map[[2]int]bool{}}
}

// mayDiffer tells whether a package's functions have to be looked at. Those
// without a package may be made by any.
func (c *comparer) mayDiffer(pkg string) bool {
	if pkg == "" || c.opt.Differs == nil {
		return true
	}
	differs, known := c.differs[pkg]
	if !known {
		differs = c.opt.Differs(pkg)
		c.differs[pkg] = differs
	}
	return differs
}

// packages returns the packages of an object that may differ.
func (c *comparer) packages(o *Object) []string {
	set := map[string]bool{}
	for i := range o.Symbols {
		if s := &o.Symbols[i]; s.Section != 0 && s.Type != elf.STT_SECTION {
			if pkg := PackageOf(s.Name); pkg != "" && !set[pkg] && c.mayDiffer(pkg) {
				set[pkg] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// candidates returns the functions that may differ.
func (c *comparer) candidates(o *Object) []int {
	if len(c.changed) == 0 {
		return nil
	}
	var fns []int
	for _, fn := range o.Functions {
		if c.mayDiffer(PackageOf(o.Symbols[fn].Name)) {
			fns = append(fns, fn)
		}
	}
	return fns
}

// isChanged tells whether a package is in base and may differ.
func (c *comparer) isChanged(pkg string) bool {
	_, found := slices.BinarySearch(c.changed, pkg)
	return found
}

// decode finds the references of functions ahead, on all processors.
func (c *comparer) decode(o *Object, fns []int) {
	refs := c.refs[o]
	parallel(len(fns), func(i int) { refs[fns[i]] = decodedRefs(o, fns[i]) })
}

func decodedRefs(o *Object, fn int) []Reloc {
	refs, _ := o.Refs(fn) // what can't be decoded is compared as it is
	if refs == nil {
		refs = []Reloc{}
	}
	return refs
}

func (c *comparer) refsOf(o *Object, fn int) []Reloc {
	refs := c.refs[o]
	if refs[fn] == nil {
		refs[fn] = decodedRefs(o, fn)
	}
	return refs[fn]
}

// compareFunctions compares the functions that continue each other. Those
// without a counterpart are looked for in all packages: an edit may draw in
// parts of unchanged ones.
func (c *comparer) compareFunctions(news []int) {
	for _, fn := range news {
		name := c.new.Symbols[fn].Name
		if namedByContent(name) { // compared where they are used
			continue
		}
		old, ok := c.Old(fn)
		if !ok {
			continue
		}
		why := c.paired.symbolsWhy(old, fn)
		if why == "" {
			continue
		}
		if isInit(name) {
			c.inits[PackageOf(name)] = append(c.inits[PackageOf(name)], initChange{fn, why})
			continue
		}
		c.Changed = append(c.Changed, Change{Base: old, New: fn, Why: why})
	}
	if len(c.changed) == 0 {
		return
	}
	continued := make([]bool, len(c.base.Symbols))
	for _, fn := range c.new.Functions {
		if old, ok := c.Old(fn); ok {
			continued[old] = true
		} else {
			c.Added = append(c.Added, fn)
			if name := c.new.Symbols[fn].Name; isInit(name) && c.isChanged(PackageOf(name)) {
				c.inits[PackageOf(name)] = append(c.inits[PackageOf(name)], initChange{fn, "it is new"})
			}
		}
	}
	for _, fn := range c.base.Functions {
		if !continued[fn] && (len(c.new.byName[c.base.Symbols[fn].Name]) == 0 || isClosure(c.base.Symbols[fn].Name)) {
			c.Removed = append(c.Removed, fn)
		}
	}
}

// sourceOf returns how the source of a package differs, nil if that isn't known.
func (c *comparer) sourceOf(pkg string) *source.Edit {
	if c.opt.Source == nil {
		return nil
	}
	return c.opt.Source(pkg)
}

// readDebug reads the DWARF of both objects, as far as it is needed.
func (c *comparer) readDebug() error {
	var wg sync.WaitGroup
	var errs [2]error
	var mu sync.Mutex // both ask at once
	mayDiffer := func(pkg string) bool {
		mu.Lock()
		defer mu.Unlock()
		return c.mayDiffer(pkg)
	}
	for i, o := range []*Object{c.base, c.new} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.debug[i], errs[i] = readProgramDebug(o, c.isChanged, mayDiffer)
		}()
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// renewed finds the functions that are in both objects but which callers can't
// take for each other: their signature or their dictionary changed. It maps
// their names to what changed.
func (c *comparer) renewed(news []int) map[string]string {
	renewed := map[string]string{}
	dicts := c.changedDictionaries()
	for _, fn := range news {
		name := c.new.Symbols[fn].Name
		if isClosure(name) || namedByContent(name) {
			continue
		}
		old, ok := sameName(c.base, c.new, fn)
		if !ok {
			continue
		}
		why, fixed := c.fixed[old]
		what := ""
		x, y := c.debug[0].function(name), c.debug[1].function(name)
		switch {
		case x != nil && y != nil && x.params != y.params:
			what = "signature"
			c.Findings = append(c.Findings, c.signatureFinding(fn))
		case dicts[genericName(name)] && strings.Contains(name, "[go.shape."):
			what = "dictionary"
			c.Findings = append(c.Findings, c.dictionaryFinding(fn))
		case fixed:
			what = "code"
			c.Bypassed = append(c.Bypassed, Bypass{old, fn, why})
			c.Findings = append(c.Findings, c.bypassFinding(old, fn, why))
		default:
			continue
		}
		renewed[name] = what
		c.old[fn] = -1
	}
	return renewed
}
