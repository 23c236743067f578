package emit

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"github.com/darn-dev/darn/patcher/build/object"
	"math"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// finish writes the segments, the relocations that are left for the loader,
// the symbols and the manifest.
func (b *builder) finish() error {
	b.writeSegments()
	if err := b.applyFixups(); err != nil {
		return err
	}
	for _, p := range b.places {
		b.absolute(b.moved(p.at), p.addr)
	}
	slices.SortFunc(b.out.Relocs, func(x, y module.Reloc) int {
		if x.Addr < y.Addr {
			return -1
		}
		return 1
	})
	if err := b.writeManifest(); err != nil {
		return err
	}
	return b.writeSymbols()
}

// writeSegments copies all pieces to where they belong.
func (b *builder) writeSegments() {
	for seg, s := range []struct {
		name       string
		end, zeros uint64
		flags      elf.ProgFlag
	}{
		{".text", b.text.hi, 0, elf.PF_R | elf.PF_X},
		{".rodata", b.ends.rodata, 0, elf.PF_R},
		{".data", b.ends.end, b.ends.end - b.ends.edata, elf.PF_R | elf.PF_W},
	} {
		start := b.starts[seg]
		data := make([]byte, s.end-s.zeros-start)
		if s.flags&elf.PF_X != 0 {
			data = make([]byte, pageUp(s.end)-start)
			for i := range data {
				data[i] = 0xcc // int3
			}
		}
		for _, p := range b.laid[seg] {
			if p.data != nil {
				copy(data[p.addr-start:], p.data)
			}
		}
		b.out.Segments = append(b.out.Segments, module.Segment{Name: s.name, Addr: start, Data: data, Size: pageUp(s.end - start), Flags: s.flags})
	}
}

// bytes returns the module's bytes from an address on.
func (b *builder) bytes(addr uint64) []byte {
	for seg := segments - 1; seg >= 0; seg-- {
		if s := &b.out.Segments[seg]; addr >= s.Addr {
			return s.Data[addr-s.Addr:]
		}
	}
	return nil
}

// absolute makes the field at an address hold an address of the module.
func (b *builder) absolute(at, addr uint64) {
	b.out.Relocs = append(b.out.Relocs, module.Reloc{Addr: at, Type: elf.R_X86_64_RELATIVE, Symbol: -1, Addend: int64(addr)})
}

// applyFixups computes what can be computed, and leaves the rest as
// relocations.
func (b *builder) applyFixups() error {
	le := binary.LittleEndian
	for at, f := range b.fixups {
		p := b.pieceAt(at)
		if p == nil {
			return fmt.Errorf("the field at %#x was not laid", at)
		}
		place := p.addr + at - p.lo
		out := b.bytes(place)
		reloc := module.Reloc{Addr: place, Symbol: f.to.symbol, Addend: f.to.off + f.adj}
		if f.to.symbol >= 0 {
			switch f.kind {
			case fixAbs:
				reloc.Type = elf.R_X86_64_64
			case fixPC:
				reloc.Type = elf.R_X86_64_PC32
			case fixTypeOff:
				// S - types = S + A - P
				reloc.Type = elf.R_X86_64_PC32
				reloc.Addend += int64(place - b.starts[segRodata])
			case fixTLS:
				reloc.Type, reloc.Addend = elf.R_X86_64_TPOFF32, f.to.off
				if f.adj != 0 {
					if err := relax(b.bytes(place - 3)); err != nil {
						return err
					}
				}
			default:
				return fmt.Errorf("a field of kind %d leads to %s", f.kind, b.out.Symbols[f.to.symbol].Name)
			}
			clear(out[:4])
			if f.kind == fixAbs {
				clear(out[:8])
			}
			b.out.Relocs = append(b.out.Relocs, reloc)
			continue
		}
		if b.pieceAt(f.to.addr) == nil {
			return fmt.Errorf("what the field at %#x leads to was not laid", at)
		}
		to := b.moved(f.to.addr)
		var v int64
		switch f.kind {
		case fixAbs:
			clear(out[:8])
			b.absolute(place, to)
			continue
		case fixPC:
			v = int64(to) + f.adj - int64(place)
			if f.load {
				b.bytes(place - 2)[0] = 0x8b // mov
			}
		case fixTypeOff, fixNameOff:
			v = int64(to - b.starts[segRodata])
		case fixTextOff:
			v = int64(to - b.starts[segText])
		}
		if v < math.MinInt32 || v > math.MaxInt32 {
			return finding.Refuse(finding.OutOfRange, "the module is larger than a 32-bit offset reaches", "make the edit smaller")
		}
		le.PutUint32(out, uint32(int32(v)))
	}
	return nil
}

// relax rewrites the instruction that loads a thread-local variable's offset
// from the global offset table, mov x@gottpoff(%rip), reg, into one that moves
// the offset itself, mov $x@tpoff, reg: the prefix, opcode and operand bytes
// are code[:3].
func relax(code []byte) error {
	if code[0]&^4 != 0x48 || code[1] != 0x8b || code[2]&0xc7 != 0x05 {
		return fmt.Errorf("the instruction % x does not load a thread-local offset", code[:3])
	}
	reg := code[2] >> 3 & 7
	code[0] = 0x48 | code[0]>>2&1
	code[1], code[2] = 0xc7, 0xc0|reg
	return nil
}

// functionName returns the name of an owned function in the module's symbol
// table. A function that the target has too gets a name of its own.
func (b *builder) functionName(addr uint64) string {
	p, ok := b.new.place(addr)
	if !ok {
		for _, t := range b.thunkNames {
			if t.addr == addr {
				return t.symbol
			}
		}
	}
	fn, _ := b.New.SymbolAt(p)
	name, ok := b.names[fn]
	if !ok {
		name = b.New.Symbols[fn].Name
		if _, has, ambiguous := b.Exe.Symbol(name); has || ambiguous {
			name += "#new"
		}
		name = b.define(name)
		b.names[fn] = name
	}
	return name
}

// writeSymbols adds the defined symbols, and to the manifest the variables that
// later modules may share.
func (b *builder) writeSymbols() error {
	types, err := b.variableTypes()
	if err != nil {
		return err
	}
	add := func(name string, typ elf.SymType, addr, size uint64) {
		b.out.Symbols = append(b.out.Symbols, module.Symbol{Name: name, Type: typ, Addr: addr, Size: size, Local: true})
	}
	fns := make([]int, 0, len(b.owned))
	for fn := range b.owned {
		fns = append(fns, fn)
	}
	slices.Sort(fns)
	for _, fn := range fns {
		lo := b.new.symbol(fn)
		add(b.functionName(lo), elf.STT_FUNC, b.moved(lo), b.New.Symbols[fn].Size)
	}
	for _, t := range b.thunkNames {
		add(t.symbol, elf.STT_FUNC, b.moved(t.addr), 5)
	}
	for _, x := range b.types.all {
		if b.types.own[x.Addr] {
			add(b.types.symbol[x.Addr], elf.STT_OBJECT, b.moved(x.Addr), x.End-x.Addr)
		}
	}
	for _, l := range b.labels {
		add(l.name, l.typ, b.moved(l.addr), l.size)
	}
	for sym := range b.New.Symbols {
		s := &b.New.Symbols[sym]
		if s.Type != elf.STT_OBJECT || s.Size == 0 || s.Section == 0 || b.new.start[s.Section] == 0 {
			continue
		}
		if lo := b.new.symbol(sym); b.have[span{lo, lo + s.Size}] && len(s.Name) > 0 && s.Name[:min(8, len(s.Name))] != "go:itab." {
			name := s.Name
			if _, has, ambiguous := b.Exe.Symbol(name); has || ambiguous {
				name += "#new"
			}
			name = b.define(name)
			add(name, elf.STT_OBJECT, b.moved(lo), s.Size)
			if typ := types[s.Name]; typ != "" && b.addable(sym) {
				b.goPart().Variables = append(b.goPart().Variables, module.Variable{Symbol: name, Name: s.Name, Type: typ})
			}
		}
	}
	add(b.define("runtime.moduledata#new"), elf.STT_OBJECT, b.moduledata.addr, b.moduledata.size)
	add(b.define("runtime.pclntab#new"), elf.STT_OBJECT, b.tables.piece.addr, b.tables.piece.size)
	return nil
}

// writeManifest completes the manifest.
func (b *builder) writeManifest() error {
	m := &b.out.Manifest
	m.Format, m.Name, m.Description, m.Language, m.Origin, m.Findings = module.FormatVersion, b.Name, b.Description, "go", b.Origin, b.findings
	m.Target.GoBuildID, m.Target.GNUBuildID = b.Exe.GoBuildID, b.Exe.GNUBuildID
	if bi := b.Exe.BuildInfo; bi != nil {
		m.Target.GoVersion, m.Target.Path = bi.GoVersion, bi.Path
	}
	g := b.goPart()
	g.ModuledataAddr, g.ModuledataSize = b.moduledata.addr, b.moduledata.size
	g.TypesAddr, g.TextAddr = b.starts[segRodata], b.starts[segText]
	if b.initState != 0 {
		g.Init = &module.Initialisation{State: b.moved(b.initState), Start: b.moved(b.initStart)}
	}
	for _, c := range b.Diff.Changed {
		old := &b.Base.Symbols[c.Base]
		addr, ok := b.Match.Addr(c.Base)
		if !ok {
			return finding.Refuse(finding.SymbolUnresolved, "the target has no function "+old.Name, "restart the program with a rebuilt one")
		}
		code := make([]byte, old.Size)
		if err := b.Exe.ReadAt(code, addr); err != nil {
			return err
		}
		sum := sha256.Sum256(code)
		f := module.Function{Symbol: old.Name, New: b.functionName(b.new.symbol(c.New)), Offset: addr - b.Exe.TextStart, Size: old.Size,
			SHA256: hex.EncodeToString(sum[:]), Source: b.source(c.New), Why: c.Why}
		if _, file, line, err := b.Exe.FuncLine(addr); err == nil {
			f.OldSource = fmt.Sprintf("%s:%d", file, line)
		}
		for _, fn := range b.Diff.Lost[c.Base] {
			if addr, ok := b.Match.Addr(fn); ok {
				f.Lost = append(f.Lost, module.Code{Symbol: b.Base.Symbols[fn].Name, Offset: addr - b.Exe.TextStart, Size: b.Base.Symbols[fn].Size})
			}
		}
		m.Functions = append(m.Functions, f)
	}
	old := b.basePackages()
	for _, fn := range b.Diff.Added {
		name := b.New.Symbols[fn].Name
		source := b.source(fn)
		if b.owned[fn] && old[object.PackageOf(name)] && source != "" && !closure.MatchString(name) && !strings.Contains(name, ".darnInit") {
			m.Added = append(m.Added, module.Declared{Symbol: name, Source: source})
		}
	}
	return nil
}
