package object

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/source"
	"github.com/darn-dev/darn/patcher/finding"
)

// findings reports what a patch can't bring into a running program although
// the source says it: it compares types and variables.
func (c *comparer) findings() {
	for _, name := range slices.Sorted(maps.Keys(c.debug[1].types)) {
		if old, ok := c.debug[0].types[name]; ok {
			c.compareType(name, old, c.debug[1].types[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.debug[1].vars)) {
		if _, ok := c.debug[0].vars[name]; ok {
			c.compareVariable(name)
		}
	}
	for _, pkg := range c.changed {
		c.compareInit(pkg)
	}
}

// declared returns file:line of a type or variable of new, "" if unknown.
func (c *comparer) declared(name string) string {
	pkg := PackageOf(name)
	edit := c.sourceOf(pkg)
	if edit == nil {
		return ""
	}
	return edit.Find(bareName(name)).String()
}

func (c *comparer) compareType(name string, old, now namedType) {
	report := func(code finding.Code, severity finding.Severity, message, advice string) {
		c.Findings = append(c.Findings, finding.Finding{Code: code, Severity: severity, Function: name,
			Source: c.declared(name), Message: message, Advice: advice})
	}
	if old.layout != now.layout {
		report(finding.TypeLayoutChanged, finding.Error, "the type's layout changed: values that live in the program have the old one",
			"keep the type as it is and add a new one, or restart the program")
		return
	}
	if moved := moved(old.members, now.members); moved != "" {
		report(finding.TypeLayoutChanged, finding.Error, "the type's layout changed: field "+moved+" is where another field was, of which values that live in the program have something there",
			"keep the order of the fields and add new ones in a type of their own, or restart the program")
		return
	}
	x, okx := c.base.describe(old.descriptor, name)
	y, oky := c.new.describe(now.descriptor, name)
	if !okx || !oky {
		return
	}
	if x.fields != y.fields {
		report(finding.TypeLayoutChanged, finding.Warning,
			"the type's field names or tags changed: the program keeps the old ones, which reflection (encoding/json, fmt) goes by",
			"restart the program if that matters")
	}
	if x.iface && y.iface && !maps.Equal(x.methods, y.methods) {
		report(finding.MethodSetChanged, finding.Error,
			"the interface's methods changed"+methodsChanged(x, y)+": values of it that live in the program have method tables of the old ones, in their order",
			"declare a new interface and use it in changed code, or restart the program")
		return
	}
	for _, m := range slices.Sorted(maps.Keys(y.methods)) {
		switch typ, ok := x.methods[m]; {
		case !ok:
			report(finding.MethodSetChanged, finding.Warning, fmt.Sprintf("the method %s is new: type assertions and reflection in the program don't know of it", m),
				"call it directly, or convert to the interface in changed code")
		case typ != "" && y.methods[m] != "" && typ != y.methods[m]:
			report(finding.MethodSetChanged, finding.Error, fmt.Sprintf("the signature of the method %s changed: interfaces and method tables in the program have the old one", m),
				"give the new method another name, or restart the program")
		}
	}
	for _, m := range slices.Sorted(maps.Keys(x.methods)) {
		if _, ok := y.methods[m]; !ok {
			report(finding.MethodSetChanged, finding.Warning, fmt.Sprintf("the method %s is gone: the program's type still has it", m),
				"restart the program if that matters")
		}
	}
}

// moved returns a field that is at another place in the list, "" if there is
// none: one that has another name only is no such.
func moved(was, is []string) string {
	for i, name := range is {
		if at := slices.Index(was, name); at >= 0 && at != i && name != "_" {
			return name
		}
	}
	return ""
}

// methodsChanged lists in words how the methods of y differ from those of x.
func methodsChanged(x, y descriptor) string {
	var words strings.Builder
	for _, m := range slices.Sorted(maps.Keys(y.methods)) {
		switch typ, ok := x.methods[m]; {
		case !ok:
			fmt.Fprintf(&words, ", %s is new", m)
		case typ != y.methods[m]:
			fmt.Fprintf(&words, ", %s has another signature", m)
		}
	}
	for _, m := range slices.Sorted(maps.Keys(x.methods)) {
		if _, ok := y.methods[m]; !ok {
			fmt.Fprintf(&words, ", %s is gone", m)
		}
	}
	return words.String()
}

func (c *comparer) compareVariable(name string) {
	report := func(code finding.Code, severity finding.Severity, message, advice string) {
		c.Findings = append(c.Findings, finding.Finding{Code: code, Severity: severity, Function: name,
			Source: c.declared(name), Message: message, Advice: advice})
	}
	was, is := c.debug[0].info.typeName(c.debug[0].vars[name]), c.debug[1].info.typeName(c.debug[1].vars[name])
	if was != is {
		report(finding.GlobalChanged, finding.Error, fmt.Sprintf("the variable's type was %s and is %s: the program has the old one", was, is),
			"give the variable of the new type another name")
		return
	}
	b, okb := c.base.Lookup(name)
	n, okn := c.new.Lookup(name)
	if c.newValue(name) {
		return // said by compareInit
	}
	if okb && okn && !c.new.Symbols[n].layoutDependent() && c.base.Symbols[b].Size == c.new.Symbols[n].Size && !c.paired.symbols(b, n) {
		report(finding.InitialValueChanged, finding.Warning, "the variable's initial value changed: the program's variable keeps the value it has",
			"set the variable in changed code, or restart the program")
	}
}

// newValue tells whether the source gives another initial value to a variable.
func (c *comparer) newValue(name string) bool {
	edit := c.sourceOf(PackageOf(name))
	return edit != nil && slices.ContainsFunc(edit.Values, func(p source.Place) bool { return p.Name == bareName(name) })
}

// compareInit reports what the source of a package initialises otherwise than
// it did: that has run, and does not run again. A new variable is no matter: it
// is the patch that initialises it, or else emit refuses it.
func (c *comparer) compareInit(pkg string) {
	edit := c.sourceOf(pkg)
	report := func(code finding.Code, severity finding.Severity, function, source, message, advice string) {
		c.Findings = append(c.Findings, finding.Finding{Code: code, Severity: severity, Function: function, Source: source, Message: message, Advice: advice})
	}
	const advice = "do it where its effect is first needed, in a changed function, or restart the program"
	if edit == nil {
		for _, x := range c.inits[pkg] {
			report(finding.InitChanged, finding.Error, c.new.Symbols[x.fn].Name, c.source(c.new, x.fn),
				"initialisation changed, and is not run again: "+x.why, advice)
		}
		return
	}
	prefix := SymbolPrefix(pkg)
	for _, p := range edit.Inits {
		report(finding.InitChanged, finding.Error, prefix+p.Name, p.String(),
			"this func init is new or changed: the package was initialised when the program started, and is not initialised again", advice)
	}
	for _, p := range edit.GoneInits {
		report(finding.InitChanged, finding.Warning, prefix+p.Name, p.String(),
			"this func init is gone: what it did when the program started stays done",
			"undo it in a changed function, or restart the program, if that matters")
	}
	for _, p := range edit.Values {
		report(finding.InitialValueChanged, finding.Warning, prefix+p.Name, p.String(),
			"the variable's initial value changed: the program's variable keeps the value it has", "set the variable in changed code, or restart the program")
	}
	for _, p := range edit.Effects {
		report(finding.InitChanged, finding.Warning, prefix+"_", p.String(),
			"the initial value of a new variable without a name is not computed: what computing it does is not done", advice)
	}
	functions, values := len(edit.Inits)+len(edit.GoneInits), len(edit.Values)+len(edit.Variables)+len(edit.Effects)
	for _, x := range c.inits[pkg] {
		name := c.new.Symbols[x.fn].Name
		if numbered := initNumber.MatchString(name) && !strings.Contains(name, ".map."); numbered && functions > 0 || !numbered && values > 0 {
			continue // which is why the code differs
		}
		report(finding.InitChanged, finding.Warning, name, c.source(c.new, x.fn),
			"initialisation uses code that changed; it ran with the old code when the program started, and is not run again: "+x.why,
			"set in changed code what it should have set, or restart the program, if that matters")
	}
}

func (c *comparer) signatureFinding(now int) finding.Finding {
	return finding.Finding{Code: finding.SignatureChanged, Severity: finding.Warning, Function: c.new.Symbols[now].Name, Source: c.source(c.new, now),
		Message: "the signature changed: it is a new function, for callers that are replaced as well; function values that live call the old one",
		Advice:  "nothing, unless the program keeps the function in a variable"}
}

func (c *comparer) dictionaryFinding(now int) finding.Finding {
	return finding.Finding{Code: finding.GenericDictionaryChanged, Severity: finding.Warning, Function: c.new.Symbols[now].Name, Source: c.source(c.new, now),
		Message: "what the generic function needs to know of its type arguments changed: it is a new function, for callers that are replaced as well",
		Advice:  "nothing, unless the program keeps the function in a variable"}
}

// source returns file:line of a function, "" if unknown.
func (c *comparer) source(o *Object, fn int) string {
	file, line, err := o.Source(fn)
	if err != nil || strings.HasPrefix(file, "<") { // <autogenerated>
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}
