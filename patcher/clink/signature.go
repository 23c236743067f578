package clink

import (
	"debug/dwarf"
	"fmt"
)

// signature is what a bridge must know of a function.
type signature struct {
	stack int // words of arguments that may be on the stack
	// What of the registers for results does not hold one.
	keepRAX, keepRDX, keepXMM0, keepXMM1 bool
}

const (
	maxStackWords = 24
	// stackAlign is the most that an argument of so many words can be aligned to.
	stackAlign = 128
)

// signature reads the signature of a function from the module's debugging
// information, or else from the program's. why says what makes a bridge to it
// impossible.
func (b *binder) signature(f match) (s signature, why string) {
	d, e := moduleDWARF(b.m), (*dwarf.Entry)(nil)
	if d != nil {
		e = subprogram(d, f.new.Addr)
	}
	if e == nil {
		if d = f.old.Object.DWARF(); d != nil {
			e = subprogram(d, f.old.Addr-f.old.Object.Bias)
		}
	}
	if e == nil {
		return s, "what it takes and returns is not known, as neither the module nor the program has debugging information of it"
	}
	s, ok := result(d, declaration(d, e))
	if !ok {
		return s, "the registers of its result are not known"
	}
	words, variadic, ok := onStack(d, e, !s.keepRAX)
	switch {
	case !ok:
		return s, "how its arguments are passed is not known"
	case variadic:
		return s, "it takes any number of arguments"
	case words > maxStackWords:
		return s, fmt.Sprintf("it takes %d bytes of arguments on the stack", 8*words)
	}
	s.stack = words
	return s, ""
}

// subprogram returns the entry that describes the function at addr and its
// parameters, nil if there is none.
func subprogram(d *dwarf.Data, addr uint64) *dwarf.Entry {
	r := d.Reader()
	for {
		e, err := r.Next()
		if e == nil || err != nil {
			return nil
		}
		if e.Tag != dwarf.TagSubprogram {
			continue
		}
		low, ok := e.Val(dwarf.AttrLowpc).(uint64)
		if !ok && e.Val(dwarf.AttrRanges) != nil { // it is in pieces
			if ranges, err := d.Ranges(e); err == nil && len(ranges) > 0 {
				low, ok = ranges[0][0], true
			}
		}
		if !ok || low != addr {
			continue
		}
		// What was also inlined, and constructors, are described elsewhere.
		for range 4 {
			origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset)
			if !ok {
				return e
			}
			r.Seek(origin)
			if e, err = r.Next(); e == nil || err != nil {
				return nil
			}
		}
		return nil
	}
}

// declaration returns where the definition of a C++ method is declared, which has
// its type; e itself if nowhere else.
func declaration(d *dwarf.Data, e *dwarf.Entry) *dwarf.Entry {
	at, ok := e.Val(dwarf.AttrSpecification).(dwarf.Offset)
	if !ok {
		return e
	}
	r := d.Reader()
	r.Seek(at)
	if declared, err := r.Next(); err == nil && declared != nil {
		return declared
	}
	return e
}

// onStack returns the most words that the arguments of a function take on the
// stack. Only whether some argument may be there has to be known, as a bridge
// copies them as they are: each is taken to use as many registers as it may.
func onStack(d *dwarf.Data, e *dwarf.Entry, indirect bool) (words int, variadic, ok bool) {
	integers, floats := 0, 0
	if indirect { // the address of the result may be the first argument
		integers = 1
	}
	end := int64(0)
	r := d.Reader()
	r.Seek(e.Offset)
	if _, err := r.Next(); err != nil {
		return 0, false, false
	}
	for e.Children {
		c, err := r.Next()
		if c == nil || err != nil || c.Tag == 0 {
			break
		}
		switch c.Tag {
		case dwarf.TagUnspecifiedParameters:
			return 0, true, true
		case dwarf.TagFormalParameter:
			t := typeOf(d, c)
			if t == nil || t.Size() < 0 {
				return 0, false, false
			}
			size, float, scalar := class(t)
			switch {
			case scalar && float:
				floats++
			case scalar:
				integers++
			default:
				integers, floats = integers+2, floats+2
			}
			if size <= 16 && integers <= 6 && floats <= 8 && !isLongDouble(t) {
				break
			}
			align := max(8, min(size&-size, stackAlign)) // no type is aligned to more
			end = (end+align-1)&-align + (size+7)&^7
		}
		if c.Children {
			r.SkipChildren()
		}
	}
	return int(end / 8), false, true
}

// result tells which registers a function returns nothing in; not ok if that is
// not known.
func result(d *dwarf.Data, e *dwarf.Entry) (s signature, ok bool) {
	if e.Val(dwarf.AttrType) == nil {
		return signature{keepRAX: true, keepRDX: true, keepXMM0: true, keepXMM1: true}, true
	}
	t := typeOf(d, e)
	if t == nil || t.Size() < 0 {
		return s, false
	}
	size, float, scalar := class(t)
	if scalar {
		return signature{keepRAX: float, keepRDX: true, keepXMM0: !float, keepXMM1: true}, true
	}
	if isLongDouble(t) {
		return signature{keepRAX: true, keepRDX: true, keepXMM0: true, keepXMM1: true}, true
	}
	if _, isVector := t.(*dwarf.ArrayType); isVector {
		return signature{keepRAX: true, keepRDX: true, keepXMM1: true}, true
	}
	_, isStruct := t.(*dwarf.StructType)
	if isStruct && (size > 16 || byReference(d, e)) { // its address is returned
		return signature{keepRDX: true, keepXMM0: true, keepXMM1: true}, true
	}
	var words [2]word
	if size > 16 || !classify(t, 0, &words) {
		return s, false
	}
	integers, floats := 0, 0
	for _, w := range words {
		switch w {
		case integer:
			integers++
		case vector:
			floats++
		}
	}
	return signature{keepRAX: integers < 1, keepRDX: integers < 2, keepXMM0: floats < 1, keepXMM1: floats < 2}, true
}

// typeOf returns the type of an entry without its names and qualifiers, nil if it
// is not known.
func typeOf(d *dwarf.Data, e *dwarf.Entry) dwarf.Type {
	offset, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
	if !ok {
		return nil
	}
	t, err := d.Type(offset)
	if err != nil {
		return nil
	}
	return plain(t)
}

func plain(t dwarf.Type) dwarf.Type {
	for {
		switch x := t.(type) {
		case *dwarf.TypedefType:
			t = x.Type
		case *dwarf.QualType:
			t = x.Type
		default:
			return t
		}
	}
}

// byReference tells whether the type of an entry is a class that is passed by its
// address, whatever its size.
func byReference(d *dwarf.Data, e *dwarf.Entry) bool {
	const passByReference = 4 // DW_CC_pass_by_reference
	for range 16 {
		offset, ok := e.Val(dwarf.AttrType).(dwarf.Offset)
		if !ok {
			return false
		}
		r := d.Reader()
		r.Seek(offset)
		var err error
		if e, err = r.Next(); err != nil || e == nil {
			return false
		}
		if e.Tag == dwarf.TagStructType || e.Tag == dwarf.TagClassType || e.Tag == dwarf.TagUnionType {
			convention, _ := e.Val(dwarf.AttrCalling).(int64)
			return convention == passByReference
		}
	}
	return false
}

// class returns the size of a type in bytes, whether it goes into a vector
// register, and whether it needs just one register.
func class(t dwarf.Type) (size int64, float, scalar bool) {
	size = t.Size()
	switch x := t.(type) {
	case *dwarf.FloatType:
		return size, true, size <= 8
	case *dwarf.PtrType, *dwarf.EnumType, *dwarf.IntType, *dwarf.UintType, *dwarf.CharType, *dwarf.UcharType, *dwarf.BoolType, *dwarf.AddrType:
		return size, false, size <= 8
	case *dwarf.UnsupportedType:
		reference := x.Tag == dwarf.TagReferenceType || x.Tag == dwarf.TagRvalueReferenceType
		return size, false, reference && size <= 8
	}
	return size, false, false
}

// isLongDouble tells whether a type is one of the x87 unit, which goes onto the
// stack and comes back on the unit's own.
func isLongDouble(t dwarf.Type) bool {
	f, ok := t.(*dwarf.FloatType)
	return ok && f.Name == "long double"
}

// word is what the ABI takes eight bytes of a value for.
type word int

const (
	empty word = iota
	vector
	integer
)

// classify says which registers the words of a value at offset at are in; false
// if that is not known.
func classify(t dwarf.Type, at int64, words *[2]word) bool {
	put := func(w word, size int64) bool {
		if at < 0 || at+size > 16 {
			return false
		}
		for i := at / 8; i*8 < at+size; i++ {
			words[i] = max(words[i], w)
		}
		return true
	}
	t = plain(t)
	switch x := t.(type) {
	case *dwarf.StructType:
		for _, f := range x.Field {
			if f.BitSize != 0 || !classify(f.Type, at+f.ByteOffset, words) {
				return false
			}
		}
		return !x.Incomplete
	case *dwarf.ArrayType:
		n := x.Type.Size()
		if n <= 0 || x.StrideBitSize > 0 {
			return false
		}
		for i := range x.Count {
			if !classify(x.Type, at+i*n, words) {
				return false
			}
		}
		return true
	case *dwarf.ComplexType:
		return put(vector, x.Size())
	}
	size, float, scalar := class(t)
	switch {
	case scalar && float:
		return put(vector, size)
	case scalar, !float && size == 16 && isInteger(t):
		return put(integer, size)
	}
	return false
}

func isInteger(t dwarf.Type) bool {
	switch t.(type) {
	case *dwarf.IntType, *dwarf.UintType:
		return true
	}
	return false
}
