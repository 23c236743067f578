package redirect

import (
	"errors"
	"fmt"
)

// maxLen is the most bytes an x86 instruction may have (SDM 2.3.11).
const maxLen = 15

// The reasons why bytes are no instruction.
var (
	errTruncated = errors.New("the instruction does not end within the code")
	errTooLong   = errors.New("the instruction is longer than 15 bytes")
	errInvalid   = errors.New("no such instruction")
	errBranch16  = errors.New("a branch with an operand size prefix means different things to different processors")
)

// DecodeError is the error of code that cannot be decoded.
type DecodeError struct {
	Offset int    // of the instruction from the start of the code, in bytes
	Reason string // what is wrong with it
}

// Error says where decoding ended and why.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("redirect: code cannot be decoded at offset %#x: %s", e.Offset, e.Reason)
}

// Length returns the length in bytes of the instruction that code begins with:
// any x86-64 instruction in the legacy, VEX, EVEX or XOP encoding. It never
// looks at more than 15 bytes. The length is the processor's even where an
// operand makes the instruction invalid; only an opcode that has no
// instruction is a *DecodeError, as is a code too short to hold it all.
func Length(code []byte) (int, error) {
	in, err := decode(code)
	if err != nil {
		return 0, &DecodeError{Reason: err.Error()}
	}
	return in.len, nil
}

// space is an opcode map. The values are those of the VEX, EVEX and XOP map
// fields.
type space uint8

const (
	oneByte space = 0
	map0F   space = 1
	map0F38 space = 2
	map0F3A space = 3
	map5    space = 5 // EVEX, half precision
	map6    space = 6 // EVEX, half precision
	xop8    space = 8
	xop9    space = 9
	xopA    space = 10
)

// inst is where the parts of one instruction are. Offsets count from its first
// byte, sizes are in bytes and 0 if the instruction has no such part.
type inst struct {
	len      int
	space    space
	op       byte // the opcode within its space
	extended bool // encoded with VEX, EVEX or XOP

	seg     byte // the last segment prefix, or 0
	rep     byte // the last of F2 and F3, or 0
	lock    bool
	data16  bool // operand size prefix
	addr32  bool // address size prefix
	rex     byte // REX prefix, or 0; for VEX, EVEX and XOP the same bits
	modOff  int  // of ModRM; 0 if there is none
	modrm   byte
	sib     byte
	dispOff int
	dispLen int
	immOff  int // of the immediates, or of a branch's distance
	immSize int
}

const (
	rexW = 8
	rexR = 4
	rexX = 2
	rexB = 1
)

// decode finds the parts of the instruction that code begins with.
func decode(code []byte) (inst, error) {
	d := decoder{code: code}
	if err := d.decode(); err != nil {
		return inst{}, err
	}
	return d.inst, nil
}

type decoder struct {
	inst
	code []byte
	pos  int
}

func (d *decoder) next() (byte, error) {
	if d.pos == maxLen {
		return 0, errTooLong
	}
	if d.pos == len(d.code) {
		return 0, errTruncated
	}
	b := d.code[d.pos]
	d.pos++
	return b, nil
}

func (d *decoder) skip(n int) error {
	switch {
	case d.pos+n > maxLen:
		return errTooLong
	case d.pos+n > len(d.code):
		return errTruncated
	}
	d.pos += n
	return nil
}

func (d *decoder) decode() error {
	if err := d.prefixes(); err != nil {
		return err
	}
	f, err := d.form()
	if err != nil {
		return err
	}
	if f.modrm {
		if err := d.operand(); err != nil {
			return err
		}
	}
	if f.imm == byGroup {
		f.imm = d.groupImm()
	}
	if d.immSize = d.immBytes(f.imm); d.immSize > 0 {
		d.immOff = d.pos
		if err := d.skip(d.immSize); err != nil {
			return err
		}
	}
	if d.data16 && d.rex&rexW == 0 && d.branch() != 0 && d.immSize != 1 {
		return errBranch16
	}
	d.len = d.pos
	return nil
}

// prefixes reads up to and including the opcode.
func (d *decoder) prefixes() error {
	for {
		b, err := d.next()
		if err != nil {
			return err
		}
		switch {
		case b == 0x26 || b == 0x2E || b == 0x36 || b == 0x3E || b == 0x64 || b == 0x65:
			d.seg, d.rex = b, 0
		case b == 0x66:
			d.data16, d.rex = true, 0
		case b == 0x67:
			d.addr32, d.rex = true, 0
		case b == 0xF0:
			d.lock, d.rex = true, 0
		case b == 0xF2 || b == 0xF3:
			d.rep, d.rex = b, 0
		case b&0xF0 == 0x40:
			d.rex = b // the last one counts, and only right before the opcode
		case b == 0xC4 || b == 0xC5 || b == 0x62:
			return d.vector(b)
		case b == 0x8F:
			if d.pos < len(d.code) && d.code[d.pos]&0x1F >= byte(xop8) {
				return d.vector(b)
			}
			d.op = b
			return nil
		case b == 0x0F:
			return d.escape()
		default:
			d.op = b
			return nil
		}
	}
}

// escape reads the opcode after 0F.
func (d *decoder) escape() error {
	d.space = map0F
	b, err := d.next()
	if err != nil {
		return err
	}
	if b == 0x38 || b == 0x3A {
		d.space = map0F38
		if b == 0x3A {
			d.space = map0F3A
		}
		if b, err = d.next(); err != nil {
			return err
		}
	}
	d.op = b
	return nil
}

// vector reads the rest of a VEX (C4, C5), EVEX (62) or XOP (8F) prefix and
// the opcode (SDM 2.3.5 and 2.7.1, AMD APM volume 3, 1.9). No legacy prefix
// that such a prefix contains may stand before it.
func (d *decoder) vector(first byte) error {
	if d.data16 || d.lock || d.rep != 0 || d.rex != 0 {
		return errInvalid
	}
	d.extended = true
	p0, err := d.next()
	if err != nil {
		return err
	}
	d.space = map0F
	d.rex = 0x40 | ^p0>>5&(rexR|rexX|rexB)
	if first == 0xC5 {
		d.rex = 0x40 | ^p0>>5&rexR
	} else {
		p1, err := d.next()
		if err != nil {
			return err
		}
		d.rex |= p1 >> 4 & rexW
		d.space = space(p0 & 0x1F)
		valid := d.space >= map0F && d.space <= map0F3A
		switch first {
		case 0x62:
			d.space = space(p0 & 7)
			valid = p0&8 == 0 && p1&4 != 0 &&
				(d.space >= map0F && d.space <= map0F3A || d.space == map5 || d.space == map6)
			if err := d.skip(1); err != nil {
				return err
			}
		case 0x8F:
			valid = d.space >= xop8 && d.space <= xopA
		}
		if !valid {
			return errInvalid
		}
	}
	if d.op, err = d.next(); err != nil {
		return err
	}
	return nil
}

// operand reads ModRM, SIB and the displacement.
func (d *decoder) operand() error {
	var err error
	if d.modrm, err = d.next(); err != nil {
		return err
	}
	d.modOff = d.pos - 1
	if !d.memory() {
		return nil
	}
	mod, rm := d.modrm>>6, d.modrm&7
	if rm == 4 {
		if d.sib, err = d.next(); err != nil {
			return err
		}
		rm = d.sib & 7
	}
	switch {
	case mod == 1:
		d.dispLen = 1
	case mod == 2, rm == 5: // mod is 0 or 2 here
		d.dispLen = 4
	}
	if d.dispLen > 0 {
		d.dispOff = d.pos
	}
	return d.skip(d.dispLen)
}

// memory reports whether ModRM names memory (or an address, as in lea).
func (in *inst) memory() bool {
	if in.modOff == 0 || in.modrm>>6 == 3 {
		return false
	}
	// Moves from and to control and debug registers ignore mod.
	return in.extended || in.space != map0F || in.op < 0x20 || in.op > 0x23
}

// ripRelative reports whether the operand is disp32(%rip).
func (in *inst) ripRelative() bool {
	return in.memory() && in.modrm&0xC7 == 5
}

// isLea reports whether the instruction takes the address of its operand.
func (in *inst) isLea() bool {
	return in.space == oneByte && in.op == 0x8D
}

// base returns the register number of the operand's base, or -1.
func (in *inst) base() int {
	rm := in.modrm & 7
	if rm == 4 {
		rm = in.sib & 7
	}
	if rm == 5 && in.modrm>>6 == 0 {
		return -1
	}
	return int(rm) | int(in.rex&rexB)<<3
}

// indexed reports whether the operand has an index register.
func (in *inst) indexed() bool {
	return in.modrm&7 == 4 && (in.sib>>3&7 != 4 || in.rex&rexX != 0)
}

// reg returns the reg field of ModRM: an opcode extension, or with REX.R a
// register number.
func (in *inst) reg() byte { return in.modrm >> 3 & 7 }

// branch returns the kind of branch whose distance the instruction holds, or 0.
func (in *inst) branch() RefKind {
	if in.extended {
		return 0
	}
	switch in.space {
	case oneByte:
		switch {
		case in.op == 0xE8:
			return Call
		case in.op == 0xE9, in.op == 0xEB:
			return Jump
		case in.op&0xF0 == 0x70, in.op >= 0xE0 && in.op <= 0xE3:
			return Cond
		case in.op == 0xC7 && in.modrm == 0xF8: // xbegin
			return Cond
		}
	case map0F:
		if in.op&0xF0 == 0x80 {
			return Cond
		}
	}
	return 0
}
