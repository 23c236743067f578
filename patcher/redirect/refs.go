package redirect

import "encoding/binary"

// RefKind says what an instruction does with the address it holds.
type RefKind uint8

// The kinds of references.
const (
	Call RefKind = iota + 1 // call rel32
	Jump                    // jmp rel8 or rel32
	Cond                    // jcc, loop, jrcxz or xbegin: the branch may be taken or not
	Lea                     // lea disp32(%rip): the address itself
	Mem                     // any other disp32(%rip): the memory at the address (also an indirect call or jmp through it)
)

// String returns the kind's name.
func (k RefKind) String() string {
	switch k {
	case Call:
		return "call"
	case Jump:
		return "jump"
	case Cond:
		return "cond"
	case Lea:
		return "lea"
	case Mem:
		return "mem"
	}
	return "none"
}

// Ref is a field of an instruction that holds a distance to another address.
// No instruction has two of them.
type Ref struct {
	Kind   RefKind
	Offset int    // of the instruction from the start of the code, in bytes
	Len    int    // of the instruction, in bytes
	Field  int    // of the field from the start of the code, in bytes
	Size   int    // of the field in bytes: 1 or 4
	Target uint64 // the address it leads to
}

// Addend returns what an R_X86_64_PC32 (or PC8) relocation on the field has to
// add to the address of a symbol at r.Target: the field counts from the end of
// the instruction, the relocation from the field itself.
func (r Ref) Addend() int64 {
	return -int64(r.Offset + r.Len - r.Field)
}

// Branch reports whether the instruction itself goes to r.Target.
func (r Ref) Branch() bool {
	return r.Kind == Call || r.Kind == Jump || r.Kind == Cond
}

// Refs decodes code, which runs at addr, from its first byte to its last and
// returns every pc-relative reference in it, in order. Padding between
// instructions (nop, int3) decodes like any other instruction.
//
// If an instruction cannot be decoded, the error is a *DecodeError with its
// offset, and the references before it are returned with it. Code that holds
// data between its instructions may decode to references that are none.
func Refs(code []byte, addr uint64) ([]Ref, error) {
	var refs []Ref
	for off := 0; off < len(code); {
		in, err := decode(code[off:])
		if err != nil {
			return refs, &DecodeError{Offset: off, Reason: err.Error()}
		}
		if r, ok := in.ref(code, off, addr); ok {
			refs = append(refs, r)
		}
		off += in.len
	}
	return refs, nil
}

// ref returns the pc-relative reference of the instruction at code[off:].
func (in *inst) ref(code []byte, off int, addr uint64) (Ref, bool) {
	r := Ref{Offset: off, Len: in.len}
	end := addr + uint64(off+in.len)
	switch {
	case in.branch() != 0:
		r.Kind, r.Field, r.Size = in.branch(), off+in.immOff, in.immSize
	case in.ripRelative():
		r.Kind, r.Field, r.Size = Mem, off+in.dispOff, 4
		if in.isLea() {
			r.Kind = Lea
		}
	default:
		return Ref{}, false
	}
	if r.Size == 1 {
		r.Target = end + uint64(int64(int8(code[r.Field])))
	} else {
		r.Target = end + uint64(int64(int32(binary.LittleEndian.Uint32(code[r.Field:]))))
	}
	return r, true
}

// Calls returns the functions that code, which runs at addr, calls or ends in
// directly. unknown tells that it has a call through a register or memory, whose
// target the code does not say, or can't be decoded.
func Calls(code []byte, addr uint64) (targets []uint64, unknown bool, err error) {
	for off := 0; off < len(code); {
		in, err := decode(code[off:])
		if err != nil {
			return targets, unknown, &DecodeError{Offset: off, Reason: err.Error()}
		}
		unknown = unknown || in.indirectCall()
		if r, ok := in.ref(code, off, addr); ok && r.Branch() && (r.Kind == Call || r.Target-addr >= uint64(len(code))) {
			targets = append(targets, r.Target)
		}
		off += in.len
	}
	return targets, unknown, nil
}
