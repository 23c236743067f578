package emit

import (
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/gotype"
)

// locals pairs the types that are declared in functions. Only a number tells
// those of one name in a package apart, and that depends on how many there are
// before it: so they are told by their structure, and those that have the same
// by their order.
type locals struct {
	groups map[gotype.Identity]*localGroup
}

// localGroup is the types of one name.
type localGroup struct {
	base, new []*gotype.Type          // in the order of the source
	twin      map[uint64]*gotype.Type // New's descriptor -> Base's
	unclear   map[uint64]bool         // New's descriptors
	settled   bool
}

// readLocals finds out which types are declared in functions.
func (t *types) readLocals() error {
	for _, side := range []struct {
		s   *space
		set *gotype.Set
	}{{t.b.base, t.base}, {t.b.new, t.new}} {
		places, err := side.s.obj.LocalTypes()
		if err != nil {
			return err
		}
		side.set.Locals = map[uint64]int{}
		for p, n := range places {
			side.set.Locals[side.s.addr(p)] = n
		}
	}
	t.equal.Local = func(x, y *gotype.Type) bool { return t.localTwin(x) == y }
	return nil
}

// groupLocals sorts them by name.
func (t *types) groupLocals() {
	t.locals.groups = map[gotype.Identity]*localGroup{}
	group := func(id gotype.Identity) *localGroup {
		g := t.locals.groups[id]
		if g == nil {
			g = &localGroup{twin: map[uint64]*gotype.Type{}, unclear: map[uint64]bool{}}
			t.locals.groups[id] = g
		}
		return g
	}
	for _, x := range t.all {
		if _, local := t.new.Locals[x.Addr]; local {
			g := group(t.new.Identity(x))
			g.new = append(g.new, x)
		}
	}
	for id, all := range t.byName {
		for _, y := range all {
			if _, local := t.base.Locals[y.Addr]; local {
				g := group(id)
				g.base = append(g.base, y)
			}
		}
	}
	byNumber := func(numbers map[uint64]int) func(x, y *gotype.Type) int {
		return func(x, y *gotype.Type) int { return numbers[x.Addr] - numbers[y.Addr] }
	}
	for _, g := range t.locals.groups {
		slices.SortFunc(g.new, byNumber(t.new.Locals))
		slices.SortFunc(g.base, byNumber(t.base.Locals))
	}
}

// localTwin returns Base's type that a type declared in a function is, nil if
// it is new.
func (t *types) localTwin(x *gotype.Type) *gotype.Type {
	g := t.locals.groups[t.new.Identity(x)]
	if g == nil {
		return nil
	}
	if !g.settled {
		g.settled = true
		t.settle(g)
	}
	return g.twin[x.Addr]
}

// settle pairs the types of a group. While it does, a type that refers to one of
// the group, as to itself, is taken to mean the same.
func (t *types) settle(g *localGroup) {
	alike := map[*gotype.Type][]*gotype.Type{} // of Base -> New's of the same structure
	for _, x := range g.new {
		for _, y := range g.base {
			g.twin[x.Addr] = y
			if t.fresh().Structure(x, y) == nil {
				alike[y] = append(alike[y], x)
			}
			delete(g.twin, x.Addr)
		}
	}
	taken := map[*gotype.Type]bool{}
	for _, y := range g.base {
		of := alike[y]
		if len(of) == 0 || taken[of[0]] {
			continue
		}
		var ys []*gotype.Type // all of that structure
		for _, z := range g.base {
			if slices.Equal(alike[z], of) {
				ys = append(ys, z)
			}
		}
		for i, x := range of {
			taken[x] = true
			if len(ys) != len(of) {
				g.unclear[x.Addr] = true
			} else {
				g.twin[x.Addr] = ys[i]
			}
		}
	}
}

// fresh returns a comparer that remembers nothing, for comparisons under
// assumptions.
func (t *types) fresh() *gotype.Comparer {
	c := gotype.NewComparer(t.new, t.base)
	c.Ignore, c.Local = t.equal.Ignore, t.equal.Local
	return c
}

// isUnclear tells whether it can't be told which of the target's types a type
// declared in a function is.
func (t *types) isUnclear(x *gotype.Type) bool {
	if _, local := t.new.Locals[x.Addr]; !local {
		return false
	}
	t.localTwin(x)
	return t.locals.groups[t.new.Identity(x)].unclear[x.Addr]
}

// noteLocal says of a type declared in a function that is to be the module's own
// although the target has one of its name, that it is another one.
func (t *types) noteLocal(x *gotype.Type) {
	if _, local := t.new.Locals[x.Addr]; !local {
		return
	}
	twin := t.localTwin(x)
	g := t.locals.groups[t.new.Identity(x)]
	if len(g.base) == 0 {
		return
	}
	why := "is another than those of that name in the program"
	switch {
	case g.unclear[x.Addr]:
		why = "is one of several that are alike, and the edit changed how many there are"
	case twin != nil:
		why = "has another number than in the program, because the edit changed how many of that name there are before it"
	}
	t.b.note(finding.Finding{Code: finding.TypeLayoutChanged, Severity: finding.Warning, Function: x.String,
		Message: fmt.Sprintf("the type %s, which is declared in a function, %s: to new code, values that live are not of its type", x.String, why),
		Advice:  "nothing, unless such values are kept in interfaces and looked at by new code; then give the new type another name"})
}

// note adds a finding once.
func (b *builder) note(f finding.Finding) {
	if !slices.Contains(b.findings, f) {
		b.findings = append(b.findings, f)
	}
}
