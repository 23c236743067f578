package object

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Type is the head of a type descriptor (internal/abi.Type), enough to tell
// types apart: Hash is computed from the type's full link name.
type Type struct {
	Size   uint64
	Hash   uint32
	Kind   uint8 // abi.Kind without flags
	Named  bool
	String string
}

// Fields of abi.Type and the flags of its TFlag and Kind_, the same since Go
// 1.14 (internal/abi/type.go).
const (
	typeHash       = 16
	typeTFlag      = 20
	typeKind       = 23
	typeStr        = 40
	typeHead       = 48
	tflagUncommon  = 1
	tflagExtraStar = 2
	tflagNamed     = 4
	kindMask       = 1<<5 - 1
)

// TypeAt decodes the head of the type descriptor at the place.
func (o *Object) TypeAt(p Place) (Type, error) {
	d := o.bytesAt(p, typeHead)
	if d == nil {
		return Type{}, fmt.Errorf("no type at %#x of section %d", p.Offset, p.Section)
	}
	le := binary.LittleEndian
	t := Type{Size: le.Uint64(d), Hash: le.Uint32(d[typeHash:]), Kind: d[typeKind] & kindMask, Named: d[typeTFlag]&tflagNamed != 0}
	name, ok := o.nameAt(le.Uint32(d[typeStr:]))
	if !ok {
		return Type{}, fmt.Errorf("the type at %#x of section %d has no name", p.Offset, p.Section)
	}
	if d[typeTFlag]&tflagExtraStar != 0 && name != "" {
		name = name[1:]
	}
	t.String = name
	return t, nil
}

// nameAt decodes an abi.Name at an offset from runtime.types: flags, length as
// a varint, bytes.
func (o *Object) nameAt(off uint32) (string, bool) {
	types, ok := o.Lookup("runtime.types")
	if !ok {
		return "", false
	}
	s := &o.Symbols[types]
	data := o.Sections[s.Section].Data
	at := s.Offset + uint64(off)
	if at+1 >= uint64(len(data)) {
		return "", false
	}
	n, w := binary.Uvarint(data[at+1:])
	if w <= 0 || n > uint64(len(data))-at-1-uint64(w) {
		return "", false
	}
	start := at + 1 + uint64(w)
	return string(data[start : start+n]), true
}

// descriptor is what Compare needs of a type descriptor beyond its head.
type descriptor struct {
	iface   bool
	fields  string            // names, tags and order of a struct's fields
	methods map[string]string // an interface's, or of a pointer to the type; name -> type, "" if pruned
}

const (
	kindInterface  = 20 // abi.Interface
	kindStruct     = 25 // abi.Struct
	typePtrToThis  = 44 // abi.Type.PtrToThis
	ptrTypeSize    = 56 // of abi.PtrType
	interfaceList  = 56 // abi.InterfaceType.Methods, as abi.StructType.Fields
	interfaceEntry = 8  // of abi.Imethod
	fieldEntry     = 24 // of abi.StructField
	methodEntry    = 16 // of abi.Method
)

// descriptorAt returns the place of the named type's descriptor whose address
// DWARF gives: since Go 1.25 an offset from runtime.types, before in the
// section. ok is false if there is none.
func (o *Object) descriptorAt(address uint64, name string) (p Place, ok bool) {
	types, ok := o.Lookup("runtime.types")
	if !ok || address == 0 {
		return p, false
	}
	s := &o.Symbols[types]
	for _, off := range []uint64{s.Offset + address, address} {
		p = Place{s.Section, off}
		if t, err := o.TypeAt(p); err == nil && bareName(t.String) == bareName(name) {
			return p, true
		}
	}
	return p, false
}

// describe decodes the descriptor of the named type at an address that DWARF
// gives. ok is false if it can't be read; then nothing is said about it.
func (o *Object) describe(address uint64, name string) (d descriptor, ok bool) {
	p, ok := o.descriptorAt(address, name)
	if !ok {
		return d, false
	}
	return o.describeAt(p)
}

// describeAt decodes the descriptor at a place.
func (o *Object) describeAt(p Place) (d descriptor, ok bool) {
	types, _ := o.Lookup("runtime.types")
	origin := Place{o.Symbols[types].Section, o.Symbols[types].Offset}
	t, err := o.TypeAt(p)
	if err != nil {
		return d, false
	}
	le := binary.LittleEndian
	data := o.Sections[p.Section].Data
	d.methods = map[string]string{}
	method := func(name, typ uint32) {
		n, ok := o.nameAt(name)
		if !ok {
			return
		}
		d.methods[n] = ""
		if int32(typ) > 0 {
			if t, err := o.TypeAt(Place{origin.Section, origin.Offset + uint64(typ)}); err == nil {
				d.methods[n] = fmt.Sprintf("%s %x", t.String, t.Hash)
			}
		}
	}
	switch t.Kind {
	case kindInterface:
		d.iface = true
		o.eachEntry(p, interfaceList, interfaceEntry, func(e []byte, _ Place) { method(le.Uint32(e), le.Uint32(e[4:])) })
		return d, true
	case kindStruct:
		o.eachEntry(p, interfaceList, fieldEntry, func(_ []byte, at Place) {
			if to := o.relocs(at.Section, at.Offset, at.Offset+8); len(to) == 1 {
				d.fields += o.taggedName(to[0].Target) + ";"
			}
		})
	}
	ptr := le.Uint32(data[p.Offset+typePtrToThis:])
	if ptr == 0 {
		return d, true
	}
	at := origin.Offset + uint64(ptr)
	if at+ptrTypeSize+16 > uint64(len(data)) || data[at+typeTFlag]&tflagUncommon == 0 {
		return d, true
	}
	uncommon := data[at+ptrTypeSize:] // abi.UncommonType
	count, list := uint64(le.Uint16(uncommon[4:])), at+ptrTypeSize+uint64(le.Uint32(uncommon[8:]))
	for ; count > 0 && list+methodEntry <= uint64(len(data)); count, list = count-1, list+methodEntry {
		method(le.Uint32(data[list:]), le.Uint32(data[list+4:]))
	}
	return d, true
}

// bareName returns a named type's name without package and type arguments.
func bareName(name string) string {
	name, _, _ = strings.Cut(name, "[")
	return name[strings.LastIndexByte(name, '.')+1:]
}

// eachEntry calls f with each entry of the slice at a field of the descriptor.
func (o *Object) eachEntry(p Place, field, size uint64, f func(entry []byte, at Place)) {
	p.Offset += field
	header := o.bytesAt(p, 16)
	to := o.relocs(p.Section, p.Offset, p.Offset+8)
	if header == nil || len(to) != 1 {
		return
	}
	at := to[0].Target
	for n := binary.LittleEndian.Uint64(header[8:]); n > 0; n-- {
		entry := o.bytesAt(at, size)
		if entry == nil {
			return
		}
		f(entry, at)
		at.Offset += size
	}
}

// taggedName decodes an abi.Name with its flags and its tag.
func (o *Object) taggedName(p Place) string {
	if o.bytesAt(p, 2) == nil {
		return ""
	}
	data := o.Sections[p.Section].Data[p.Offset:]
	flags, rest := data[0], data[1:]
	s := fmt.Sprintf("%d", flags)
	for range 1 + flags>>1&1 { // the name, and the tag if there is one
		n, w := binary.Uvarint(rest)
		if w <= 0 || n > uint64(len(rest)-w) {
			break
		}
		s += fmt.Sprintf(" %q", rest[w:w+int(n)])
		rest = rest[w+int(n):]
	}
	return s
}
