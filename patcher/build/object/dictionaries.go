package object

import "strings"

// changedDictionaries returns the generic functions and types of which an
// instance's dictionary, which callers pass, differs from base to new.
func (c *comparer) changedDictionaries() map[string]bool {
	changed := map[string]bool{}
	same := c.equality(nil, nil)
	for n := range c.new.Symbols {
		name := c.new.Symbols[n].Name
		generic, ok := dictionaryOf(name)
		if !ok || same.settled(PackageOf(name)) {
			continue
		}
		if b, ok := c.base.Lookup(name); ok && !same.symbols(b, n) {
			changed[generic] = true
		}
	}
	return changed
}

// dictionaryOf returns the generic function or type that a dictionary
// pkg..dict.F[T] belongs to, as pkg.F.
func dictionaryOf(name string) (string, bool) {
	pkg, rest, ok := strings.Cut(name, "..dict.")
	if !ok {
		return "", false
	}
	generic, _, _ := strings.Cut(rest, "[")
	return pkg + "." + generic, true
}

// genericName returns the generic function or type that an instance belongs to:
// pkg.F of pkg.F[T], pkg.T of pkg.(*T[T]).M.
func genericName(name string) string {
	name, _, _ = strings.Cut(name, "[")
	return strings.Replace(name, ".(*", ".", 1)
}
