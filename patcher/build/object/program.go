package object

import (
	"debug/dwarf"
	"fmt"
)

// programDebug is what the DWARF says of the packages that differ.
type programDebug struct {
	info  *debugInfo
	funcs map[string]*funcDebug   // by symbol name
	vars  map[string]dwarf.Offset // of their type, by symbol name
	types map[string]namedType
}

// readProgramDebug reads it for the packages that are wanted, and of types for
// those that may differ: a package of types only has no symbol.
func readProgramDebug(o *Object, wanted, mayDiffer func(pkg string) bool) (*programDebug, error) {
	info, err := o.debugInfo()
	if err != nil {
		return nil, err
	}
	p := &programDebug{info: info, funcs: map[string]*funcDebug{}, vars: map[string]dwarf.Offset{}}
	for _, u := range info.units {
		if !wanted(u.pkg) {
			continue
		}
		if err := info.readUnit(u, p); err != nil {
			return nil, fmt.Errorf("DWARF of package %s: %w", u.pkg, err)
		}
	}
	p.types, err = info.namedTypes(func(name string) bool {
		pkg := PackageOf(name)
		return pkg != "" && mayDiffer(pkg)
	})
	return p, err
}

// function returns what is known of a function, by its symbol; nil if nothing.
func (p *programDebug) function(name string) *funcDebug {
	if p == nil {
		return nil
	}
	return p.funcs[name]
}
