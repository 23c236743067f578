package object

import (
	"cmp"
	"debug/dwarf"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Attributes of Go's own: cmd/internal/dwarf/dwarf_defs.go.
const (
	attrGoKey           = dwarf.Attr(0x2901)
	attrGoElem          = dwarf.Attr(0x2902)
	attrGoRuntimeType   = dwarf.Attr(0x2904)
	attrGoDictIndex     = dwarf.Attr(0x2906)
	attrGoClosureOffset = dwarf.Attr(0x2907)
)

// unit is a compile unit of the DWARF: a package's Go code. The types of the
// whole program are in one of package runtime.
type unit struct {
	pkg        string
	start, end dwarf.Offset // of its entries
}

// readUnits lists the compile units by walking their headers, which is much
// faster than reading their entries. After it has seen each unit, d.data is not
// changed by reading any more, and may be read by several goroutines.
func (d *debugInfo) readUnits() ([]unit, error) {
	le := binary.LittleEndian
	var units []unit
	r := d.data.Reader()
	for off := 0; off+12 <= len(d.info); {
		size := int(le.Uint32(d.info[off:]))
		head := 12
		if version := le.Uint16(d.info[off+4:]); version < 5 {
			head = 11
		}
		end := off + 4 + size
		if size < head || end > len(d.info) {
			return nil, malformed("DWARF unit at %#x", off)
		}
		u := unit{start: dwarf.Offset(off + head), end: dwarf.Offset(end)}
		r.Seek(u.start)
		e, err := r.Next()
		if err != nil {
			return nil, malformed("DWARF: %v", err)
		}
		if e != nil && e.Tag == dwarf.TagCompileUnit {
			u.pkg, _ = e.Val(dwarf.AttrName).(string)
			units = append(units, u)
		}
		off = end
	}
	return units, nil
}

// funcDebug is a function's interface with its callers.
type funcDebug struct {
	params   string     // types of parameters and results, in order
	captured []variable // of a closure, as far as it is known
	inlined  []string   // functions whose code is in it
}

// variable is a captured variable. The name of one that is captured by
// reference begins with &.
type variable struct {
	offset, size int64 // in the closure
	name, typ    string
}

// readUnit adds the functions and variables of a package's unit to p.
func (d *debugInfo) readUnit(u unit, p *programDebug) error {
	r := d.data.Reader()
	r.Seek(u.start)
	if _, err := r.Next(); err != nil {
		return err
	}
	origins := map[dwarf.Offset]string{} // abstract functions
	for {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil || e.Offset >= u.end {
			return nil
		}
		switch e.Tag {
		case dwarf.TagVariable:
			name, _ := e.Val(dwarf.AttrName).(string)
			if typ, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && name != "" {
				p.vars[name] = typ
			}
		case dwarf.TagSubprogram:
			name, _ := e.Val(dwarf.AttrName).(string)
			origin, concrete := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
			if concrete {
				name = origins[origin]
			} else {
				origins[e.Offset] = name
			}
			f := &funcDebug{}
			if e.Children {
				if err := d.readFunction(r, f); err != nil {
					return err
				}
			}
			if concrete { // it repeats its origin's parameters, but adds captures
				if known := p.funcs[name]; known != nil {
					known.captured, known.inlined = f.captured, f.inlined
				}
				continue
			}
			p.funcs[name] = f
		default:
			r.SkipChildren()
		}
	}
}

// readFunction reads the children of a function's entry.
func (d *debugInfo) readFunction(r *dwarf.Reader, f *funcDebug) error {
	var params strings.Builder
	seen := map[string]bool{} // a result that lives in two places is there twice
	for depth := 0; ; {
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e != nil && e.Tag == 0 && depth > 0 {
			depth--
			continue
		}
		if e == nil || e.Tag == 0 {
			f.params = params.String()
			slices.SortFunc(f.captured, func(a, b variable) int { return cmp.Compare(a.offset, b.offset) })
			return nil
		}
		if e.Tag == dwarf.TagInlinedSubroutine || e.Tag == dwarf.TagLexDwarfBlock {
			if origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok {
				f.inlined = append(f.inlined, d.typeName(origin))
			}
			if e.Children {
				depth++
			}
			continue
		}
		typ, _ := e.Val(dwarf.AttrType).(dwarf.Offset)
		switch {
		case depth > 0:
		case e.Tag == dwarf.TagFormalParameter:
			name, _ := e.Val(dwarf.AttrName).(string)
			if typ == 0 || seen[name] {
				break
			}
			seen[name] = true
			result, _ := e.Val(dwarf.AttrVarParam).(bool)
			fmt.Fprintf(&params, "%v %s\n", result, d.typeName(typ))
		case e.Tag == dwarf.TagVariable:
			if off, ok := e.Val(attrGoClosureOffset).(int64); ok {
				name, _ := e.Val(dwarf.AttrName).(string)
				f.captured = append(f.captured, variable{off, d.typeSize(typ), name, d.typeName(typ)})
			}
		}
		if e.Children {
			r.SkipChildren()
		}
	}
}

// typeName returns the full link name of the type described at off, which
// tells types apart but for a named type's definition. Types declared in
// functions are told by their definition, not by their number.
func (d *debugInfo) typeName(off dwarf.Offset) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nameOf(off)
}

// nameOf is typeName with d.mu held.
func (d *debugInfo) nameOf(off dwarf.Offset) string {
	if name, ok := d.names[off]; ok {
		return name
	}
	name := "?"
	r := d.data.Reader()
	r.Seek(off)
	if e, err := r.Next(); err == nil && e != nil {
		if n, ok := e.Val(dwarf.AttrName).(string); ok {
			name = n
			if to, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && e.Val(attrGoDictIndex) != nil {
				// A type parameter: what it stands for tells.
				r.Seek(to)
				if e, err := r.Next(); err == nil && e != nil {
					name, _ = e.Val(dwarf.AttrName).(string)
				}
			}
		} else if to, ok := e.Val(dwarf.AttrType).(dwarf.Offset); ok && e.Tag == dwarf.TagPointerType {
			r.Seek(to)
			if e, err := r.Next(); err == nil && e != nil {
				n, _ := e.Val(dwarf.AttrName).(string)
				name = "*" + n
			}
		}
	}
	name = d.defineLocals(name)
	d.names[off] = name
	return name
}

// localType matches the link name of a type that is declared in a function: the
// compiler numbers those of a package.
var localType = regexp.MustCompile(`[^\s\[\](){},*;]+·[0-9]+`)

// defineLocals replaces the numbers in a type's name by definitions.
func (d *debugInfo) defineLocals(name string) string {
	if !strings.Contains(name, "·") {
		return name
	}
	return localType.ReplaceAllStringFunc(name, func(local string) string {
		bare, _, _ := strings.Cut(local, "·")
		typ, known := d.locals()[local]
		if !known || typ.busy {
			return bare + "·" // it refers to itself
		}
		typ.busy = true
		definition, err := d.definitionOf(typ.definition)
		typ.busy = false
		if err != nil {
			return local
		}
		return fmt.Sprintf("%s·{%s %q}", bare, definition.layout, definition.members)
	})
}

// typeSize returns the size in bytes of the type described at off, 0 if it is
// not known.
func (d *debugInfo) typeSize(off dwarf.Offset) int64 {
	r := d.data.Reader()
	for range 8 { // typedefs of typedefs
		r.Seek(off)
		e, err := r.Next()
		if err != nil || e == nil {
			return 0
		}
		if size, ok := e.Val(dwarf.AttrByteSize).(int64); ok {
			return size
		}
		to, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if e.Tag != dwarf.TagTypedef || !ok {
			return 8 // a pointer, map, channel or function
		}
		off = to
	}
	return 0
}

// namedType is a named type's definition.
type namedType struct {
	layout     string
	members    []string // a struct's fields, in their order
	descriptor uint64   // address of its type descriptor, 0 if it has none
}

// namedTypes reads the definitions of the named types that want wants. Types
// in functions are left out: their names are numbered by their order.
func (d *debugInfo) namedTypes(want func(name string) bool) (map[string]namedType, error) {
	typedefs, err := d.typedefs()
	if err != nil {
		return nil, err
	}
	types := map[string]namedType{}
	for _, t := range typedefs {
		if !strings.Contains(t.name, "·") && want(t.name) {
			if types[t.name], err = d.definition(t.definition); err != nil {
				return nil, fmt.Errorf("DWARF of type %s: %w", t.name, err)
			}
		}
	}
	return types, nil
}

// typedef is an entry that names a type.
type typedef struct {
	name       string
	definition any // the entry's dwarf.AttrType
}

// readTypedefs lists the entries that name types: all are in one unit, the
// largest by far.
func (d *debugInfo) readTypedefs() (typedefs []typedef, err error) {
	for _, u := range d.units {
		if u.pkg != "runtime" {
			continue
		}
		r := d.data.Reader()
		r.Seek(u.start)
		if _, err := r.Next(); err != nil {
			return nil, err
		}
		for {
			e, err := r.Next()
			if err != nil {
				return nil, err
			}
			if e == nil || e.Offset >= u.end {
				break
			}
			if name, ok := e.Val(dwarf.AttrName).(string); ok && e.Tag == dwarf.TagTypedef && e.Val(attrGoRuntimeType) == nil {
				typedefs = append(typedefs, typedef{name, e.Val(dwarf.AttrType)})
			}
			if e.Children {
				r.SkipChildren()
			}
		}
	}
	return typedefs, nil
}

// local is a type declared in a function.
type local struct {
	definition any  // the entry's dwarf.AttrType
	busy       bool // it is being described
}

// locals returns the types declared in functions, by their link names. d.mu
// must be held.
func (d *debugInfo) locals() map[string]*local {
	if d.localTypes != nil {
		return d.localTypes
	}
	d.localTypes = map[string]*local{}
	typedefs, _ := d.typedefs() // else their numbers tell them apart
	for _, t := range typedefs {
		if strings.Contains(t.name, "·") {
			d.localTypes[t.name] = &local{definition: t.definition}
		}
	}
	return d.localTypes
}

// localTypeAt is a type declared in a function.
type localTypeAt struct {
	number int
	layout string
	name   string
}

// LocalTypes returns the descriptors of the types that are declared in
// functions, with the number that is a part of their name in this object only.
func (o *Object) LocalTypes() (map[Place]int, error) {
	locals, err := o.readLocals()
	numbers := make(map[Place]int, len(locals))
	for p, l := range locals {
		numbers[p] = l.number
	}
	return numbers, err
}

// readLocals finds them, once.
func (o *Object) readLocals() (map[Place]localTypeAt, error) {
	d, err := o.debugInfo()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.localsAt != nil {
		return d.localsAt, nil
	}
	found := map[Place]localTypeAt{}
	for name, local := range d.locals() {
		t, err := d.definitionOf(local.definition)
		if err != nil {
			return nil, err
		}
		bare, number, _ := strings.Cut(name, "·")
		n, err := strconv.Atoi(number)
		if err != nil {
			continue // an instance of a generic type, which has them in its name
		}
		if p, ok := o.descriptorAt(t.descriptor, bare); ok {
			found[p] = localTypeAt{n, t.layout, bare}
		}
	}
	d.localsAt = found
	return found, nil
}

// describeLocal describes the type at a place if it is one declared in a
// function, by all that makes it another type.
func (o *Object) describeLocal(p Place) (description string, ok bool) {
	locals, err := o.readLocals()
	if err != nil {
		return "", false
	}
	local, ok := locals[p]
	if !ok {
		return "", false
	}
	d, _ := o.describeAt(p)
	return local.name + " " + local.layout + " " + d.fields, true
}

// definition describes the type at an offset one level deep: the types in it
// stand for themselves by their names.
func (d *debugInfo) definition(at any) (t namedType, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.definitionOf(at)
}

// definitionOf is definition with d.mu held.
func (d *debugInfo) definitionOf(at any) (t namedType, err error) {
	off, ok := at.(dwarf.Offset)
	if !ok {
		return t, nil
	}
	r := d.data.Reader()
	r.Seek(off)
	e, err := r.Next()
	if err != nil || e == nil {
		return t, err
	}
	var layout strings.Builder
	size, _ := e.Val(dwarf.AttrByteSize).(int64)
	fmt.Fprintf(&layout, "%v %d", e.Tag, size)
	t.descriptor, _ = e.Val(attrGoRuntimeType).(uint64)
	for _, a := range []dwarf.Attr{dwarf.AttrEncoding, dwarf.AttrCount} {
		if v := e.Val(a); v != nil {
			fmt.Fprintf(&layout, " %v", v)
		}
	}
	for _, a := range []dwarf.Attr{dwarf.AttrType, attrGoKey, attrGoElem} {
		if to, ok := e.Val(a).(dwarf.Offset); ok {
			fmt.Fprintf(&layout, " %s", d.nameOf(to))
		}
	}
	for e.Children {
		m, err := r.Next()
		if err != nil {
			return t, err
		}
		if m == nil || m.Tag == 0 {
			break
		}
		typ, _ := m.Val(dwarf.AttrType).(dwarf.Offset)
		at, _ := m.Val(dwarf.AttrDataMemberLoc).(int64)
		count, _ := m.Val(dwarf.AttrCount).(int64)
		name, _ := m.Val(dwarf.AttrName).(string)
		t.members = append(t.members, name)
		fmt.Fprintf(&layout, "; %d %s %d", at, d.nameOf(typ), count)
		if m.Children {
			r.SkipChildren()
		}
	}
	t.layout = layout.String()
	return t, nil
}
