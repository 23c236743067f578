package emit

import (
	"debug/elf"
	"sort"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
)

// space lays out an object's loaded sections at made-up addresses, so that
// every place in it has one number. It is a gotype.Image.
type space struct {
	obj   *object.Object
	start []uint64 // by section; 0: not loaded
	order []int    // loaded sections by address
	text  uint64   // runtime.text
	types uint64   // runtime.types
}

// spaceGap separates sections, so that an address one past the end of a
// section is not in the next.
const spaceGap = 1 << 16

// newSpace lays out o.
func newSpace(o *object.Object) (*space, error) {
	s := &space{obj: o, start: make([]uint64, len(o.Sections))}
	at := uint64(spaceGap)
	for i, sec := range o.Sections {
		if sec.Flags&elf.SHF_ALLOC == 0 || sec.Flags&elf.SHF_TLS != 0 || sec.Type == elf.SHT_NOTE {
			continue
		}
		s.start[i] = at
		s.order = append(s.order, i)
		at = (at+sec.Size+spaceGap)&^(spaceGap-1) + spaceGap
	}
	for name, addr := range map[string]*uint64{"runtime.text": &s.text, "runtime.types": &s.types} {
		sym, ok := o.Lookup(name)
		if !ok {
			return nil, finding.Refuse(finding.UnsupportedBuild, "the object "+o.Path+" has no symbol "+name,
				"build with Go 1.24, 1.25 or 1.26")
		}
		*addr = s.symbol(sym)
	}
	return s, nil
}

// end returns the first address behind all sections.
func (s *space) end() uint64 {
	last := s.order[len(s.order)-1]
	return s.start[last] + s.obj.Sections[last].Size
}

// addr returns the address of a place.
func (s *space) addr(p object.Place) uint64 {
	if p.Section <= 0 || p.Section >= len(s.start) || s.start[p.Section] == 0 {
		return 0
	}
	return s.start[p.Section] + p.Offset
}

// symbol returns the address of a defined symbol.
func (s *space) symbol(sym int) uint64 {
	return s.addr(object.Place{Section: s.obj.Symbols[sym].Section, Offset: s.obj.Symbols[sym].Offset})
}

// place is the inverse of addr.
func (s *space) place(addr uint64) (object.Place, bool) {
	i := sort.Search(len(s.order), func(i int) bool { return s.start[s.order[i]] > addr }) - 1
	if i < 0 {
		return object.Place{}, false
	}
	sec := s.order[i]
	off := addr - s.start[sec]
	return object.Place{Section: sec, Offset: off}, off <= s.obj.Sections[sec].Size
}

// Bytes implements gotype.Image.
func (s *space) Bytes(addr uint64, n int) ([]byte, bool) {
	p, ok := s.place(addr)
	if !ok || n < 0 {
		return nil, false
	}
	data := s.obj.Sections[p.Section].Data
	if p.Offset > uint64(len(data)) || uint64(n) > uint64(len(data))-p.Offset {
		return nil, false
	}
	return data[p.Offset : p.Offset+uint64(n)], true
}

// Pointer implements gotype.Image.
func (s *space) Pointer(addr uint64) uint64 {
	if r := s.relocs(addr, addr+1); len(r) == 1 && r[0].Type == elf.R_X86_64_64 {
		return s.addr(r[0].Target)
	}
	return 0
}

// Types implements gotype.Image.
func (s *space) Types(uint64) uint64 { return s.types }

// relocs returns the relocations whose fields begin in [lo, hi).
func (s *space) relocs(lo, hi uint64) []object.Reloc {
	p, ok := s.place(lo)
	if !ok {
		return nil
	}
	r := s.obj.Sections[p.Section].Relocs
	i := sort.Search(len(r), func(i int) bool { return r[i].Offset >= p.Offset })
	j := i + sort.Search(len(r)-i, func(j int) bool { return r[i+j].Offset >= p.Offset+hi-lo })
	return r[i:j]
}
