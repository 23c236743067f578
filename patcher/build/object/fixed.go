package object

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// callersOfFixed finds the functions of unchanged packages that use functions
// whose entries can't be redirected.
func (c *comparer) callersOfFixed() {
	if len(c.Bypassed) == 0 {
		return
	}
	bypassed := map[int]bool{}
	for _, b := range c.Bypassed {
		bypassed[b.New] = true
	}
	var others []int
	for _, fn := range c.new.Functions {
		if !c.mayDiffer(PackageOf(c.new.Symbols[fn].Name)) {
			others = append(others, fn)
		}
	}
	c.decode(c.new, others)
	for _, fn := range others {
		for _, r := range c.refsOf(c.new, fn) {
			to := r.Symbol
			if f, ok := c.new.carried(r.Target); ok && c.new.Symbols[to].Container {
				to = f
			}
			old, ok := c.Old(fn)
			if !bypassed[to] || !ok {
				continue
			}
			c.Changed = append(c.Changed, Change{Base: old, New: fn, Why: fmt.Sprintf("it uses %s, whose code changed", c.new.Symbols[to].Name)})
			break
		}
	}
}

// bypassFinding reports a function that is reached through its callers. What
// else leads to it would go on to the old code: then it can't be changed.
func (c *comparer) bypassFinding(old, now int, why finding.Finding) finding.Finding {
	f := finding.Finding{Code: why.Code, Severity: finding.Info, Function: c.new.Symbols[now].Name, Source: c.source(c.new, now),
		Message: why.Message + "; its callers are replaced instead, to call the new code", Advice: "nothing, unless the program keeps the function in a variable"}
	if holder := c.base.heldBy(old); holder != "" {
		f.Severity = finding.Error
		f.Message = why.Message + "; and replacing its callers does not do, because " + holder + " leads to it"
		f.Advice = "change what calls it instead, or let it do more, so that its entry has room"
	}
	return f
}

// heldBy says which data leads to a function: an interface's table or a
// variable, "" if there is none.
func (o *Object) heldBy(fn int) string {
	carriers := map[Place]bool{}
	from := func(wanted func(r *Reloc) bool, found func(section int, r *Reloc) string) string {
		for i := range o.Sections {
			s := &o.Sections[i]
			if i == o.Text || s.Flags&elf.SHF_ALLOC == 0 {
				continue
			}
			for k := range s.Relocs {
				if wanted(&s.Relocs[k]) {
					if holder := found(i, &s.Relocs[k]); holder != "" {
						return holder
					}
				}
			}
		}
		return ""
	}
	name := func(section int, r *Reloc) string {
		at := Place{section, r.Offset}
		sym, ok := o.SymbolAt(at)
		switch {
		case !ok:
			return ""
		case o.Symbols[sym].Container:
			carriers[at] = true
			return ""
		case strings.HasPrefix(o.Symbols[sym].Name, "go:itab."):
			return "the interface table " + strings.TrimPrefix(o.Symbols[sym].Name, "go:itab.")
		case o.Symbols[sym].Name == "runtime.pclntab" || o.Symbols[sym].Name == "runtime.findfunctab" || strings.HasPrefix(o.Symbols[sym].Name, "runtime."):
			return ""
		}
		return "the variable or constant " + o.Symbols[sym].Name
	}
	if holder := from(func(r *Reloc) bool { return r.Symbol == fn }, name); holder != "" || len(carriers) == 0 {
		return holder
	}
	own := carriers
	carriers = map[Place]bool{}
	return from(func(r *Reloc) bool { return own[r.Target] }, name)
}
