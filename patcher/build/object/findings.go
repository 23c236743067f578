package object

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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
}

func (c *comparer) compareType(name string, old, now namedType) {
	report := func(code finding.Code, severity finding.Severity, message, advice string) {
		c.Findings = append(c.Findings, finding.Finding{Code: code, Severity: severity, Function: name,
			Source: c.declarations.find(name), Message: message, Advice: advice})
	}
	if old.layout != now.layout {
		report(finding.TypeLayoutChanged, finding.Error, "the type's layout changed: values that live in the program have the old one",
			"keep the type as it is and add a new one, or restart the program")
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
			Source: c.declarations.find(name), Message: message, Advice: advice})
	}
	was, is := c.debug[0].info.typeName(c.debug[0].vars[name]), c.debug[1].info.typeName(c.debug[1].vars[name])
	if was != is {
		report(finding.GlobalChanged, finding.Error, fmt.Sprintf("the variable's type was %s and is %s: the program has the old one", was, is),
			"give the variable of the new type another name")
		return
	}
	b, okb := c.base.Lookup(name)
	n, okn := c.new.Lookup(name)
	if okb && okn && !c.new.Symbols[n].layoutDependent() && c.base.Symbols[b].Size == c.new.Symbols[n].Size && !c.paired.symbols(b, n) {
		report(finding.InitialValueChanged, finding.Warning, "the variable's initial value changed: the program's variable keeps the value it has",
			"set the variable in changed code, or restart the program")
	}
}

func (c *comparer) initFinding(now int, why string) finding.Finding {
	var fresh []string // variables that only new has
	for _, r := range c.refsOf(c.new, now) {
		s := &c.new.Symbols[r.Symbol]
		if _, ok := c.debug[1].vars[s.Name]; ok && len(c.base.byName[s.Name]) == 0 && !slices.Contains(fresh, s.Name) {
			fresh = append(fresh, s.Name)
		}
	}
	source := c.source(c.new, now)
	if len(fresh) > 0 {
		source = c.declarations.find(fresh[0])
	}
	message := "initialisation changed, and is not run again: " + why
	if len(fresh) > 0 {
		message += "; it sets the new " + strings.Join(fresh, ", ")
	}
	return finding.Finding{Code: finding.InitChanged, Severity: finding.Error, Function: c.new.Symbols[now].Name, Source: source,
		Message: message, Advice: "initialise where the value is first used, or restart the program"}
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
