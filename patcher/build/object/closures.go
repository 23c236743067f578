package object

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// closure is a function without a lasting name.
type closure struct {
	sym    int
	name   string
	kind   string
	number int
}

// closuresByOuter groups closures by the name of the function around them, in
// the order of their numbers.
func closuresByOuter(o *Object, fns []int) map[string][]closure {
	groups := map[string][]closure{}
	for _, fn := range fns {
		name := o.Symbols[fn].Name
		if outer, kind, number, ok := closureName(name); ok {
			groups[outer] = append(groups[outer], closure{fn, name, kind, number})
		}
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b closure) int { return cmp.Or(cmp.Compare(a.kind, b.kind), a.number-b.number) })
	}
	return groups
}

// pairClosures decides which new closure continues which old one, function by
// function from the outside in. Closures that live hold what the old code
// captured, so one may only be led to new code that expects the very same.
func (c *comparer) pairClosures(bases, news []int) {
	old, now := closuresByOuter(c.base, bases), closuresByOuter(c.new, news)
	var within func(oldOuter, newOuter string)
	within = func(oldOuter, newOuter string) {
		for _, kind := range []string{".func", "-range", ".gowrap", ".deferwrap"} {
			of := func(g []closure) (of []closure) {
				for _, x := range g {
					if x.kind == kind {
						of = append(of, x)
					}
				}
				return of
			}
			for b, n := range c.pairSiblings(of(old[oldOuter]), of(now[newOuter])) {
				c.old[n] = b
				within(c.base.Symbols[b].Name, c.new.Symbols[n].Name)
			}
		}
	}
	for _, group := range now {
		for _, n := range group {
			c.old[n.sym] = -1 // unless it is paired below
		}
	}
	for outer := range now {
		// The names of inlined functions may stand between a closure's and
		// that of the function it is in, so outer need not be one.
		if nested := slices.ContainsFunc(c.new.byName[outer], func(fn int32) bool { return isClosure(outer) && c.new.IsFunction(int(fn)) }); !nested && !c.inRenewed(outer) {
			within(outer, outer)
		}
	}
}

// inRenewed tells whether a name is that of a function with another ABI than
// before, or of something in it.
func (c *comparer) inRenewed(name string) bool {
	for renewed := range c.deep.renewed {
		if rest, ok := strings.CutPrefix(name, renewed); ok && (rest == "" || rest[0] == '.' || rest[0] == '-') {
			return true
		}
	}
	return false
}

// pairSiblings pairs the closures of one kind in one function, old to new.
func (c *comparer) pairSiblings(old, now []closure) map[int]int {
	pairs := map[int]int{}
	oldOf, newOf := make([]int, len(now)), make([]int, len(old)) // positions, -1: none yet
	for i := range oldOf {
		oldOf[i] = -1
	}
	for i := range newOf {
		newOf[i] = -1
	}
	pair := func(b, n int) {
		oldOf[n], newOf[b] = b, n
		pairs[old[b].sym] = now[n].sym
	}
	// Those that are equal, by preference under the same name.
	for _, sameName := range []bool{true, false} {
		for b := range old {
			for n := range now {
				if newOf[b] < 0 && oldOf[n] < 0 && (!sameName || old[b].name == now[n].name) && c.deep.symbols(old[b].sym, now[n].sym) {
					pair(b, n)
				}
			}
		}
	}
	// Those that changed, between the neighbours that did not.
	for lo := 0; lo < len(old); {
		if newOf[lo] >= 0 {
			lo++
			continue
		}
		hi := lo
		for hi < len(old) && newOf[hi] < 0 {
			hi++
		}
		from, to := 0, len(now)
		if lo > 0 {
			from = newOf[lo-1] + 1
		}
		if hi < len(old) {
			to = newOf[hi]
		}
		var between []int
		for n := from; n < to; n++ {
			if oldOf[n] < 0 {
				between = append(between, n)
			}
		}
		c.pairChanged(old[lo:hi], now, between, func(b, n int) { pair(lo+b, n) })
		lo = hi
	}
	return pairs
}

// pairChanged pairs old closures that changed with the candidates among the new
// ones, if it is plain which is which, and reports those that have to stay with
// their old code.
func (c *comparer) pairChanged(old, now []closure, candidates []int, pair func(b, n int)) {
	// Wrappers for go and defer and the bodies of range loops over functions
	// belong to a call in progress, whose code they must fit.
	if len(candidates) == 0 || old[0].kind != ".func" {
		return
	}
	var taken []int
	for b := range old {
		var fit []int
		if len(old) == len(candidates) {
			fit = candidates[b : b+1]
		} else {
			for _, n := range candidates {
				if c.misfit(old[b], now[n]) == "" {
					fit = append(fit, n)
				}
			}
		}
		why := ""
		switch {
		case len(fit) == 0:
			why = "no new closure captures what it holds"
		case len(fit) > 1 || slices.Contains(taken, fit[0]):
			why = "closures were added or removed beside it, so that it can't be told which of the new ones continues it"
		default:
			why = c.misfit(old[b], now[fit[0]])
		}
		if why == "" {
			taken = append(taken, fit[0])
			pair(b, fit[0])
		} else {
			c.Findings = append(c.Findings, c.closureFinding(old[b], why))
		}
	}
}

// misfit tells why a live old closure can't run the code of the new one, "" if
// it can: the variables they captured must be the same, as far as DWARF names
// them. One that it does not name, because both only ever use it in memory, is
// told by its place; of two, which is which is not known.
func (c *comparer) misfit(old, now closure) string {
	if why, fixed := c.fixed[old.sym]; fixed {
		return why.Message
	}
	const unknown = "it is not known what it captures"
	b, n := c.debug[0].function(old.name), c.debug[1].function(now.name)
	if b == nil || n == nil {
		return unknown
	}
	if b.params != n.params {
		return "its signature changed"
	}
	if !slices.Equal(b.captured, n.captured) {
		return "what it captures changed"
	}
	oldReads, okb := contextReads(c.base.Content(old.sym))
	newReads, okn := contextReads(c.new.Content(now.sym))
	if !okb || !okn {
		return unknown
	}
	x, y := unexplained(oldReads, b.captured), unexplained(newReads, n.captured)
	switch {
	case len(x) > 1 || len(y) > 1:
		return unknown
	case !slices.Equal(x, y):
		return "what it captures changed"
	}
	return ""
}

func (c *comparer) closureFinding(old closure, why string) finding.Finding {
	return finding.Finding{Code: finding.ClosureCapturesChanged, Severity: finding.Warning, Function: old.name,
		Source:  c.source(c.base, old.sym),
		Message: fmt.Sprintf("closures made before the patch keep running old code: %s", why),
		Advice:  "make the function around it run again, or restart the program, to have new ones"}
}
