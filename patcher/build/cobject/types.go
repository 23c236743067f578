package cobject

import (
	"cmp"
	"debug/dwarf"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/darn-dev/darn/patcher/finding"
)

// Declared is what the debugging information of an object says of its source.
type Declared struct {
	// Types are structures, unions, classes and enumerations by what people call
	// them; Functions and Variables are by the names of their symbols.
	Types                map[string]Type
	Functions, Variables map[string]Thing
}

// Source returns file:line of a function or variable by the name of its symbol, ""
// if it is not known.
func (d *Declared) Source(name string) string {
	if x, ok := d.Functions[name]; ok {
		return x.Source
	}
	if x, ok := d.Variables[name]; ok {
		return x.Source
	}
	// Static functions in a namespace have no name of a symbol here.
	plain := demangle.Filter(name, demangle.NoParams, demangle.NoTemplateParams)
	if plain == name {
		return ""
	}
	return d.Functions[plain[strings.LastIndexByte(plain, ':')+1:]].Source
}

// Type is the layout of a type.
type Type struct {
	Size    int64 // bytes
	Members []Member
	Source  string // file:line
}

// Member is a member of a structure, a base class, or a value of an enumeration.
type Member struct {
	Name string
	At   string // where it is, or the value
	Type string
}

// Thing is a function or a variable.
type Thing struct {
	Type   string
	Source string // file:line
}

// declarations reads debugging information.
type declarations struct {
	d     *dwarf.Data
	out   *Declared
	files []*dwarf.LineFile
	depth int
}

// Declared reads the object's debugging information, without which it is not known
// what an edit does to the data of the program.
func (o *Object) Declared() (out *Declared, err error) {
	out = &Declared{Types: map[string]Type{}, Functions: map[string]Thing{}, Variables: map[string]Thing{}}
	d := o.DWARF()
	if d == nil {
		return nil, fmt.Errorf("%s: the compiler has written no debugging information, or none that can be read", o)
	}
	defer func() { // debug/dwarf may panic on what is damaged
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: its debugging information is damaged: %v", o, r)
		}
	}()
	x := &declarations{d: d, out: out}
	r := d.Reader()
	for {
		unit, err := r.Next()
		if unit == nil || err != nil {
			return out, err
		}
		if unit.Tag != dwarf.TagCompileUnit {
			r.SkipChildren()
			continue
		}
		x.files = nil
		if l, err := d.LineReader(unit); err == nil && l != nil {
			x.files = l.Files()
		}
		x.scope(r, "")
	}
}

// scope reads the children of the entry that r has just read.
func (x *declarations) scope(r *dwarf.Reader, within string) {
	for {
		e, err := r.Next()
		if e == nil || err != nil || e.Tag == 0 {
			return
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		declared, _ := e.Val(dwarf.AttrDeclaration).(bool)
		switch e.Tag {
		case dwarf.TagNamespace:
			if e.Children {
				x.scope(r, within+cmp.Or(name, "(anonymous)")+"::")
			}
			continue
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType:
			if !declared && name != "" {
				x.out.Types[kind(e.Tag)+within+name] = x.layout(e)
			}
			if e.Children && name != "" && e.Tag != dwarf.TagEnumerationType {
				x.scope(r, within+name+"::")
				continue
			}
		case dwarf.TagTypedef:
			if t := x.typeEntry(e); t != nil && t.Val(dwarf.AttrName) == nil && kind(t.Tag) != "" {
				x.out.Types[within+name] = x.layout(t)
			}
		case dwarf.TagSubprogram:
			if !declared && e.Val(dwarf.AttrAbstractOrigin) == nil {
				spec := x.specification(e)
				if link := linkName(e, spec); link != "" {
					x.out.Functions[link] = Thing{x.signature(e, spec), x.source(e, spec)}
				}
			}
		case dwarf.TagVariable:
			if !declared {
				spec := x.specification(e)
				if link := linkName(e, spec); link != "" {
					x.out.Variables[link] = Thing{x.name(x.typeEntry(cmp.Or(spec, e))), x.source(e, spec)}
				}
			}
		}
		if e.Children {
			r.SkipChildren()
		}
	}
}

func kind(t dwarf.Tag) string {
	switch t {
	case dwarf.TagStructType, dwarf.TagClassType:
		return "struct "
	case dwarf.TagUnionType:
		return "union "
	case dwarf.TagEnumerationType:
		return "enum "
	}
	return ""
}

// specification returns the declaration that an entry is the definition of, nil
// if there is none.
func (x *declarations) specification(e *dwarf.Entry) *dwarf.Entry {
	at, ok := e.Val(dwarf.AttrSpecification).(dwarf.Offset)
	if !ok {
		return nil
	}
	return x.at(at)
}

func (x *declarations) at(offset dwarf.Offset) *dwarf.Entry {
	r := x.d.Reader()
	r.Seek(offset)
	e, err := r.Next()
	if err != nil {
		return nil
	}
	return e
}

func linkName(entries ...*dwarf.Entry) string {
	for _, attr := range []dwarf.Attr{dwarf.AttrLinkageName, dwarf.AttrName} {
		for _, e := range entries {
			if e == nil {
				continue
			}
			if name, ok := e.Val(attr).(string); ok {
				return name
			}
		}
	}
	return ""
}

func (x *declarations) source(entries ...*dwarf.Entry) string {
	for _, e := range entries {
		if e == nil {
			continue
		}
		file, ok1 := e.Val(dwarf.AttrDeclFile).(int64)
		line, ok2 := e.Val(dwarf.AttrDeclLine).(int64)
		if ok1 && ok2 && file >= 0 && int(file) < len(x.files) && x.files[file] != nil {
			return fmt.Sprintf("%s:%d", x.files[file].Name, line)
		}
	}
	return ""
}

// typeEntry returns the type of an entry without its names and qualifiers, nil
// for none (void).
func (x *declarations) typeEntry(e *dwarf.Entry) *dwarf.Entry {
	for e != nil {
		at, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if !ok {
			return nil
		}
		switch e = x.at(at); {
		case e == nil:
		case e.Tag == dwarf.TagTypedef:
			if t := x.typeEntry(e); t != nil && t.Val(dwarf.AttrName) == nil && kind(t.Tag) != "" {
				return e // the only name that the type has
			}
		case e.Tag == dwarf.TagConstType, e.Tag == dwarf.TagVolatileType, e.Tag == dwarf.TagRestrictType:
		default:
			return e
		}
	}
	return nil
}

// maxDepth bounds how deep types without names are written out.
const maxDepth = 12

// name writes a type out. What has a name is known by that: its layout is
// compared for itself.
func (x *declarations) name(t *dwarf.Entry) string {
	if t == nil {
		return "void"
	}
	x.depth++
	defer func() { x.depth-- }()
	if x.depth > maxDepth {
		return "…"
	}
	name, _ := t.Val(dwarf.AttrName).(string)
	size, _ := t.Val(dwarf.AttrByteSize).(int64)
	inner := func() string { return x.name(x.typeEntry(t)) }
	switch t.Tag {
	case dwarf.TagBaseType:
		return fmt.Sprintf("%s:%d", name, size)
	case dwarf.TagPointerType:
		return inner() + "*"
	case dwarf.TagReferenceType:
		return inner() + "&"
	case dwarf.TagRvalueReferenceType:
		return inner() + "&&"
	case dwarf.TagArrayType:
		text := inner()
		x.children(t, func(c *dwarf.Entry) {
			count, known := c.Val(dwarf.AttrCount).(int64)
			if upper, ok := c.Val(dwarf.AttrUpperBound).(int64); ok && !known {
				count, known = upper+1, true
			}
			if c.Tag == dwarf.TagSubrangeType && known {
				text += fmt.Sprintf("[%d]", count)
			} else {
				text += "[]"
			}
		})
		return text
	case dwarf.TagSubroutineType:
		return x.signature(t, nil)
	case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType:
		if name != "" {
			return kind(t.Tag) + name
		}
		l := x.layout(t)
		text := fmt.Sprintf("%s{%d", kind(t.Tag), l.Size)
		for _, m := range l.Members {
			text += " " + m.Name + "@" + m.At + ":" + m.Type
		}
		return text + "}"
	}
	return strings.TrimSpace(t.Tag.String() + " " + name)
}

// signature writes out what a function takes and returns.
func (x *declarations) signature(e, spec *dwarf.Entry) string {
	result := x.typeEntry(e)
	if spec != nil && e.Val(dwarf.AttrType) == nil {
		result = x.typeEntry(spec)
	}
	var parameters []string
	x.children(e, func(c *dwarf.Entry) {
		switch c.Tag {
		case dwarf.TagFormalParameter:
			parameters = append(parameters, x.name(x.typeEntry(c)))
		case dwarf.TagUnspecifiedParameters:
			parameters = append(parameters, "...")
		}
	})
	return x.name(result) + "(" + strings.Join(parameters, ", ") + ")"
}

// children calls f for each child of an entry.
func (x *declarations) children(e *dwarf.Entry, f func(*dwarf.Entry)) {
	if !e.Children {
		return
	}
	r := x.d.Reader()
	r.Seek(e.Offset)
	if _, err := r.Next(); err != nil {
		return
	}
	for {
		c, err := r.Next()
		if c == nil || err != nil || c.Tag == 0 {
			return
		}
		f(c)
		if c.Children {
			r.SkipChildren()
		}
	}
}

// layout reads where the members of a type are.
func (x *declarations) layout(t *dwarf.Entry) Type {
	l := Type{Source: x.source(t)}
	l.Size, _ = t.Val(dwarf.AttrByteSize).(int64)
	bases := 0
	x.children(t, func(c *dwarf.Entry) {
		name, _ := c.Val(dwarf.AttrName).(string)
		switch c.Tag {
		case dwarf.TagEnumerator:
			l.Members = append(l.Members, Member{name, fmt.Sprint(c.Val(dwarf.AttrConstValue)), "value"})
		case dwarf.TagInheritance:
			bases++
			l.Members = append(l.Members, Member{"base class " + strconv.Itoa(bases), fmt.Sprint(c.Val(dwarf.AttrDataMemberLoc)), x.name(x.typeEntry(c))})
		case dwarf.TagMember:
			if external, _ := c.Val(dwarf.AttrExternal).(bool); external {
				return // static
			}
			at := "0"
			if v := c.Val(dwarf.AttrDataMemberLoc); v != nil {
				at = fmt.Sprint(v)
			}
			if bits := c.Val(dwarf.AttrDataBitOffset); bits != nil {
				at = fmt.Sprintf("bit %v", bits)
			}
			if bits := c.Val(dwarf.AttrBitOffset); bits != nil { // of DWARF 4
				at += fmt.Sprintf(" bit %v", bits)
			}
			if bits := c.Val(dwarf.AttrBitSize); bits != nil {
				at += fmt.Sprintf(" (%v bits)", bits)
			}
			l.Members = append(l.Members, Member{cmp.Or(name, fmt.Sprint("member ", len(l.Members))), at, x.name(x.typeEntry(c))})
		}
	})
	return l
}

// TypeChanges says which types have another layout in the new source, so that
// what lives of them can't be used by new code.
func TypeChanges(base, now *Declared) (findings []finding.Finding) {
	for _, name := range slices.Sorted(maps.Keys(base.Types)) {
		n, there := now.Types[name]
		if !there {
			continue
		}
		if why := differs(base.Types[name], n, strings.HasPrefix(name, "enum ")); why != "" {
			findings = append(findings, finding.Finding{Code: finding.TypeLayoutChanged, Severity: finding.Error, Function: name, Source: n.Source,
				Message: "the layout of the type changed (" + why + "), and what the program has of it has the old one",
				Advice:  "make a new type under another name, or restart the program with a rebuilt one"})
		}
	}
	return findings
}

// differs says how the layouts of a type differ, "" if they don't. A member under
// another name at the same place is no difference.
func differs(b, n Type, enum bool) string {
	if b.Size != n.Size {
		return fmt.Sprintf("%d bytes, and %d before", n.Size, b.Size)
	}
	now := map[string]Member{}
	for _, m := range n.Members {
		now[m.Name] = m
	}
	for i, m := range b.Members {
		x, there := now[m.Name]
		if !there && i < len(n.Members) && !enum {
			x = n.Members[i]
			x.Name = m.Name
		} else if !there {
			continue
		}
		switch {
		case x.At != m.At && enum:
			return fmt.Sprintf("%s is %s, and was %s", m.Name, x.At, m.At)
		case x.At != m.At:
			return fmt.Sprintf("%s is at %s, and was at %s", m.Name, x.At, m.At)
		case x.Type != m.Type:
			return fmt.Sprintf("%s has the type %s, and had %s", m.Name, x.Type, m.Type)
		}
	}
	if len(n.Members) != len(b.Members) && !enum {
		return fmt.Sprintf("%d members, and %d before", len(n.Members), len(b.Members))
	}
	return ""
}
