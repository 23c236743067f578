package redirect

// imm is the kind of an immediate.
type imm uint8

const (
	noImm    imm = iota
	imm8         // one byte
	imm16        // two bytes
	imm24        // enter: a word and a byte
	imm16or4     // 2 bytes with an operand size prefix, else 4
	imm32        // four bytes
	immFull      // as wide as the operand: 2, 4 or 8 bytes
	immAddr      // as wide as an address: 8 bytes, or 4
	byGroup      // depends on the reg field of ModRM
)

// form says what follows an opcode.
type form struct {
	valid bool
	modrm bool
	imm   imm
}

// legacy and legacy0F are the one-byte map and the 0F map in 64-bit mode (SDM
// volume 2, appendix A, tables ).
var legacy, legacy0F = legacyForms(), legacy0FForms()

func set(t *[256]form, lo, hi int, modrm bool, i imm) {
	for op := lo; op <= hi; op++ {
		t[op] = form{true, modrm, i}
	}
}

func legacyForms() (t [256]form) {
	for row := 0x00; row < 0x40; row += 8 { // add, or, adc, sbb, and, sub, xor, cmp
		set(&t, row, row+3, true, noImm)
		set(&t, row+4, row+4, false, imm8)
		set(&t, row+5, row+5, false, imm16or4)
	}
	set(&t, 0x50, 0x5F, false, noImm)
	set(&t, 0x63, 0x63, true, noImm)
	set(&t, 0x68, 0x68, false, imm16or4)
	set(&t, 0x69, 0x69, true, imm16or4)
	set(&t, 0x6A, 0x6A, false, imm8)
	set(&t, 0x6B, 0x6B, true, imm8)
	set(&t, 0x6C, 0x6F, false, noImm)
	set(&t, 0x70, 0x7F, false, imm8)
	set(&t, 0x80, 0x80, true, imm8)
	set(&t, 0x81, 0x81, true, imm16or4)
	set(&t, 0x83, 0x83, true, imm8)
	set(&t, 0x84, 0x8F, true, noImm)
	set(&t, 0x90, 0x99, false, noImm)
	set(&t, 0x9B, 0x9F, false, noImm)
	set(&t, 0xA0, 0xA3, false, immAddr)
	set(&t, 0xA4, 0xA7, false, noImm)
	set(&t, 0xA8, 0xA8, false, imm8)
	set(&t, 0xA9, 0xA9, false, imm16or4)
	set(&t, 0xAA, 0xAF, false, noImm)
	set(&t, 0xB0, 0xB7, false, imm8)
	set(&t, 0xB8, 0xBF, false, immFull)
	set(&t, 0xC0, 0xC1, true, imm8)
	set(&t, 0xC2, 0xC2, false, imm16)
	set(&t, 0xC3, 0xC3, false, noImm)
	set(&t, 0xC6, 0xC6, true, imm8)
	set(&t, 0xC7, 0xC7, true, imm16or4)
	set(&t, 0xC8, 0xC8, false, imm24)
	set(&t, 0xC9, 0xC9, false, noImm)
	set(&t, 0xCA, 0xCA, false, imm16)
	set(&t, 0xCB, 0xCC, false, noImm)
	set(&t, 0xCD, 0xCD, false, imm8)
	set(&t, 0xCF, 0xCF, false, noImm)
	set(&t, 0xD0, 0xD3, true, noImm)
	set(&t, 0xD7, 0xD7, false, noImm)
	set(&t, 0xD8, 0xDF, true, noImm)
	set(&t, 0xE0, 0xE7, false, imm8)
	set(&t, 0xE8, 0xE9, false, imm32)
	set(&t, 0xEB, 0xEB, false, imm8)
	set(&t, 0xEC, 0xEF, false, noImm)
	set(&t, 0xF1, 0xF1, false, noImm)
	set(&t, 0xF4, 0xF5, false, noImm)
	set(&t, 0xF6, 0xF7, true, byGroup)
	set(&t, 0xF8, 0xFD, false, noImm)
	set(&t, 0xFE, 0xFF, true, noImm)
	return t
}

func legacy0FForms() (t [256]form) {
	set(&t, 0x00, 0xFF, true, noImm)
	for _, op := range []int{0x04, 0x0A, 0x0C, 0x24, 0x25, 0x26, 0x27, 0x36,
		0x39, 0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x7A, 0x7B, 0xA6, 0xA7} {
		t[op] = form{}
	}
	set(&t, 0x05, 0x09, false, noImm)
	set(&t, 0x0B, 0x0B, false, noImm)
	set(&t, 0x0E, 0x0E, false, noImm)
	set(&t, 0x0F, 0x0F, true, imm8) // 3DNow!
	set(&t, 0x30, 0x35, false, noImm)
	set(&t, 0x37, 0x37, false, noImm)
	set(&t, 0x70, 0x73, true, imm8)
	set(&t, 0x77, 0x77, false, noImm)
	set(&t, 0x78, 0x78, true, byGroup)
	set(&t, 0x80, 0x8F, false, imm32)
	set(&t, 0xA0, 0xA2, false, noImm)
	set(&t, 0xA4, 0xA4, true, imm8)
	set(&t, 0xA8, 0xAA, false, noImm)
	set(&t, 0xAC, 0xAC, true, imm8)
	set(&t, 0xBA, 0xBA, true, imm8)
	set(&t, 0xC2, 0xC2, true, imm8)
	set(&t, 0xC4, 0xC6, true, imm8)
	set(&t, 0xC8, 0xCF, false, noImm)
	return t
}

// form returns what follows the opcode.
func (in *inst) form() (form, error) {
	f := form{valid: true, modrm: true}
	switch in.space {
	case oneByte:
		f = legacy[in.op]
	case map0F:
		switch {
		case !in.extended:
			f = legacy0F[in.op]
		case in.op == 0x77: // vzeroupper, vzeroall
			f.modrm = false
		case in.op >= 0x70 && in.op <= 0x73, in.op == 0xC2, in.op >= 0xC4 && in.op <= 0xC6:
			f.imm = imm8
		}
	case map0F3A, xop8:
		f.imm = imm8
	case xopA:
		f.imm = imm32
	}
	if !f.valid {
		return f, errInvalid
	}
	return f, nil
}

// groupImm returns the immediate of the opcodes where ModRM or a prefix
// decides.
func (in *inst) groupImm() imm {
	switch {
	case in.space == map0F: // extrq and insertq have two bytes, vmread none
		if in.data16 || in.rep == 0xF2 {
			return imm16
		}
	case in.reg() <= 1: // test, of all the group
		if in.op == 0xF6 {
			return imm8
		}
		return imm16or4
	}
	return noImm
}

// immBytes returns the size of an immediate of kind i in bytes.
func (in *inst) immBytes(i imm) int {
	switch i {
	case imm8:
		return 1
	case imm16:
		return 2
	case imm24:
		return 3
	case imm32:
		return 4
	case imm16or4:
		if in.data16 && in.rex&rexW == 0 {
			return 2
		}
		return 4
	case immFull:
		switch {
		case in.rex&rexW != 0:
			return 8
		case in.data16:
			return 2
		}
		return 4
	case immAddr:
		if in.addr32 {
			return 4
		}
		return 8
	}
	return 0
}
