package gotype

import (
	"bytes"
	"fmt"
	"strings"
)

// Comparer compares types of two images by structure. It remembers what it
// compared, so that comparing many types costs little more than comparing one.
// It is not safe for use by several goroutines.
type Comparer struct {
	A, B *Set
	// Ignore, if not nil, says of a method that only one of two types has that
	// it makes no difference.
	Ignore func(t *Type, method string) bool
	// Local, if not nil, decides about two types that are declared in functions
	// and have the same name.
	Local func(a, b *Type) bool

	seen map[[2]uint64]error
}

// NewComparer returns a comparer of types in a with types in b.
func NewComparer(a, b *Set) *Comparer { return &Comparer{A: a, B: b, seen: map[[2]uint64]error{}} }

// Difference says where two types differ.
type Difference struct {
	// Type is the innermost named type that differs, else the type compared.
	Type string
	// How they differ, in words.
	How string
	// MethodSet tells that only the methods differ.
	MethodSet bool
}

// Error makes a sentence of it.
func (d *Difference) Error() string { return d.Type + ": " + d.How }

// Equal compares the type at a in A with the one at b in B, and all types that
// they are made of, deeply: sizes, alignments, pointer masks, fields with
// names, tags and offsets, parameters, and the names of methods. It returns a
// *Difference, or another error if a type cannot be decoded. What depends on
// how a program was linked does not count: which methods' functions and which
// pointer types it has.
func (c *Comparer) Equal(a, b uint64) error {
	pair := [2]uint64{a, b}
	if err, ok := c.seen[pair]; ok {
		return err
	}
	c.seen[pair] = nil // types refer to themselves
	err := c.equal(a, b)
	c.seen[pair] = err
	return err
}

func (c *Comparer) equal(addrA, addrB uint64) error {
	a, err := c.A.At(addrA)
	if err != nil {
		return err
	}
	b, err := c.B.At(addrB)
	if err != nil {
		return err
	}
	_, localA := c.A.Locals[addrA]
	_, localB := c.B.Locals[addrB]
	if c.A.Identity(a) != c.B.Identity(b) || localA != localB || localA && c.Local != nil && !c.Local(a, b) {
		return &Difference{Type: a.qualified(), How: "it is not " + b.qualified()}
	}
	return c.Structure(a, b)
}

// Structure is Equal without a look at the names of the two types themselves.
func (c *Comparer) Structure(a, b *Type) error {
	if how := c.shallow(a, b); how != "" {
		return &Difference{Type: a.qualified(), How: how}
	}
	if how := c.methodNames(a, b); how != "" {
		return &Difference{Type: a.qualified(), How: how, MethodSet: true}
	}
	for _, p := range c.parts(a, b) {
		if err := c.Equal(p[0], p[1]); err != nil {
			return err
		}
	}
	return nil
}

// qualified returns the type's name with the whole import path.
func (t *Type) qualified() string {
	if t.Named() && strings.Contains(t.PkgPath, "/") {
		if i := strings.IndexByte(t.String, '.'); i >= 0 && !strings.ContainsAny(t.String[:i], "[*") {
			return t.PkgPath + t.String[i:]
		}
	}
	return t.String
}

// shallow compares all that is no type; it returns how they differ.
func (c *Comparer) shallow(a, b *Type) string {
	for i := range max(len(a.Fields), len(b.Fields)) {
		switch {
		case i >= len(a.Fields):
			return fmt.Sprintf("field %s was removed", b.Fields[i].Name)
		case i >= len(b.Fields):
			return fmt.Sprintf("field %s was added", a.Fields[i].Name)
		}
		f, g := a.Fields[i], b.Fields[i]
		switch f.Type, g.Type = 0, 0; {
		case f.Name != g.Name:
			return fmt.Sprintf("field %s is where field %s was", f.Name, g.Name)
		case f.Offset != g.Offset:
			return fmt.Sprintf("field %s moved from offset %d to %d", f.Name, g.Offset, f.Offset)
		case f.Tag != g.Tag:
			return fmt.Sprintf("the tag of field %s changed from %q to %q", f.Name, g.Tag, f.Tag)
		case f != g:
			return fmt.Sprintf("field %s changed", f.Name)
		}
	}
	for i := range max(len(a.IMethods), len(b.IMethods)) {
		switch {
		case i >= len(a.IMethods) || i < len(b.IMethods) && b.IMethods[i].Name < a.IMethods[i].Name:
			return fmt.Sprintf("method %s was removed from the interface", b.IMethods[i].Name)
		case i >= len(b.IMethods) || a.IMethods[i].Name < b.IMethods[i].Name:
			return fmt.Sprintf("method %s was added to the interface", a.IMethods[i].Name)
		case a.IMethods[i].PkgPath != b.IMethods[i].PkgPath:
			return fmt.Sprintf("method %s of the interface changed its package", a.IMethods[i].Name)
		}
	}
	switch {
	case a.Size != b.Size:
		return fmt.Sprintf("its size changed from %d to %d bytes", b.Size, a.Size)
	case a.PtrBytes != b.PtrBytes:
		return "its pointers are elsewhere"
	case a.Align != b.Align || a.FieldAlign != b.FieldAlign:
		return "its alignment changed"
	case a.Flags != b.Flags:
		return fmt.Sprintf("its flags changed from %#x to %#x", b.Flags, a.Flags)
	case a.Len != b.Len:
		return fmt.Sprintf("its length changed from %d to %d", b.Len, a.Len)
	case a.Dir != b.Dir || a.InCount != b.InCount || a.OutCount != b.OutCount:
		return "its parameters changed"
	case !bytes.Equal(c.A.mask(a), c.B.mask(b)):
		return "its pointers are elsewhere"
	}
	return ""
}

func (c *Comparer) methodNames(a, b *Type) string {
	for _, m := range a.Methods {
		if b.Method(m.PkgPath, m.Name) == nil && (c.Ignore == nil || !c.Ignore(a, m.Name)) {
			return fmt.Sprintf("method %s was added", m.Name)
		}
	}
	for _, m := range b.Methods {
		if a.Method(m.PkgPath, m.Name) == nil && (c.Ignore == nil || !c.Ignore(b, m.Name)) {
			return fmt.Sprintf("method %s was removed", m.Name)
		}
	}
	return ""
}

// mask returns the pointer mask, nil if the runtime makes it on demand.
func (s *Set) mask(t *Type) []byte {
	for _, r := range t.Refs {
		if r.Kind == MaskPointer && !t.MaskOnDemand() {
			m, _ := s.Image.Bytes(r.Target, int(r.Size))
			return m
		}
	}
	return nil
}

// parts pairs the types that a and b are made of. They have the same shape.
func (c *Comparer) parts(a, b *Type) [][2]uint64 {
	var p [][2]uint64
	if a.Key != 0 {
		p = append(p, [2]uint64{a.Key, b.Key})
	}
	if a.Elem != 0 {
		p = append(p, [2]uint64{a.Elem, b.Elem})
	}
	for i := range a.Params {
		p = append(p, [2]uint64{a.Params[i], b.Params[i]})
	}
	for i := range a.Fields {
		p = append(p, [2]uint64{a.Fields[i].Type, b.Fields[i].Type})
	}
	for i := range a.IMethods {
		if x, y := a.IMethods[i].Type, b.IMethods[i].Type; x != 0 && y != 0 {
			p = append(p, [2]uint64{x, y})
		}
	}
	for i := range a.Methods {
		// Only what both linkers kept can be compared.
		x := &a.Methods[i]
		if y := b.Method(x.PkgPath, x.Name); y != nil && x.Mtyp != 0 && y.Mtyp != 0 {
			p = append(p, [2]uint64{x.Mtyp, y.Mtyp})
		}
	}
	return p
}
