package gotype

import (
	"regexp"
	"strings"
)

// Type is one decoded type descriptor.
type Type struct {
	// Addr and End bound the descriptor with its uncommon part, its methods,
	// parameters, fields and interface methods.
	Addr, End uint64

	Size, PtrBytes    uint64
	Hash              uint32
	Flags             uint8
	Align, FieldAlign uint8
	Kind              Kind
	String            string // as reflect's Type.String
	PkgPath           string // of a named type, or one with unexported fields or methods

	Key, Elem uint64 // element types; 0 if there is none
	Len       uint64 // of an array
	Dir       uint64 // of a channel
	Params    []uint64
	InCount   int // of Params, how many are parameters; the rest are results
	OutCount  uint16
	Fields    []Field
	Methods   []Method  // of a named type and of structs that embed one, sorted by name
	IMethods  []IMethod // of an interface, sorted by name

	// Refs are all fields of the descriptor that lead elsewhere, sorted by Addr.
	Refs []Ref
}

// Field is a field of a struct.
type Field struct {
	Name     string
	Tag      string
	PkgPath  string
	Embedded bool
	Type     uint64
	Offset   uint64 // bytes
}

// Method is a method in a type's method set.
type Method struct {
	Name    string
	PkgPath string // of an unexported method; "" may mean the type's own
	Mtyp    uint64 // its func type without receiver; 0 if the linker dropped it
	Ifn     int64  // offset from runtime.text of the function for interface calls, -1 if the linker dropped it
	Tfn     int64  // offset from runtime.text of the function for plain calls, -1 if the linker dropped it
	Addr    uint64 // of the abi.Method
}

// Where the fields of an abi.Method are, from Method.Addr.
const (
	MtypOffset = 4
	IfnOffset  = 8
	TfnOffset  = 12
)

// IMethod is a method that an interface asks for.
type IMethod struct {
	Name    string
	PkgPath string
	Type    uint64
}

// Reached tells whether the linker kept the method's functions.
func (m *Method) Reached() bool { return m.Ifn != unreachable && m.Ifn != 0 }

// Method returns the method of that name, nil if the type has none. The package
// path is "" for an exported one.
func (t *Type) Method(pkgPath, name string) *Method {
	for i := range t.Methods {
		if m := &t.Methods[i]; m.Name == name && m.PkgPath == pkgPath {
			return m
		}
	}
	return nil
}

// Named tells whether the type has a name of its own.
func (t *Type) Named() bool { return t.Flags&flagNamed != 0 }

// MaskOnDemand tells whether the descriptor refers to a place for the garbage
// collector's mask instead of to the mask.
func (t *Type) MaskOnDemand() bool { return t.Flags&flagGCMaskOnDemand != 0 }

// Identity is what tells a type from others in one program, but for types
// declared in functions. It does not tell how a named type is laid out: the
// hash of a named type is that of its name.
type Identity struct {
	Hash    uint32
	Kind    Kind
	String  string
	PkgPath string
}

// Identity returns the type's identity.
func (t *Type) Identity() Identity { return Identity{t.Hash, t.Kind, t.String, t.PkgPath} }

// number matches what tells types declared in functions apart where they are
// type arguments in a name.
var number = regexp.MustCompile(`·[0-9]+`)

// Identity returns what is left of the type's identity in another program. A
// type declared in a function has a number in its name, and so in its hash and
// in those of the types made of it, that depends on how many there are before
// it in the package: neither counts then.
func (s *Set) Identity(t *Type) Identity {
	if !s.Numbered(t) {
		return t.Identity()
	}
	return Identity{0, t.Kind, number.ReplaceAllString(t.String, "·"), t.PkgPath}
}

// Numbered tells whether the type is one that is declared in a function or is
// made of such.
func (s *Set) Numbered(t *Type) bool {
	if len(s.Locals) == 0 {
		return false
	}
	if _, local := s.Locals[t.Addr]; local || t.Named() {
		return local || strings.Contains(t.String, "·")
	}
	if is, known := s.numbered[t.Addr]; known {
		return is
	}
	s.numbered[t.Addr] = false // until it is known
	parts := append([]uint64{t.Key, t.Elem}, t.Params...)
	for i := range t.Fields {
		parts = append(parts, t.Fields[i].Type)
	}
	for i := range t.IMethods {
		parts = append(parts, t.IMethods[i].Type)
	}
	for _, addr := range parts {
		if addr == 0 {
			continue
		}
		if part, err := s.At(addr); err == nil && s.Numbered(part) {
			s.numbered[t.Addr] = true
			return true
		}
	}
	return false
}

// RefKind says what a field of a descriptor holds and what it leads to.
type RefKind uint8

// The kinds of references.
const (
	TypePointer RefKind = iota + 1 // 8 bytes, to a type
	NamePointer                    // 8 bytes, to an abi.Name
	FuncPointer                    // 8 bytes, to a func value
	MaskPointer                    // 8 bytes, to a mask or, with MaskOnDemand, to a pointer to one
	SelfPointer                    // 8 bytes, to a place in the descriptor itself
	TypeOff                        // 4 bytes, from runtime.types, to a type
	NameOff                        // 4 bytes, from runtime.types, to an abi.Name
	TextOff                        // 4 bytes, from runtime.text, to a function
)

// Ref is a field that leads elsewhere. Fields that hold nil or "dropped" are
// not listed.
type Ref struct {
	Addr   uint64 // of the field
	Kind   RefKind
	Target uint64 // address; TextOff: offset from runtime.text
	Size   uint64 // bytes referred to, if known: MaskPointer, NamePointer, NameOff
}

// Width returns the size of the field in bytes.
func (k RefKind) Width() int {
	if k >= TypeOff {
		return 4
	}
	return 8
}
