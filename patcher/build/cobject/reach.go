package cobject

import "debug/elf"

// Reach returns the sections that those of start need with them: all that they
// lead to but for what is bound, which is the program's. need is told the names
// that the object does not define.
func (o *Object) Reach(start []int, bound func(section int) bool, need func(name string)) map[int]bool {
	reached := map[int]bool{}
	todo := append([]int(nil), start...)
	follow := func(r Reloc) {
		p := o.place(r)
		switch {
		case p.section == 0:
			if p.name != "" {
				need(p.name)
			}
		case !reached[p.section] && !bound(p.section) && o.Sections[p.section].Flags&elf.SHF_ALLOC != 0:
			todo = append(todo, p.section)
		}
	}
	unwinding := o.unwinding()
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if reached[s] {
			continue
		}
		reached[s] = true
		for _, r := range o.Sections[s].Relocs {
			follow(r)
		}
		for _, r := range unwinding[s] {
			follow(r)
		}
	}
	return reached
}

// unwinding returns what the unwind tables of functions lead to, by the functions'
// sections: the tables of their exception handlers, and who reads these.
func (o *Object) unwinding() map[int][]Reloc {
	found := map[int][]Reloc{}
	for i := range o.Sections {
		s := &o.Sections[i]
		if s.Name != ".eh_frame" || s.Data == nil {
			continue
		}
		within := func(from, to int) (relocs []Reloc) {
			for _, r := range s.Relocs {
				if r.Offset >= uint64(from) && r.Offset < uint64(to) {
					relocs = append(relocs, r)
				}
			}
			return relocs
		}
		for at := 0; at+8 <= len(s.Data); {
			size := int(le.Uint32(s.Data[at:])) + 4
			if size < 8 || at+size > len(s.Data) {
				break
			}
			if back := int(le.Uint32(s.Data[at+4:])); back != 0 {
				relocs := within(at, at+size)
				if len(relocs) > 0 {
					function := o.place(relocs[0]).section
					found[function] = append(found[function], relocs[1:]...)
					if cie := at + 4 - back; cie >= 0 && cie+4 <= len(s.Data) {
						found[function] = append(found[function], within(cie, cie+4+int(le.Uint32(s.Data[cie:])))...)
					}
				}
			}
			at += size
		}
	}
	return found
}
