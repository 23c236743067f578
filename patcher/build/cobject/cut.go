package cobject

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// Cut says what of an object goes into a module.
type Cut struct {
	Include map[int]bool
	// Names are what the functions that replace others are called, by section.
	Names map[int]string
	// Bound tells what in the program a section of the object is, and External
	// what a name is that the object does not define; both give the name that
	// Fixups have for it, "" for nothing in the program.
	Bound    func(section int) string
	External func(name string) string
	// Prefix makes the names of markers differ from those of other objects.
	Prefix string
}

// TablePrefix begins the names of undefined symbols for what is in the program and
// reached over the global offset table.
const TablePrefix = "table:"

// Gone is the name of all symbols of what was cut out: none is left by the linker.
const Gone = "darn.gone"

// Fixup is a relocation that no linker of shared objects makes, as the program is
// near the module and it can be: it is applied when the module is bound.
type Fixup struct {
	// Marker is a symbol of the object; Offset counts from it.
	Marker string
	Offset uint64
	Type   elf.R_X86_64
	// Symbol is in the program; or else Own is another marker.
	Symbol, Own string
	Addend      int64
}

// cutter is the state of one Write.
type cutter struct {
	o      *Object
	cut    *Cut
	fixups []Fixup

	locals, globals []output
	number          map[int]entry    // of the old symbols
	aliases         map[string]entry // of what is in the program
	markers         map[int]string   // by section
}

// output is a symbol that is written.
type output struct {
	name    string
	info    byte
	other   byte
	section int
	value   uint64
	size    uint64
}

// entry is the place of a symbol in what is written.
type entry struct {
	global bool
	index  int
}

// Write writes what is to be linked for a module: the object with what the
// program has already cut out of it. Functions that only stay for the linker's
// sake (it knows what unwind tables are theirs) lead nowhere, and are left out by
// its --gc-sections. Refusals: unsupported-build for code that can't be moved.
//
// table are the names of the program that are reached over the global offset
// table: the object has undefined symbols TablePrefix + name for them.
func (o *Object) Write(path string, cut *Cut) (fixups []Fixup, table []string, err error) {
	c := &cutter{o: o, cut: cut, number: map[int]entry{}, aliases: map[string]entry{}, markers: map[int]string{}}
	c.symbols()
	relocs := map[int][]Reloc{} // with the old numbers, or ^number of an alias
	edited := map[int][]byte{}
	for i := range o.Sections {
		s := &o.Sections[i]
		switch {
		case len(s.Relocs) == 0:
		case c.cut.Include[i]:
			kept, data, err := c.section(i)
			if err != nil {
				return nil, nil, err
			}
			relocs[i], edited[i] = kept, data
		case s.Flags&elf.SHF_ALLOC == 0 || s.Name == ".eh_frame":
			for _, r := range s.Relocs {
				to := o.Symbols[r.Symbol].Section
				if to == 0 && s.Name != ".eh_frame" {
					continue
				}
				if t := &o.Sections[to]; s.Name != ".eh_frame" && !cut.Include[to] && t.Flags&(elf.SHF_ALLOC|elf.SHF_EXECINSTR) == elf.SHF_ALLOC {
					// A debugger must not take what is at 0 for the variable.
					r.Symbol, r.Addend = 0, -1
				}
				relocs[i] = append(relocs[i], r)
			}
		}
	}
	return c.fixups, slices.Sorted(maps.Keys(c.aliases)), os.WriteFile(path, c.file(relocs, edited), 0o600)
}

func (c *cutter) add(key int, x output) {
	if elf.ST_BIND(x.info) == elf.STB_LOCAL {
		c.number[key] = entry{false, len(c.locals)}
		c.locals = append(c.locals, x)
		return
	}
	c.number[key] = entry{true, len(c.globals)}
	c.globals = append(c.globals, x)
}

// symbols says what becomes of the symbols.
func (c *cutter) symbols() {
	for n := range c.o.Symbols {
		if n == 0 {
			continue
		}
		x := &c.o.Symbols[n]
		y := output{name: x.Name, section: x.Section, value: x.Value, size: x.Size}
		bind := x.Bind
		switch {
		case x.Type == elf.STT_SECTION, x.Type == elf.STT_FILE, bind == elf.STB_LOCAL && c.cut.Include[x.Section] && c.cut.Names[x.Section] == "":
		case x.Section == 0:
			if bind != elf.STB_WEAK {
				bind = elf.STB_GLOBAL
			}
		case !c.cut.Include[x.Section]:
			bind = elf.STB_LOCAL
			if c.o.Sections[x.Section].Flags&elf.SHF_ALLOC != 0 {
				y.name = Gone
			}
		case c.cut.Names[x.Section] != "":
			bind = elf.STB_LOCAL
			if n == c.o.Main(x.Section) {
				y.name, bind, y.other = c.cut.Names[x.Section], elf.STB_GLOBAL, byte(elf.STV_HIDDEN)
				if x.Bind == elf.STB_WEAK { // another object may have it too
					bind = elf.STB_WEAK
				}
			}
		default:
			y.other = byte(elf.STV_HIDDEN)
			if bind != elf.STB_GLOBAL {
				bind = elf.STB_WEAK
			}
		}
		y.info = elf.ST_INFO(bind, x.Type)
		c.add(n, y)
	}
	// A symbol that the object does not define makes one that the module needs,
	// even if nothing refers to it: see used.
}

// marker returns the name of a symbol at the start of a section.
func (c *cutter) marker(section int) string {
	if name := c.markers[section]; name != "" {
		return name
	}
	name := fmt.Sprintf("%s.%d", c.cut.Prefix, section)
	c.markers[section] = name
	c.locals = append(c.locals, output{name: name, info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_NOTYPE), section: section})
	return name
}

// alias returns the number of an undefined symbol for something in the program.
func (c *cutter) alias(name string, typ elf.SymType) int {
	key := -1 - len(c.aliases)
	if e, known := c.aliases[name]; known {
		return e.index
	}
	if typ != elf.STT_TLS {
		typ = elf.STT_NOTYPE
	}
	c.aliases[name] = entry{true, key}
	c.add(key, output{name: TablePrefix + name, info: elf.ST_INFO(elf.STB_GLOBAL, typ)})
	return key
}

// section decides how each relocation of a section is made: by the linker, or
// when the module is bound.
func (c *cutter) section(i int) (kept []Reloc, data []byte, err error) {
	s := &c.o.Sections[i]
	data = s.Data
	for _, r := range s.Relocs {
		p := c.o.place(r)
		typ := c.o.Symbols[r.Symbol].Type
		program := ""
		if p.section == 0 {
			program = c.cut.External(p.name)
		} else if !c.cut.Include[p.section] || c.entry(i, r, p) {
			program = c.cut.Bound(p.section)
		}
		absolute := r.Type == elf.R_X86_64_32 || r.Type == elf.R_X86_64_32S
		switch {
		case program != "" && (viaTable(r.Type) || r.Type == elf.R_X86_64_GOTPC32_TLSDESC):
			if r.Type == elf.R_X86_64_GOTTPOFF || r.Type == elf.R_X86_64_TLSGD || r.Type == elf.R_X86_64_GOTPC32_TLSDESC {
				typ = elf.STT_TLS
			}
			r.Symbol = c.alias(program, typ)
			kept = append(kept, r)
		case r.Type == elf.R_X86_64_TLSDESC_CALL:
			if program != "" {
				r.Symbol = c.alias(program, elf.STT_TLS)
			}
			kept = append(kept, r)
		case r.Type == elf.R_X86_64_TLSLD || r.Type == elf.R_X86_64_DTPOFF32 || r.Type == elf.R_X86_64_DTPOFF64:
			return nil, nil, c.unfit(i, "it reaches a thread-local variable of its file in a way that a module can't (local-dynamic)", "compile with -ftls-model=initial-exec or global-dynamic")
		case program != "" && (distance(r.Type) || absolute || r.Type == elf.R_X86_64_64 || r.Type == elf.R_X86_64_TPOFF32):
			c.fixups = append(c.fixups, Fixup{Marker: c.marker(i), Offset: r.Offset, Type: plain(r.Type), Symbol: program, Addend: r.Addend + int64(p.at)})
		case program != "":
			return nil, nil, c.unfit(i, fmt.Sprintf("its code has a relocation (%v) that can't be made in a module", r.Type), "compile for the small code model")
		case p.section != 0 && absolute:
			c.fixups = append(c.fixups, Fixup{Marker: c.marker(i), Offset: r.Offset, Type: r.Type, Own: c.marker(p.section), Addend: p.addend + int64(p.at)})
		case p.section == 0 && absolute:
			c.fixups = append(c.fixups, Fixup{Marker: c.marker(i), Offset: r.Offset, Type: r.Type, Symbol: p.name, Addend: r.Addend})
		case p.section == 0 && r.Type == elf.R_X86_64_PC32:
			// Not known in the program itself: a library's is far away. Its address
			// can be taken from the table instead.
			at := int(r.Offset)
			if at >= 3 && data[at-2] == 0x8D && r.Addend == -4 {
				data = bytes.Clone(data)
				data[at-2] = 0x8B
				r.Type = elf.R_X86_64_GOTPCREL
			} else if at >= 1 && (data[at-1] == 0xE8 || data[at-1] == 0xE9) {
				r.Type = elf.R_X86_64_PLT32
			}
			kept = append(kept, r)
		default:
			kept = append(kept, r)
		}
	}
	return kept, data, nil
}

// plain is the type of the same relocation without the ways of linkers.
func plain(t elf.R_X86_64) elf.R_X86_64 {
	if t == elf.R_X86_64_PLT32 {
		return elf.R_X86_64_PC32
	}
	return t
}

// entry tells whether a relocation in a section leads to the entry of a function
// that replaces one: then it leads to the program's, as all that call that do.
func (c *cutter) entry(from int, r Reloc, p place) bool {
	if c.cut.Names[p.section] == "" || p.at != 0 {
		return false
	}
	if base, _, piece := strings.Cut(c.o.Name(from), "."); piece && base == c.o.Name(p.section) {
		return false
	}
	if distance(r.Type) {
		return r.Addend == -4
	}
	return r.Addend == 0
}

func (c *cutter) unfit(section int, message, advice string) error {
	return refuse(finding.UnsupportedBuild, c.o.Name(section), "", message, advice)
}

// file writes the object with other symbols and relocations.
func (c *cutter) file(relocs map[int][]Reloc, edited map[int][]byte) []byte {
	data := bytes.Clone(c.o.data)
	names := bytes.Clone(c.o.Sections[c.o.elf.Sections[c.o.symtab].Link].Data)
	for i, content := range edited {
		if content != nil {
			copy(data[c.o.elf.Sections[i].Offset:], content)
		}
	}
	// What is undefined and not used would be something that the module needs.
	used := map[int]bool{}
	for _, list := range relocs {
		for _, r := range list {
			used[r.Symbol] = true
		}
	}
	index := map[int]int{}
	table := make([]byte, symbolSize)
	write := func(x output) {
		at := 0
		if x.name != "" {
			at = len(names)
			names = append(append(names, x.name...), 0)
		}
		b := make([]byte, symbolSize)
		le.PutUint32(b, uint32(at))
		b[4], b[5] = x.info, x.other
		le.PutUint16(b[6:], uint16(x.section))
		if x.section == 0 && elf.ST_TYPE(x.info) == elf.STT_FILE {
			le.PutUint16(b[6:], uint16(elf.SHN_ABS))
		}
		le.PutUint64(b[8:], x.value)
		le.PutUint64(b[16:], x.size)
		table = append(table, b...)
	}
	for _, x := range c.locals {
		write(x)
	}
	keys := map[int]int{} // global → key
	for key, e := range c.number {
		if e.global {
			keys[e.index] = key
		} else {
			index[key] = 1 + e.index
		}
	}
	for n, x := range c.globals {
		if key := keys[n]; x.section != 0 || used[key] {
			index[key] = len(table) / symbolSize
			write(x)
		}
	}
	put := func(section int, content []byte) {
		for len(data)%8 != 0 {
			data = append(data, 0)
		}
		header := data[c.o.Sections[section].header:]
		le.PutUint64(header[24:], uint64(len(data)))
		le.PutUint64(header[32:], uint64(len(content)))
		data = append(data, content...)
	}
	for i := range c.o.Sections {
		s := &c.o.Sections[i]
		header := data[s.header:]
		le.PutUint64(header[8:], le.Uint64(header[8:])&^uint64(elf.SHF_GROUP))
		if s.Type == elf.SHT_INIT_ARRAY || s.Type == elf.SHT_FINI_ARRAY || strings.HasPrefix(s.Name, ".ctors") || strings.HasPrefix(s.Name, ".dtors") ||
			s.Type == elf.SHT_GROUP || s.Name == ".llvm_addrsig" {
			le.PutUint32(header[4:], uint32(elf.SHT_NULL))
		}
		if s.table == 0 {
			continue
		}
		var content []byte
		for _, r := range relocs[i] {
			content = binary.LittleEndian.AppendUint64(content, r.Offset)
			content = binary.LittleEndian.AppendUint64(content, uint64(index[r.Symbol])<<32|uint64(r.Type))
			content = binary.LittleEndian.AppendUint64(content, uint64(r.Addend))
		}
		put(s.table, content)
	}
	put(c.o.symtab, table)
	le.PutUint32(data[c.o.Sections[c.o.symtab].header+44:], uint32(1+len(c.locals)))
	put(int(c.o.elf.Sections[c.o.symtab].Link), names)
	return data
}

// Source says what an object was made of, for people.
func (o *Object) String() string { return cmp.Or(o.Source, o.Path) }
