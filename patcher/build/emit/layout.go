package emit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
)

const (
	pageSize  = 4096
	thunkSize = 16 // of a jump to the target, bytes
)

func pageUp(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// imageStart is the address of the first segment: not 0, so that no function
// has the address 0.
const imageStart = pageSize

// segStart returns the address of a segment that was laid.
func (b *builder) segStart(seg segment) uint64 { return b.starts[seg] }

// ownPieces makes the pieces of all owned parts of New in a segment.
func (b *builder) ownPieces(seg segment) pieces {
	var ps pieces
	for _, s := range merge(b.spans[seg]) {
		p := &piece{lo: s.lo, size: s.hi - s.lo}
		if d, ok := b.new.Bytes(s.lo, int(p.size)); ok {
			p.data = bytes.Clone(d)
		}
		ps = append(ps, p)
	}
	return ps
}

// moved returns where what was at an address of New's space, or a fresh one, is
// in the module.
func (b *builder) moved(lo uint64) uint64 {
	p := b.pieceAt(lo)
	if p == nil {
		panic(fmt.Sprintf("emit: %#x was not laid", lo))
	}
	return p.addr + lo - p.lo
}

func (b *builder) pieceAt(lo uint64) *piece {
	for seg := range segments {
		if p := b.laid[seg].at(lo); p != nil {
			return p
		}
	}
	return nil
}

// layText lays out the code. Text offset 0 stays unused, since in a method's
// slot it would mean none.
func (b *builder) layText() error {
	b.laid[segText] = append(b.ownPieces(segText), b.made[segText]...)
	b.starts[segText] = imageStart
	b.text.lo = imageStart + alignment
	b.text.hi = place(b.laid[segText], b.text.lo)
	b.text.lo = b.laid[segText][0].addr
	return nil
}

// layData lays out the variables: module data and plain ones, those with
// pointers, then the same without initial values, as the runtime's
// moduledata has it. It makes the pointer masks. Addresses are relative to the
// segment until layTables.
func (b *builder) layData() error {
	b.moduledata = b.freshPiece(segData, make([]byte, b.md.size))
	groups := map[string][]*piece{"": {b.moduledata}}
	for _, p := range b.ownPieces(segData) {
		at, _ := b.new.place(p.lo)
		name := b.New.Sections[at.Section].Name
		switch name {
		case ".data", ".bss", ".noptrbss":
		default:
			name = ""
		}
		groups[name] = append(groups[name], p)
	}
	for _, p := range b.made[segData] {
		switch {
		case p == b.moduledata:
		case p.pointers:
			groups[".data"] = append(groups[".data"], p)
		default:
			groups[""] = append(groups[""], p)
		}
	}
	at := uint64(0)
	for _, g := range []struct {
		name   string
		lo, hi *uint64
	}{{"", &b.ends.noptrdata, &b.ends.enoptrdata}, {".data", &b.ends.data, &b.ends.edata},
		{".bss", &b.ends.bss, &b.ends.ebss}, {".noptrbss", &b.ends.noptrbss, &b.ends.end}} {
		at = (at + alignment - 1) &^ (alignment - 1)
		*g.lo = at
		at = place(groups[g.name], at)
		at = (at + 7) &^ 7
		*g.hi = at
		b.laid[segData] = append(b.laid[segData], groups[g.name]...)
	}
	slices.SortFunc(b.laid[segData], byOrigin)
	var err error
	if b.dataMask, err = b.mask(groups[".data"], ".data", "runtime.data", "runtime.edata", "runtime.gcdata", b.ends.data, b.ends.edata); err != nil {
		return err
	}
	b.bssMask, err = b.mask(groups[".bss"], ".bss", "runtime.bss", "runtime.ebss", "runtime.gcbss", b.ends.bss, b.ends.ebss)
	return err
}

func byOrigin(a, b *piece) int {
	if a.lo < b.lo {
		return -1
	}
	return 1
}

// mask makes the pointer mask of a range of the module's variables from the
// program by which New's linker describes the whole section.
func (b *builder) mask(ps []*piece, section, start, end, program string, lo, hi uint64) (*piece, error) {
	out := make([]byte, ((hi-lo)/8+7)/8+1)
	if len(ps) > 0 {
		syms := [3]int{}
		for i, name := range []string{start, end, program} {
			sym, ok := b.New.Lookup(name)
			if !ok {
				return nil, finding.Refuse(finding.UnsupportedBuild, "the object of the new source has no symbol "+name, "build with Go 1.24, 1.25 or 1.26")
			}
			syms[i] = sym
		}
		from := b.new.symbol(syms[0])
		p := &b.New.Symbols[syms[2]]
		bits, err := runGCProgram(b.New.Sections[p.Section].Data[p.Offset:], int(b.new.symbol(syms[1])-from+7)/8)
		if err != nil {
			return nil, fmt.Errorf("pointer mask of %s: %w", section, err)
		}
		for _, p := range ps {
			for off := uint64(0); off < p.size; off += 8 {
				if w := (p.lo + off - from) / 8; p.pointers || w < uint64(len(bits)) && bits[w] {
					at := (p.addr + off - lo) / 8
					out[at/8] |= 1 << (at % 8)
				}
			}
		}
	}
	return b.freshPiece(segRodata, out), nil
}

// layTables lays out constants and types, then writes and lays out the line
// table and what else the runtime wants to know, and settles all addresses.
func (b *builder) layTables() error {
	b.starts[segRodata] = pageUp(b.text.hi)
	ps := append(b.ownPieces(segRodata), b.made[segRodata]...)
	made := len(b.made[segRodata])
	slices.SortFunc(ps, byOrigin)
	b.laid[segRodata] = ps
	// Offset 0 from the types means none.
	at := place(ps, b.starts[segRodata]+alignment)
	if err := b.writeTables(); err != nil {
		return err
	}
	later := b.made[segRodata][made:]
	b.ends.rodata = place(later, at)
	b.laid[segRodata] = append(ps, later...) // fresh ones come last
	b.starts[segData] = pageUp(b.ends.rodata)
	for _, p := range b.laid[segData] {
		p.addr += b.starts[segData]
	}
	for _, end := range []*uint64{&b.ends.noptrdata, &b.ends.enoptrdata, &b.ends.data, &b.ends.edata, &b.ends.bss, &b.ends.ebss, &b.ends.noptrbss, &b.ends.end} {
		*end += b.starts[segData]
	}
	b.writeModuledata()
	return nil
}

// writeTables writes the line table, the table that finds functions, and the
// list of types for reflection.
func (b *builder) writeTables() error {
	list, err := b.entries()
	if err != nil {
		return err
	}
	w := &tableWriter{b: b, names: []byte{0}, pcs: []byte{0}, nameAt: map[string]uint32{}, fileAt: map[string]uint32{},
		pcAt: map[uint32]uint32{}, cuAt: map[uint32]uint32{}, cuFiles: map[uint32][]int32{}, dataAt: map[string]uint32{}}
	if err := w.write(list); err != nil {
		return err
	}
	find, err := b.findTable(list)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	head := make([]byte, pcHeaderSize)
	copy(head, b.lines.data[:8])
	le.PutUint64(head[8:], uint64(len(list)))
	le.PutUint64(head[16:], uint64(len(w.fileAt)))
	out := pad(head, alignment)
	t := &b.tables
	t.count, t.cus = len(list), len(w.cus)/4
	for i, part := range []struct {
		data   []byte
		lo, hi *uint64
	}{{w.names, &t.names, &t.enames}, {w.cus, &t.cutab, nil}, {w.files, &t.files, &t.efiles}, {w.pcs, &t.pcs, &t.epcs},
		{w.funcs, &t.funcs, &t.efuncs}, {w.funcdata, &t.gofunc, nil}, {find, &t.find, nil}} {
		out = pad(out, 16)
		*part.lo = uint64(len(out))
		if i < 5 {
			le.PutUint64(out[32+8*i:], uint64(len(out)))
		}
		out = append(out, part.data...)
		if part.hi != nil {
			*part.hi = uint64(len(out))
		}
	}
	b.tables.piece = b.freshPiece(segRodata, pad(out, 16))
	if b.lines.textStart {
		b.places = append(b.places, placed{b.tables.piece.lo + 24, b.starts[segText]})
	}
	b.typelinks = b.freshPiece(segRodata, b.typelinkList())
	return nil
}

// typelinkList lists the module's own types among those that reflection can
// find by their string, in the linker's order, which is by string.
func (b *builder) typelinkList() []byte {
	var out []byte
	le := binary.LittleEndian
	for i := range b.New.Sections {
		if s := &b.New.Sections[i]; s.Name == ".typelink" || s.Name == ".data.rel.ro.typelink" {
			for d := s.Data; len(d) >= 4; d = d[4:] {
				if addr := b.new.types + uint64(le.Uint32(d)); b.types.own[addr] {
					out = le.AppendUint32(out, uint32(b.moved(addr)-b.segStart(segRodata)))
				}
			}
		}
	}
	return out
}

// writeModuledata fills the module's moduledata with all that the builder
// knows: everything but what the loader chains it into.
func (b *builder) writeModuledata() {
	le := binary.LittleEndian
	data := b.moduledata.data
	word := func(field string, add, value uint64) {
		if off, ok := b.md.offset[field]; ok {
			le.PutUint64(data[off+add:], value)
		}
	}
	address := func(field string, add, addr uint64) {
		if off, ok := b.md.offset[field]; ok {
			b.places = append(b.places, placed{b.moduledata.lo + off + add, addr})
		}
	}
	slice := func(field string, addr, n uint64) {
		address(field, 0, addr)
		word(field, 8, n)
		word(field, 16, n)
	}
	t := &b.tables
	pcln := t.piece.addr
	address("pcHeader", 0, pcln)
	slice("funcnametab", pcln+t.names, t.enames-t.names)
	slice("cutab", pcln+t.cutab, uint64(t.cus))
	slice("filetab", pcln+t.files, t.efiles-t.files)
	slice("pctab", pcln+t.pcs, t.epcs-t.pcs)
	slice("pclntable", pcln+t.funcs, t.efuncs-t.funcs)
	slice("ftab", pcln+t.funcs, uint64(t.count)+1)
	if n := uint64(len(b.typelinks.data) / 4); n > 0 {
		slice("typelinks", b.typelinks.addr, n)
	}
	for field, addr := range map[string]uint64{
		"findfunctab": pcln + t.find, "minpc": b.text.lo, "maxpc": b.text.hi,
		"text": b.starts[segText], "etext": b.text.hi,
		"noptrdata": b.ends.noptrdata, "enoptrdata": b.ends.enoptrdata, "data": b.ends.data, "edata": b.ends.edata,
		"bss": b.ends.bss, "ebss": b.ends.ebss, "noptrbss": b.ends.noptrbss, "enoptrbss": b.ends.end,
		"covctrs": b.ends.end, "ecovctrs": b.ends.end, "end": b.ends.end,
		"types": b.starts[segRodata], "etypes": b.ends.rodata, "rodata": b.starts[segRodata],
		"gofunc": pcln + t.gofunc, "epclntab": pcln + t.piece.size,
	} {
		address(field, 0, addr)
	}
	// runtime.bitvector: n int32, bytedata *uint8.
	for _, m := range []struct {
		field  string
		mask   *piece
		lo, hi uint64
	}{{"gcdatamask", b.dataMask, b.ends.data, b.ends.edata}, {"gcbssmask", b.bssMask, b.ends.bss, b.ends.ebss}} {
		le.PutUint32(data[b.md.offset[m.field]:], uint32((m.hi-m.lo)/8))
		address(m.field, 8, m.mask.addr)
	}
}

// placed is a field that holds an address of the module.
type placed struct{ at, addr uint64 }
