package gotype

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// maxString bounds the length of a name, bytes; maxCount the fields,
// parameters, methods of one type. Both only keep broken input from costing
// memory.
const (
	maxString = 1 << 16
	maxCount  = 1 << 16
	maxMask   = 1 << 32 // bytes of a type that the mask describes
)

// Set decodes the types of one image, each once. It is not safe for use by
// several goroutines.
type Set struct {
	Image Image
	// Locals are the descriptors of types declared in functions, with the
	// numbers that the compiler gave them. Set it before the first use.
	Locals map[uint64]int

	types    map[uint64]*Type
	numbered map[uint64]bool
}

// NewSet returns a set without types.
func NewSet(image Image) *Set {
	return &Set{Image: image, types: map[uint64]*Type{}, numbered: map[uint64]bool{}}
}

// At returns the type whose descriptor is at addr. It fails if there is none
// that makes sense; it must not panic whatever the image holds.
func (s *Set) At(addr uint64) (*Type, error) {
	if t, ok := s.types[addr]; ok {
		return t, nil
	}
	d := decoder{img: s.Image, t: &Type{Addr: addr}}
	d.decode()
	if d.err != nil {
		return nil, fmt.Errorf("type at %#x: %w", addr, d.err)
	}
	slices.SortFunc(d.t.Refs, func(a, b Ref) int {
		if a.Addr < b.Addr {
			return -1
		}
		return 1
	})
	s.types[addr] = d.t
	return d.t, nil
}

// Walk decodes everything that can be reached from the types at roots and
// calls visit for each type once, in the order of discovery. A root that is no
// type is an error.
func (s *Set) Walk(roots []uint64, visit func(*Type)) error {
	seen := map[uint64]bool{}
	todo := slices.Clone(roots)
	for len(todo) > 0 {
		addr := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[addr] {
			continue
		}
		seen[addr] = true
		t, err := s.At(addr)
		if err != nil {
			return err
		}
		visit(t)
		for _, r := range t.Refs {
			if (r.Kind == TypePointer || r.Kind == TypeOff) && !seen[r.Target] {
				todo = append(todo, r.Target)
			}
		}
	}
	return nil
}

// decoder decodes one descriptor; the first error stays in err.
type decoder struct {
	img Image
	t   *Type
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// bytes returns n bytes at addr; zeros after a failure.
func (d *decoder) bytes(addr uint64, n int) []byte {
	if d.err == nil {
		if b, ok := d.img.Bytes(addr, n); ok {
			return b
		}
		d.fail("%d bytes at %#x are not there", n, addr)
	}
	return make([]byte, n)
}

func (d *decoder) u16(addr uint64) uint16 { return binary.LittleEndian.Uint16(d.bytes(addr, 2)) }
func (d *decoder) u32(addr uint64) uint32 { return binary.LittleEndian.Uint32(d.bytes(addr, 4)) }
func (d *decoder) u64(addr uint64) uint64 { return binary.LittleEndian.Uint64(d.bytes(addr, 8)) }

func (d *decoder) ref(r Ref) { d.t.Refs = append(d.t.Refs, r) }

// pointer notes a pointer field and returns where it leads.
func (d *decoder) pointer(addr uint64, kind RefKind) uint64 {
	if d.err != nil {
		return 0
	}
	p := d.img.Pointer(addr)
	if p != 0 {
		d.ref(Ref{Addr: addr, Kind: kind, Target: p})
	}
	return p
}

// elem notes a pointer to a type, which must not be nil.
func (d *decoder) elem(addr uint64) uint64 {
	p := d.pointer(addr, TypePointer)
	if p == 0 {
		d.fail("no type at %#x", addr)
	}
	return p
}

// typeOff notes a TypeOff and returns the type, 0 if there is none.
func (d *decoder) typeOff(addr uint64) uint64 {
	off := int32(d.u32(addr))
	if d.err != nil || off == 0 || off == unreachable {
		return 0
	}
	p := d.img.Types(addr) + uint64(int64(off))
	d.ref(Ref{Addr: addr, Kind: TypeOff, Target: p})
	return p
}

// textOff notes a TextOff.
func (d *decoder) textOff(addr uint64) int64 {
	off := int64(int32(d.u32(addr)))
	if d.err == nil && off != 0 && off != unreachable {
		d.ref(Ref{Addr: addr, Kind: TextOff, Target: uint64(off)})
	}
	return off
}

// nameOff notes a NameOff and returns the name.
func (d *decoder) nameOff(addr uint64) Name {
	off := int32(d.u32(addr))
	if d.err != nil || off == 0 {
		return Name{}
	}
	return d.name(addr, NameOff, d.img.Types(addr)+uint64(int64(off)))
}

// namePointer notes a pointer to a name and returns the name.
func (d *decoder) namePointer(addr uint64) Name {
	if d.err != nil {
		return Name{}
	}
	p := d.img.Pointer(addr)
	if p == 0 {
		return Name{}
	}
	return d.name(addr, NamePointer, p)
}

func (d *decoder) name(field uint64, kind RefKind, addr uint64) Name {
	n, err := ReadName(d.img, addr)
	if err != nil {
		d.fail("%w", err)
		return Name{}
	}
	d.ref(Ref{Addr: field, Kind: kind, Target: addr, Size: n.End - n.Addr})
	return n
}

func (d *decoder) decode() {
	t, at := d.t, d.t.Addr
	t.Size, t.PtrBytes, t.Hash = d.u64(at), d.u64(at+8), d.u32(at+16)
	b := d.bytes(at+20, 4)
	t.Flags, t.Align, t.FieldAlign, t.Kind = b[0], b[1], b[2], Kind(b[3]&31)
	if t.Kind == 0 || t.Kind > UnsafePointer || t.PtrBytes > t.Size || t.PtrBytes > maxMask {
		d.fail("it is no type descriptor")
		return
	}
	d.pointer(at+24, FuncPointer)
	if p := d.img.Pointer(at + 32); p != 0 && d.err == nil {
		size := (t.PtrBytes/8 + 7) / 8
		if t.MaskOnDemand() {
			size = 8
		}
		d.ref(Ref{Addr: at + 32, Kind: MaskPointer, Target: p, Size: size})
	}
	t.String = d.nameOff(at + 40).Name
	if t.Flags&flagExtraStar != 0 {
		if t.String == "" {
			d.fail("it has no name")
			return
		}
		t.String = t.String[1:]
	}
	d.typeOff(at + 44)
	size := d.kind()
	d.within(at, size)
	d.uncommon(at + size)
}

// kind decodes what only types of this kind have, and returns the size of its
// struct.
func (d *decoder) kind() uint64 {
	t, at := d.t, d.t.Addr
	switch t.Kind {
	case Array:
		t.Elem, t.Len = d.elem(at+48), d.u64(at+64)
		d.pointer(at+56, TypePointer) // the slice type
		return sizeArray
	case Chan:
		t.Elem, t.Dir = d.elem(at+48), d.u64(at+56)
		return sizeChan
	case Func:
		in, out := d.u16(at+48), d.u16(at+50)
		t.InCount, t.OutCount = int(in), out
		params := at + sizeFunc
		if t.Flags&flagUncommon != 0 {
			params += sizeUncommon
		}
		for i := range int(in) + int(out&^(1<<15)) { // the top bit of out: variadic
			t.Params = append(t.Params, d.elem(params+8*uint64(i)))
		}
		d.within(params, 8*uint64(len(t.Params)))
		return sizeFunc
	case Interface:
		t.PkgPath = d.namePointer(at + 48).Name
		d.list(at+56, sizeIMethod, func(m uint64) {
			n := d.nameOff(m)
			t.IMethods = append(t.IMethods, IMethod{n.Name, n.PkgPath, d.typeOff(m + 4)})
		})
		return sizeInterface
	case Map:
		t.Key, t.Elem = d.elem(at+48), d.elem(at+56)
		d.pointer(at+64, TypePointer) // the group of slots
		d.pointer(at+72, FuncPointer) // the hash function
		return sizeMap
	case Pointer:
		t.Elem = d.elem(at + 48)
		return sizePointer
	case Slice:
		t.Elem = d.elem(at + 48)
		return sizeSlice
	case Struct:
		t.PkgPath = d.namePointer(at + 48).Name
		d.list(at+56, sizeField, func(f uint64) {
			n := d.namePointer(f)
			t.Fields = append(t.Fields, Field{n.Name, n.Tag, n.PkgPath, n.Embedded, d.elem(f + 8), d.u64(f + 16)})
		})
		return sizeStruct
	}
	return sizeType
}

// list decodes a slice header at addr whose elements belong to the descriptor.
func (d *decoder) list(addr, size uint64, each func(elem uint64)) {
	n := d.u64(addr + 8)
	if d.err != nil || n == 0 {
		return
	}
	p := d.img.Pointer(addr)
	if n > maxCount || p == 0 {
		d.fail("a list of %d at %#x", n, p)
		return
	}
	d.ref(Ref{Addr: addr, Kind: SelfPointer, Target: p})
	for i := range n {
		if d.err == nil {
			each(p + i*size)
		}
	}
	d.within(p, n*size)
}

// within extends the descriptor to n bytes at p, which follow it closely.
func (d *decoder) within(p, n uint64) {
	if d.err == nil && (p < d.t.Addr || p-d.t.Addr > 1<<24) {
		d.fail("a part of it lies at %#x", p)
	}
	d.t.End = max(d.t.End, p+n)
}

// uncommon decodes the uncommon part at addr with the methods.
func (d *decoder) uncommon(addr uint64) {
	t := d.t
	if t.Flags&flagUncommon == 0 {
		return
	}
	if p := d.nameOff(addr).Name; p != "" {
		t.PkgPath = p
	}
	d.within(addr, sizeUncommon)
	count, off := uint64(d.u16(addr+4)), uint64(d.u32(addr+8))
	for i := range count {
		m := addr + off + i*sizeMethod
		n := d.nameOff(m)
		t.Methods = append(t.Methods, Method{Name: n.Name, PkgPath: n.PkgPath, Mtyp: d.typeOff(m + MtypOffset),
			Ifn: d.textOff(m + IfnOffset), Tfn: d.textOff(m + TfnOffset), Addr: m})
	}
	if count > 0 {
		d.within(addr+off, count*sizeMethod)
	}
}
