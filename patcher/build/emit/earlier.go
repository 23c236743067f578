package emit

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/gotype"
	"github.com/darn-dev/darn/patcher/module"
)

// earlier is a module that the target has loaded before this one. The types and
// variables that it added to the program are a part of that now: values of the
// types live, and the variables have values. So New's are bound to them, as they
// are to Base's.
//
// It lies behind Base in Base's space, from lo up to hi.
type earlier struct {
	m        *module.Module
	lo, hi   uint64
	data     [][]byte          // of its segments, with the offsets of types relocated
	pointers map[uint64]uint64 // to types, by their addresses; both in Base's space
	required bool
}

// running is what runs in the target, as a gotype.Image: Base and the earlier
// modules.
type running struct {
	*space
	earlier *[]*earlier
}

// Bytes implements gotype.Image.
func (p *running) Bytes(addr uint64, n int) ([]byte, bool) {
	if e := find(*p.earlier, addr); e != nil {
		return e.bytes(addr, n)
	}
	return p.space.Bytes(addr, n)
}

// Pointer implements gotype.Image.
func (p *running) Pointer(addr uint64) uint64 {
	if e := find(*p.earlier, addr); e != nil {
		return e.pointers[addr]
	}
	return p.space.Pointer(addr)
}

// Types implements gotype.Image.
func (p *running) Types(addr uint64) uint64 {
	if e := find(*p.earlier, addr); e != nil {
		return e.lo + e.m.Manifest.Go.TypesAddr
	}
	return p.space.Types(addr)
}

func find(modules []*earlier, addr uint64) *earlier {
	for _, e := range modules {
		if addr >= e.lo && addr < e.hi {
			return e
		}
	}
	return nil
}

// earlierAt returns the module that has an address of Base's space, nil if it is
// Base's own.
func (b *builder) earlierAt(addr uint64) *earlier { return find(b.earlier, addr) }

func (e *earlier) bytes(addr uint64, n int) ([]byte, bool) {
	at := addr - e.lo
	for i, s := range e.m.Segments {
		if at >= s.Addr && at-s.Addr <= uint64(len(e.data[i])) && n >= 0 && uint64(n) <= uint64(len(e.data[i]))-(at-s.Addr) {
			return e.data[i][at-s.Addr:][:n:n], true
		}
	}
	return nil, false
}

// difference says in an error of gotype whose type it is.
func (e *earlier) difference(err error) error {
	if d, ok := err.(*gotype.Difference); ok {
		return &gotype.Difference{Type: d.Type, MethodSet: d.MethodSet,
			How: fmt.Sprintf("%s, against the patch %s that added it (unload that one first, if nothing uses it)", d.How, e.m.Manifest.Name)}
	}
	return err
}

// placeEarlier lays the earlier modules out behind Base and adds their types to
// t, which has Base's. Of types that several have the last one's is taken.
func (b *builder) placeEarlier(t *types) error {
	at := b.base.end()
	for _, m := range b.Earlier {
		g, id := m.Manifest.Go, m.Manifest.Target
		if g == nil || id.GoBuildID != b.Exe.GoBuildID || id.GNUBuildID != b.Exe.GNUBuildID {
			return finding.Refuse(finding.BuildIDMismatch,
				fmt.Sprintf("the patch %s, which is to be loaded before, was built for another program", m.Manifest.Name),
				"name a module that was built for this one")
		}
		at = (at+spaceGap)&^(spaceGap-1) + spaceGap
		e := &earlier{m: m, lo: at, hi: at + m.End(), pointers: map[uint64]uint64{}}
		at = e.hi
		for _, s := range m.Segments {
			e.data = append(e.data, slices.Clone(s.Data))
		}
		if err := b.relocateEarlier(t, e); err != nil {
			return err
		}
		b.earlier = append(b.earlier, e)
		var own []uint64
		for _, s := range m.Symbols {
			if !s.Undefined && s.Type == elf.STT_OBJECT && strings.HasPrefix(s.Name, "type:") {
				own = append(own, e.lo+s.Addr)
			}
		}
		err := t.base.Walk(own, func(x *gotype.Type) {
			if x.Addr < e.lo || x.Addr >= e.hi {
				return
			}
			same := t.byName[t.base.Identity(x)]
			first := slices.IndexFunc(same, func(y *gotype.Type) bool { return b.earlierAt(y.Addr) != nil })
			if first < 0 {
				first = len(same)
			}
			t.byName[t.base.Identity(x)] = slices.Insert(same, first, x)
		})
		if err != nil {
			return fmt.Errorf("the types of the patch %s: %w", m.Manifest.Name, err)
		}
	}
	return nil
}

// relocateEarlier applies the relocations that lead to types.
func (b *builder) relocateEarlier(t *types, e *earlier) error {
	bound := map[string]uint64{} // in Base's space
	if b.typesAt == nil {
		b.typesAt = map[uint64]uint64{}
		for _, all := range t.byName {
			for _, y := range all {
				if addr, err := b.address(y.Addr); err == nil {
					b.typesAt[addr] = y.Addr
				}
			}
		}
	}
	for i := range e.m.Manifest.Go.Types {
		x := &e.m.Manifest.Go.Types[i]
		addr, ok := b.boundType(x)
		if !ok {
			return finding.Refuse(finding.SymbolUnresolved, fmt.Sprintf("the patch %s refers to the type %s, which is not found", e.m.Manifest.Name, x.String),
				"name the modules that are loaded, all of them and in their order")
		}
		bound[x.Symbol] = addr
	}
	for _, r := range e.m.Relocs {
		to := e.lo
		if r.Symbol >= 0 {
			if s := &e.m.Symbols[r.Symbol]; !s.Undefined {
				to = e.lo + s.Addr
			} else if to = bound[s.Name]; to == 0 {
				continue
			}
		}
		at := e.lo + r.Addr
		to += uint64(r.Addend)
		switch r.Type {
		case elf.R_X86_64_64, elf.R_X86_64_RELATIVE:
			e.pointers[at] = to
		case elf.R_X86_64_PC32:
			if field, ok := e.bytes(at, 4); ok {
				binary.LittleEndian.PutUint32(field, uint32(to-at))
			}
		}
	}
	return nil
}

// boundType returns where Base's space has the type that a module was bound to.
func (b *builder) boundType(x *module.TypeBinding) (uint64, bool) {
	if x.Module != "" {
		for _, e := range b.earlier {
			if e.m.ID() == x.Module {
				return e.lo + x.Offset, x.Offset < e.hi-e.lo
			}
		}
		return 0, false
	}
	addr, ok := b.typesAt[b.Exe.TypesStart+x.Offset]
	return addr, ok
}

// require notes that the module needs e, and returns e's ID.
func (b *builder) require(e *earlier) string {
	id := e.m.ID()
	if !e.required {
		e.required = true
		b.out.Manifest.Requires = append(b.out.Manifest.Requires, module.Required{
			ID: id, Name: e.m.Manifest.Name, Size: e.m.End(), Text: e.m.Manifest.Go.TextAddr})
	}
	return id
}

// share returns the dest of the variable of an earlier module that New's is;
// shared is false if no module has it. That it holds something else there is
// refused.
func (b *builder) share(sym int) (d dest, shared bool, err error) {
	s := &b.New.Symbols[sym]
	for _, e := range slices.Backward(b.earlier) {
		i := slices.IndexFunc(e.m.Manifest.Go.Variables, func(v module.Variable) bool { return v.Name == s.Name })
		if i < 0 {
			continue
		}
		if _, done := b.symbols[s.Name]; done {
			return dest{symbol: b.undefined(s.Name, elf.STT_OBJECT)}, true, nil
		}
		v := &e.m.Manifest.Go.Variables[i]
		k := slices.IndexFunc(e.m.Symbols, func(x module.Symbol) bool { return x.Name == v.Symbol && !x.Undefined })
		types, err := b.variableTypes()
		if err != nil {
			return d, false, err
		}
		if k < 0 || e.m.Symbols[k].Size != s.Size || types[s.Name] != v.Type {
			return d, false, finding.Refuse(finding.GlobalChanged,
				fmt.Sprintf("the variable %s has another type than in the patch %s, which added it to the program", s.Name, e.m.Manifest.Name),
				"give the variable of the new type another name, or unload that patch first, if nothing uses it")
		}
		if b.otherValue(e, sym, e.m.Symbols[k].Addr) {
			b.note(finding.Finding{Code: finding.InitialValueChanged, Severity: finding.Warning, Function: s.Name,
				Message: fmt.Sprintf("the variable's initial value is another than in the patch %s, which added it: the program's variable keeps the value it has", e.m.Manifest.Name),
				Advice:  "set the variable in changed code, or give it another name"})
		}
		b.goPart().Imports = append(b.goPart().Imports, module.Import{Symbol: s.Name, Module: b.require(e), Offset: e.m.Symbols[k].Addr, Size: s.Size})
		return dest{symbol: b.undefined(s.Name, elf.STT_OBJECT)}, true, nil
	}
	return d, false, nil
}

// otherValue tells whether New lays a variable out with another value than e,
// which added it, at an address of e's. What is computed, and what leads
// elsewhere, is not compared.
func (b *builder) otherValue(e *earlier, sym int, addr uint64) bool {
	s := &b.New.Symbols[sym]
	at := b.new.symbol(sym)
	if slices.Contains(e.m.Manifest.Go.InitVariables, s.Name) || len(b.new.relocs(at, at+s.Size)) > 0 {
		return false
	}
	is, ok := b.new.Bytes(at, int(s.Size))
	if !ok {
		is = make([]byte, s.Size) // .bss
	}
	was, ok := e.bytes(e.lo+addr, int(s.Size))
	if !ok {
		was = make([]byte, s.Size)
	}
	return !bytes.Equal(was, is)
}

// variableTypes describes the variables of New, by symbol, of the packages
// whose variables Base lacks.
func (b *builder) variableTypes() (map[string]string, error) {
	if b.varTypes != nil {
		return b.varTypes, nil
	}
	packages := map[string]bool{}
	for sym := range b.New.Symbols {
		if b.addable(sym) {
			packages[object.PackageOf(b.New.Symbols[sym].Name)] = true
		}
	}
	var err error
	b.varTypes, err = b.New.VariableTypes(packages)
	return b.varTypes, err
}

// addable tells whether a symbol of New is a variable that a module may add and
// a later one share: one that the source names, and that Base lacks.
func (b *builder) addable(sym int) bool {
	s := &b.New.Symbols[sym]
	_, standsIn := b.standIn[sym]
	return s.Type == elf.STT_OBJECT && s.Size > 0 && s.Section != 0 && b.new.start[s.Section] != 0 && b.New.Writable(sym) &&
		!strings.Contains(s.Name, "..") && !standsIn && object.PackageOf(s.Name) != "" && len(b.Base.Named(s.Name)) == 0
}
