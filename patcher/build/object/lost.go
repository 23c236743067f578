package object

import (
	"slices"
	"strings"
)

// findLost finds what Diff.Lost has. renewed are the functions of base that
// callers must not reach any more, by name.
func (c *comparer) findLost(renewed map[string]string) {
	c.Lost = map[int][]int{}
	owner := map[string]int{} // the changed function by the name of the old one, or of one that only it leads to
	for _, change := range c.Changed {
		owner[c.base.Symbols[change.Base].Name] = change.Base
	}
	var lost []int
	for name := range renewed {
		for _, fn := range c.base.byName[name] {
			if caller, ok := c.user(int(fn)); ok {
				owner[name] = caller
				lost = append(lost, int(fn))
			}
		}
	}
	lost = append(lost, c.Removed...)
	slices.Sort(lost)
	for _, fn := range lost {
		name := c.base.Symbols[fn].Name
		if in, ok := owner[name]; ok {
			c.Lost[in] = append(c.Lost[in], fn)
			continue
		}
		for outer := name; isClosure(name) && outer != ""; {
			outer = outer[:max(strings.LastIndexAny(outer, ".-"), 0)]
			if in, ok := owner[outer]; ok {
				c.Lost[in] = append(c.Lost[in], fn)
				break
			}
		}
	}
}

// user returns a changed function whose old code uses a function of base.
func (c *comparer) user(fn int) (baseFn int, ok bool) {
	for _, change := range c.Changed {
		for _, r := range c.refsOf(c.base, change.Base) {
			to := r.Symbol
			if f, ok := c.base.carried(r.Target); ok && c.base.Symbols[to].Container {
				to = f
			}
			if to == fn {
				return change.Base, true
			}
		}
	}
	return 0, false
}
