package cobject

import (
	"bytes"
	"debug/elf"
	"fmt"

	"github.com/darn-dev/darn/patcher/redirect"
)

// Match compares the function in a section with code that a linker has made of
// it, which is at addr in the program (run-pre matching, as Ksplice has it). They
// are equal if the instructions are, but for what the linker puts in: addresses,
// the sizes of jumps, padding, and the shorter ways that it knows to variables.
// Where the sections that the function refers to begin in the program is read
// from the code; why says what differs, "" if nothing.
func (o *Object) Match(section int, code []byte, addr uint64) (where map[int]uint64, why string) {
	m := &matcher{o: o, s: &o.Sections[section], code: code, addr: addr, where: map[int]uint64{}, at: map[int]int{}}
	if why := m.instructions(); why != "" {
		if m.bytes() {
			return m.where, ""
		}
		return nil, why
	}
	return m.where, ""
}

type matcher struct {
	o     *Object
	s     *Section
	code  []byte
	addr  uint64
	where map[int]uint64
	at    map[int]int // places in code by those in the section
	jumps [][2]int    // pairs that at must have
}

// bytes is for functions that can't be decoded.
func (m *matcher) bytes() bool {
	if len(m.code) != len(m.s.Data) {
		return false
	}
	masked := bytes.Clone(m.s.Data)
	for _, r := range m.s.Relocs {
		if r.Offset+4 > uint64(len(masked)) || viaTable(r.Type) {
			return false
		}
		copy(masked[r.Offset:], m.code[r.Offset:r.Offset+4])
	}
	return bytes.Equal(masked, m.code)
}

// opaque are the bytes that the code for a thread-local variable takes, which the
// linker writes anew, and how far before the relocation they begin.
var opaque = map[elf.R_X86_64]struct{ before, size int }{
	elf.R_X86_64_TLSGD: {4, 16}, elf.R_X86_64_TLSLD: {3, 12}, elf.R_X86_64_GOTTPOFF: {3, 7},
	elf.R_X86_64_GOTPC32_TLSDESC: {3, 7}, elf.R_X86_64_TLSDESC_CALL: {0, 2},
}

func (m *matcher) instructions() string {
	data := m.s.Data
	relocs := m.s.Relocs
	for i, j := 0, 0; ; {
		m.at[i] = j
		for i < len(data) && (len(relocs) == 0 || relocs[0].Offset != uint64(i)) && nop(data[i:]) > 0 {
			i += nop(data[i:])
		}
		for j < len(m.code) && nop(m.code[j:]) > 0 && (i == len(data) || !bytes.HasPrefix(m.code[j:], []byte{0x66, 0x90}) || len(relocs) == 0 || relocs[0].Type != elf.R_X86_64_TLSDESC_CALL || relocs[0].Offset != uint64(i)) {
			j += nop(m.code[j:])
		}
		m.at[i] = j
		if i >= len(data) || j >= len(m.code) {
			if i < len(data) || j < len(m.code) {
				return fmt.Sprintf("it has %d bytes, and %d in the program", len(data), len(m.code))
			}
			break
		}
		differ := fmt.Sprintf("its instructions at %#x differ", i)
		if len(relocs) > 0 {
			if x, ok := opaque[relocs[0].Type]; ok && int(relocs[0].Offset)-x.before == i {
				i, j = i+x.size, j+x.size
				for len(relocs) > 0 && relocs[0].Offset < uint64(i) {
					relocs = relocs[1:]
				}
				continue
			}
		}
		n, err1 := redirect.Length(data[i:])
		k, err2 := redirect.Length(m.code[j:])
		if err1 != nil || err2 != nil {
			return differ
		}
		var r *Reloc
		if len(relocs) > 0 && relocs[0].Offset < uint64(i+n) {
			r = &relocs[0]
			relocs = relocs[1:]
		}
		if !m.instruction(i, n, j, k, r) {
			return differ
		}
		i, j = i+n, j+k
	}
	for _, jump := range m.jumps {
		if to, known := m.at[jump[0]]; !known || to != jump[1] {
			return fmt.Sprintf("a jump to %#x leads elsewhere in the program", jump[0])
		}
	}
	return ""
}

// instruction compares the n bytes at i of the section with the k bytes at j of
// the code. r is the relocation in them, if there is one.
func (m *matcher) instruction(i, n, j, k int, r *Reloc) bool {
	x, y := m.s.Data[i:i+n], m.code[j:j+k]
	own, errOwn := redirect.Refs(x, uint64(i))
	ref, errRef := redirect.Refs(y, m.addr+uint64(j))
	if errOwn != nil || errRef != nil {
		return false
	}
	if len(own) == 1 && own[0].Branch() {
		if len(ref) != 1 || ref[0].Kind != own[0].Kind || condition(x) != condition(y) {
			return false
		}
		if r == nil {
			m.jumps = append(m.jumps, [2]int{int(own[0].Target), int(ref[0].Target - m.addr)})
			return true
		}
		m.learn(r, ref[0].Target-uint64(r.Addend)-4)
		return true
	}
	if r == nil {
		return bytes.Equal(x, y)
	}
	field := int(r.Offset) - i
	size := 4
	if r.Type == elf.R_X86_64_64 || r.Type == elf.R_X86_64_PC64 {
		size = 8
	}
	if field+size > n {
		return false
	}
	if r.Type == elf.R_X86_64_GOTPCRELX || r.Type == elf.R_X86_64_REX_GOTPCRELX {
		if len(ref) == 1 && ref[0].Kind != redirect.Mem { // call *, mov and so on became direct
			m.learn(r, ref[0].Target-uint64(r.Addend)-4)
		}
		if n == k && bytes.Equal(x[:field], y[:field]) {
			return true
		}
		return k == n || k == n-1 // jmp * becomes jmp and a nop
	}
	if n != k || !bytes.Equal(x[:field], y[:field]) || !bytes.Equal(x[field+size:], y[field+size:]) {
		return false
	}
	switch {
	case r.Type == elf.R_X86_64_PC32 || r.Type == elf.R_X86_64_PLT32:
		m.learn(r, uint64(int64(int32(le.Uint32(y[field:]))))+m.addr+uint64(j+field)-uint64(r.Addend))
	case r.Type == elf.R_X86_64_32 || r.Type == elf.R_X86_64_32S:
		m.learn(r, uint64(le.Uint32(y[field:]))-uint64(r.Addend))
	}
	return true
}

// learn notes where the symbol of a relocation is.
func (m *matcher) learn(r *Reloc, addr uint64) {
	if x := &m.o.Symbols[r.Symbol]; x.Section != 0 {
		m.where[x.Section] = addr - x.Value
	}
}

// condition returns what distinguishes the branches of one kind.
func condition(code []byte) byte {
	for len(code) > 1 && (code[0] == 0x2E || code[0] == 0x3E || code[0] == 0xF2) {
		code = code[1:]
	}
	switch {
	case code[0] == 0x0F && len(code) > 1:
		return code[1] & 15
	case code[0]&0xF0 == 0x70:
		return code[0] & 15
	case code[0]&0xF0 == 0xE0 && code[0] < 0xE8: // loop, jrcxz
		return code[0]
	}
	return 0
}

// nop returns the size of the instruction that does nothing at the start of code,
// 0 if there is another.
func nop(code []byte) int {
	i := 0
	for i < len(code) && (code[i] == 0x66 || code[i] == 0x2E) {
		i++
	}
	if i < len(code) && code[i] == 0x90 || i+1 < len(code) && code[i] == 0x0F && code[i+1] == 0x1F {
		if n, err := redirect.Length(code); err == nil {
			return n
		}
	}
	return 0
}
