package object

import (
	"crypto/sha256"
	"debug/dwarf"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// VariableTypes describes the types of the package-level variables of the
// packages, by the variables' symbols. Two variables whose descriptions are
// equal, perhaps of two objects, hold values of the same layout, all the way
// down: whatever the one's code leaves there the other's can read. It fails
// without DWARF.
func (o *Object) VariableTypes(packages map[string]bool) (map[string]string, error) {
	info, err := o.debugInfo()
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, u := range info.units {
		if !packages[u.pkg] {
			continue
		}
		p := &programDebug{funcs: map[string]*funcDebug{}, vars: map[string]dwarf.Offset{}}
		if err := info.readUnit(u, p); err != nil {
			return nil, fmt.Errorf("DWARF of package %s: %w", u.pkg, err)
		}
		for name, typ := range p.vars {
			if types[name], err = info.layout(typ); err != nil {
				return nil, fmt.Errorf("DWARF of the type of %s: %w", name, err)
			}
		}
	}
	return types, nil
}

// layout hashes all of the type at an offset.
func (d *debugInfo) layout(typ dwarf.Offset) (string, error) {
	x := describer{info: d, seen: map[dwarf.Offset]int{}}
	x.describe(typ)
	sum := sha256.Sum256([]byte(x.text.String()))
	return hex.EncodeToString(sum[:16]), x.err
}

// describer writes a type and all that it is made of down, in an order that
// depends on the type only.
type describer struct {
	info *debugInfo
	text strings.Builder
	seen map[dwarf.Offset]int // types that were begun, with their numbers
	err  error
}

// describe adds the type at an offset in the DWARF.
func (d *describer) describe(off dwarf.Offset) {
	if n, ok := d.seen[off]; ok || d.err != nil {
		fmt.Fprintf(&d.text, "#%d\n", n)
		return
	}
	d.seen[off] = len(d.seen)
	r := d.info.data.Reader()
	r.Seek(off)
	e, err := r.Next()
	if err != nil || e == nil {
		d.err = malformed("DWARF: no type at %#x: %v", off, err)
		return
	}
	name, _ := e.Val(dwarf.AttrName).(string)
	fmt.Fprintf(&d.text, "%v %q", e.Tag, name)
	for _, a := range []dwarf.Attr{dwarf.AttrByteSize, dwarf.AttrEncoding, dwarf.AttrCount} {
		fmt.Fprintf(&d.text, " %v", e.Val(a))
	}
	d.text.WriteByte('\n')
	d.methods(name, e)
	for _, a := range []dwarf.Attr{attrGoKey, attrGoElem, dwarf.AttrType} {
		if to, ok := e.Val(a).(dwarf.Offset); ok {
			d.describe(to)
		}
	}
	for e.Children && d.err == nil {
		m, err := r.Next()
		if err != nil {
			d.err = err
		}
		if m == nil || m.Tag == 0 {
			return
		}
		name, _ := m.Val(dwarf.AttrName).(string)
		fmt.Fprintf(&d.text, "%v %q %v %v\n", m.Tag, name, m.Val(dwarf.AttrDataMemberLoc), m.Val(dwarf.AttrCount))
		if to, ok := m.Val(dwarf.AttrType).(dwarf.Offset); ok {
			d.describe(to)
		}
		if m.Children {
			r.SkipChildren()
		}
	}
}

// methods adds an interface's methods: the method tables of its values have
// them in their order.
func (d *describer) methods(name string, e *dwarf.Entry) {
	to, named := e.Val(dwarf.AttrType).(dwarf.Offset)
	if e.Tag != dwarf.TagTypedef || !named {
		return
	}
	r := d.info.data.Reader()
	r.Seek(to)
	def, err := r.Next()
	if err != nil || def == nil {
		d.err = malformed("DWARF: no type at %#x: %v", to, err)
		return
	}
	descriptor, _ := def.Val(attrGoRuntimeType).(uint64)
	if x, ok := d.info.o.describe(descriptor, name); ok && x.iface {
		for _, m := range slices.Sorted(maps.Keys(x.methods)) {
			fmt.Fprintf(&d.text, "method %s %s\n", m, x.methods[m])
		}
	}
}
