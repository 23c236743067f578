package object

import (
	"go/ast"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/source"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/redirect"
)

// effects reports the functions that the source changes and the program does
// not, or not as one may think.
func (c *comparer) effects() {
	for _, change := range c.Changed {
		c.staysInside(change)
	}
	for _, pkg := range c.opt.Edited {
		edit := c.sourceOf(pkg)
		if edit == nil {
			continue
		}
		here := c.compiled(pkg)
		for _, f := range edit.Functions {
			if !f.Gone && !here.replaced[f.Name] && !c.initialises(f) {
				c.withoutCode(pkg, f, here)
			}
		}
	}
}

// initialises tells whether the initial value of a new variable may be made with
// a function.
func (c *comparer) initialises(f source.Function) bool {
	return slices.ContainsFunc(c.opt.Edited, func(pkg string) bool {
		e := c.sourceOf(pkg)
		return e != nil && e.Initialises(word(f))
	})
}

// compiled is what became of a package's functions, by their names in source.
type compiled struct {
	replaced map[string]bool // changed or new, or something in it is
	present  map[string]bool // in the new program
}

func (c *comparer) compiled(pkg string) compiled {
	here := compiled{map[string]bool{}, map[string]bool{}}
	for _, fn := range c.new.Functions {
		if name := c.new.Symbols[fn].Name; PackageOf(name) == pkg {
			here.present[SourceName(name)] = true
		}
	}
	for _, change := range c.Changed {
		if name := c.new.Symbols[change.New].Name; PackageOf(name) == pkg {
			here.replaced[SourceName(name)] = true
		}
	}
	for _, fn := range c.Added {
		if name := c.new.Symbols[fn].Name; PackageOf(name) == pkg {
			here.replaced[SourceName(name)] = true
		}
	}
	return here
}

// withoutCode says of a function that the source changes why it is not among
// those that are replaced.
func (c *comparer) withoutCode(pkg string, f source.Function, here compiled) {
	name := SymbolPrefix(pkg) + f.Name
	report := func(severity finding.Severity, message, advice string) {
		c.Findings = append(c.Findings, finding.Finding{Code: finding.NoChange, Severity: severity, Function: name, Source: f.String(), Message: message, Advice: advice})
	}
	callers := c.inlinedIn(pkg, f)
	switch {
	case here.present[f.Name]:
		report(finding.Info, "the source of the function changed and its code did not: there is nothing to replace", "nothing needs to be done")
	case len(callers) > 0:
		report(finding.Info, "the program has the function only inlined: it changes with "+strings.Join(callers, ", "), "nothing needs to be done")
	case f.New:
		report(finding.Info, "the function is new, and nothing in the program uses it", "call it from a function that the program uses")
	default:
		report(finding.Warning, "the change has no effect: no code of the program changes with the function, because the program does not use it or it is the same code where it is inlined",
			"edit a function that the program uses")
	}
}

// inlinedIn returns the functions that change because a function is inlined in
// them, in order. Where nothing but its result is left of it, DWARF does not say
// so: a function that has its name in its source counts as well.
func (c *comparer) inlinedIn(pkg string, f source.Function) []string {
	var callers []string
	note := func(fn int) {
		name := c.new.Symbols[fn].Name
		if strings.Contains(name, ".darnInit") {
			return
		}
		debug := c.debug[1].function(name)
		if debug != nil && slices.ContainsFunc(debug.inlined, func(in string) bool { return PackageOf(in) == pkg && SourceName(in) == f.Name }) ||
			(PackageOf(name) == pkg || ast.IsExported(word(f))) && c.mentions(name, word(f)) {
			callers = append(callers, name)
		}
	}
	for _, change := range c.Changed {
		note(change.New)
	}
	for _, fn := range c.Added {
		note(fn)
	}
	slices.Sort(callers)
	return slices.Compact(callers)
}

// mentions tells whether the source of a function has a word. The source of its
// package is read for this.
func (c *comparer) mentions(name, word string) bool {
	edit := c.sourceOf(PackageOf(name))
	return edit != nil && edit.Mentions(SourceName(name), word)
}

// word is the name of a function or method alone.
func word(f source.Function) string { return f.Name[strings.LastIndexByte(f.Name, '.')+1:] }

// SourceName returns the name that the source gives a function, or the one that
// a closure is in, as source.Edit has it: without package and type arguments.
func SourceName(symbol string) string {
	for {
		outer, _, _, ok := closureName(symbol)
		if !ok {
			break
		}
		symbol = outer
	}
	symbol = strings.TrimSuffix(symbol, "-fm")
	if i := strings.IndexByte(symbol, '['); i >= 0 { // arguments nest, and hold slashes
		if j := strings.LastIndexByte(symbol, ']'); j > i {
			symbol = symbol[:i] + symbol[j+1:]
		}
	}
	symbol = symbol[strings.LastIndexByte(symbol, '/')+1:]
	_, name, _ := strings.Cut(symbol, ".")
	return name
}

// staysInside reports a changed function in which calls may go on for good.
func (c *comparer) staysInside(change Change) {
	name := c.base.Symbols[change.Base].Name
	message := ""
	switch edit := c.sourceOf(PackageOf(name)); {
	case name == "main.main":
		message = "the program calls it once, when it starts: that call goes on in the old code"
	case c.neverReturns(change.Base):
		message = "the function never returns: calls that are under way go on in the old code for good"
	case edit != nil && !isClosure(name) && edit.Endless(SourceName(name)):
		message = "the function's body is a loop without a condition: calls that are under way go on in the old code until something in the loop ends it"
	default:
		return
	}
	c.Findings = append(c.Findings, finding.Finding{Code: finding.NeverReturns, Severity: finding.Warning, Function: c.new.Symbols[change.New].Name,
		Source: c.source(c.new, change.New), Message: message,
		Advice: "move what is to change into a function of its own that is called again and again; only the next patch of that one is effective at once"})
}

// neverReturns tells whether nothing in a function's code leaves it, though it
// loops or waits. Code that can't be decoded is taken to return.
func (c *comparer) neverReturns(fn int) bool {
	code, start := c.base.Content(fn), c.base.Symbols[fn].Offset
	refs, err := redirect.Refs(code, start)
	if err != nil {
		return false
	}
	stays := false
	for _, r := range refs {
		switch inside := r.Target >= start && r.Target < start+uint64(len(code)); {
		case r.Kind == redirect.Jump && !inside:
			return false
		case (r.Kind == redirect.Jump || r.Kind == redirect.Cond) && r.Target > start && r.Target <= start+uint64(r.Offset):
			stays = true // a jump to the start follows the growth of the stack
		}
	}
	for at := 0; at < len(code); {
		n, err := redirect.Length(code[at:])
		if err != nil {
			return false
		}
		if op := code[at]; op == 0xc3 || op == 0xff && n > 1 && code[at+1]>>3&7 == 4 { // ret, jmp through a pointer
			return false
		}
		at += n
	}
	for _, r := range c.refsOf(c.base, fn) {
		stays = stays || c.base.Symbols[r.Symbol].Name == "runtime.block"
	}
	return stays
}

// noChangeReason says why there is nothing to replace.
func (c *comparer) noChangeReason() string {
	differs := false
	for _, pkg := range c.opt.Edited {
		e := c.sourceOf(pkg)
		differs = differs || e == nil || len(e.Functions)+len(e.Values)+len(e.Variables)+len(e.Effects)+len(e.Inits)+len(e.GoneInits) > 0
	}
	switch {
	case c.opt.Edited != nil && len(c.opt.Edited) == 0:
		return "no source file of the program differs"
	case c.opt.Edited != nil && !differs:
		return "only comments, or declarations that no code of the program depends on, differ"
	case len(c.Findings) > 0:
		return "only what the other findings name differs"
	case len(c.changed) == 0:
		return "the compiled packages are the same in base and new"
	case len(c.Added) > 0 || len(c.Removed) > 0:
		return "functions were added or removed that nothing in it calls"
	}
	return "only comments, line numbers or code that it does not use differ"
}
