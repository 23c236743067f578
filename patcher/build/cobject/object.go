// Package cobject reads the object files that compilers of C and C++ make, with
// one section for each function and variable (-ffunction-sections
// -fdata-sections), says what of them an edit of the source changed, and cuts
// that out of the new one. It runs no compiler and touches no program.
package cobject

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
)

// Object is an object file in memory. Sections and symbols are known by their
// numbers in it.
type Object struct {
	Path string
	// Source is the name of the source file as its symbol table has it, without
	// folders.
	Source   string
	Sections []Section
	Symbols  []Symbol

	data   []byte
	elf    *elf.File
	symtab int // the section that is the symbol table
	dwarf  *dwarf.Data
}

// Section is a section of an object.
type Section struct {
	Name   string
	Type   elf.SectionType
	Flags  elf.SectionFlag
	Size   uint64 // bytes
	Data   []byte // nil without content in the file
	Entry  uint64 // bytes of an entry, of sections whose entries may be merged
	Relocs []Reloc
	// Symbols are those that it defines, by their value.
	Symbols []int

	header int // where in the file its header is
	table  int // the section with its relocations, 0 for none
}

// Symbol is an entry of the symbol table.
type Symbol struct {
	Name    string
	Section int // 0 if it is undefined
	Value   uint64
	Size    uint64
	Type    elf.SymType
	Bind    elf.SymBind
	Other   byte
	Common  bool // not in a section before it is linked
}

// Reloc is a relocation of a section.
type Reloc struct {
	Offset uint64
	Type   elf.R_X86_64
	Symbol int
	Addend int64
}

const (
	symbolSize = 24
	relocSize  = 24
	headerSize = 64
)

var le = binary.LittleEndian

// Open reads an object file.
func Open(path string) (o *Object, err error) {
	defer func() { // debug/elf may panic on a damaged file
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: damaged: %v", path, r)
		}
	}()
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: it is not an object file of a compiler (link-time optimisation?)", path, err)
	}
	if f.Type != elf.ET_REL || f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%s is not an object file for x86-64", path)
	}
	o = &Object{Path: path, data: data, elf: f}
	start := int(le.Uint64(data[0x28:]))
	for i, s := range f.Sections {
		x := Section{Name: s.Name, Type: s.Type, Flags: s.Flags, Size: s.FileSize, Entry: s.Entsize, header: start + i*headerSize}
		x.Size = s.Size
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL {
			x.Data = data[s.Offset : s.Offset+s.FileSize]
		}
		if s.Type == elf.SHT_SYMTAB {
			o.symtab = i
		}
		if s.Type == elf.SHT_SYMTAB_SHNDX {
			return nil, fmt.Errorf("%s has more than 65000 sections", path)
		}
		o.Sections = append(o.Sections, x)
	}
	o.readSymbols()
	for i := range f.Sections {
		s := &o.Sections[i]
		if s.Type != elf.SHT_RELA {
			continue
		}
		to := &o.Sections[f.Sections[i].Info]
		to.table = i
		for at := 0; at+relocSize <= len(s.Data); at += relocSize {
			info := le.Uint64(s.Data[at+8:])
			to.Relocs = append(to.Relocs, Reloc{
				Offset: le.Uint64(s.Data[at:]), Type: elf.R_X86_64(info & 0xffffffff), Symbol: int(info >> 32),
				Addend: int64(le.Uint64(s.Data[at+16:])),
			})
		}
		slices.SortStableFunc(to.Relocs, func(a, b Reloc) int { return int(a.Offset) - int(b.Offset) })
	}
	return o, nil
}

func (o *Object) readSymbols() {
	table := o.Sections[o.symtab]
	names := o.Sections[o.elf.Sections[o.symtab].Link].Data
	for at := 0; at+symbolSize <= len(table.Data); at += symbolSize {
		b := table.Data[at:]
		x := Symbol{Type: elf.ST_TYPE(b[4]), Bind: elf.ST_BIND(b[4]), Other: b[5], Value: le.Uint64(b[8:]), Size: le.Uint64(b[16:])}
		name := names[le.Uint32(b):]
		x.Name = string(name[:bytes.IndexByte(name, 0)])
		index := le.Uint16(b[6:])
		switch section := elf.SectionIndex(index); {
		case section == elf.SHN_COMMON:
			x.Common = true
		case section < elf.SHN_LORESERVE:
			x.Section = int(index)
		}
		n := len(o.Symbols)
		o.Symbols = append(o.Symbols, x)
		if x.Type == elf.STT_FILE && o.Source == "" {
			o.Source = filepath.Base(x.Name)
		}
		if x.Section != 0 && x.Type != elf.STT_SECTION {
			s := &o.Sections[x.Section]
			s.Symbols = append(s.Symbols, n)
		}
	}
	for i := range o.Sections {
		slices.SortStableFunc(o.Sections[i].Symbols, func(a, b int) int {
			return int(o.Symbols[a].Value) - int(o.Symbols[b].Value)
		})
	}
}

// DWARF returns the object's debugging information, nil if there is none.
func (o *Object) DWARF() *dwarf.Data {
	if o.dwarf == nil {
		o.dwarf, _ = o.elf.DWARF()
	}
	return o.dwarf
}

// Main returns the number of the symbol that a section is there for, 0 if none.
func (o *Object) Main(section int) int {
	best := 0
	for _, n := range o.Sections[section].Symbols {
		x := &o.Symbols[n]
		if x.Value != 0 || strings.HasPrefix(x.Name, ".L") || x.Type != elf.STT_FUNC && x.Type != elf.STT_OBJECT && x.Type != elf.STT_TLS && x.Type != elf.STT_NOTYPE {
			continue
		}
		if best == 0 || o.Symbols[best].Type == elf.STT_NOTYPE || o.Symbols[best].Bind == elf.STB_LOCAL && x.Bind != elf.STB_LOCAL {
			best = n
		}
	}
	return best
}

// Name returns the name of what a section is there for, "" if it has none.
func (o *Object) Name(section int) string {
	if n := o.Main(section); n != 0 {
		return o.Symbols[n].Name
	}
	return ""
}

// IsFunction tells whether a section holds a function.
func (o *Object) IsFunction(section int) bool {
	s := &o.Sections[section]
	n := o.Main(section)
	return s.Flags&(elf.SHF_ALLOC|elf.SHF_EXECINSTR) == elf.SHF_ALLOC|elf.SHF_EXECINSTR && s.Size > 0 && n != 0 && o.Symbols[n].Type == elf.STT_FUNC
}

// IsVariable tells whether a section holds a variable that the source names.
func (o *Object) IsVariable(section int) bool {
	s := &o.Sections[section]
	return s.Type != elf.SHT_NULL && s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_EXECINSTR == 0 && o.Main(section) != 0 && !o.anonymous(section)
}

// madeUp are the names of what compilers make read-only data for: tables of
// switch statements, the names of functions, initial values of local variables.
var madeUp = regexp.MustCompile(`^(\.L|CSWTCH\.|__func__|__FUNCTION__|__PRETTY_FUNCTION__|C\.[0-9]|__const\.|switch\.table\.|anon\.|_ZZ.*(__func__|__FUNCTION__|__PRETTY_FUNCTION__))`)

// anonymous tells whether a section is read-only data that is known by its
// content alone.
func (o *Object) anonymous(section int) bool {
	s := &o.Sections[section]
	if s.Flags&elf.SHF_ALLOC == 0 || s.Flags&elf.SHF_EXECINSTR != 0 || s.Flags&elf.SHF_WRITE != 0 && !strings.HasPrefix(s.Name, ".data.rel.ro") {
		return false
	}
	n := o.Main(section)
	return s.Flags&elf.SHF_MERGE != 0 || n == 0 || madeUp.MatchString(o.Symbols[n].Name) || strings.HasPrefix(s.Name, ".gcc_except_table")
}

// IsReadOnly tells whether the program never writes what is in a section.
func (o *Object) IsReadOnly(section int) bool {
	s := &o.Sections[section]
	return s.Flags&elf.SHF_WRITE == 0 || strings.HasPrefix(s.Name, ".data.rel.ro")
}

// lambda is in the names of C++ lambdas, and of what templates make for them,
// which have numbers that an edit shifts.
var lambda = regexp.MustCompile(`^_Z.*(Ul[A-Za-z0-9_]*E[0-9]*_|\$_[0-9])`)

// IsClone tells whether a name is of a function that keeps no interface when the
// source is edited: of a version that the compiler made of a function, with
// arguments of its own, of a part of one, or of a lambda.
func IsClone(name string) bool {
	base, _, found := strings.Cut(name, ".")
	return found && base != "" || lambda.MatchString(name)
}

// numbered is the end of the name of a static variable in a function.
var numbered = regexp.MustCompile(`(\.[0-9]+)+$`)

// plainName returns a name without the numbers that compilers give.
func plainName(name string) string { return numbered.ReplaceAllString(name, "") }

// place is where a relocation leads.
type place struct {
	section int    // 0: to what the object does not define
	at      uint64 // in the section
	name    string // if it does not
	addend  int64  // what is added to that
}

// place returns where a relocation leads.
func (o *Object) place(r Reloc) place {
	x := &o.Symbols[r.Symbol]
	switch {
	case x.Section == 0:
		return place{name: x.Name, addend: r.Addend}
	case x.Type != elf.STT_SECTION:
		return place{section: x.Section, at: x.Value, addend: r.Addend}
	}
	// One counts from the section. Distances have the end of the instruction in
	// the addend: where that is is not known, but it is not far.
	s := &o.Sections[x.Section]
	several := s.Flags&elf.SHF_MERGE != 0 || o.Main(x.Section) == 0
	if distance(r.Type) || !several {
		return place{section: x.Section, addend: r.Addend}
	}
	return place{section: x.Section, at: uint64(r.Addend)}
}

// distance tells whether a relocation counts from its own place.
func distance(t elf.R_X86_64) bool {
	switch t {
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_PC64, elf.R_X86_64_PC8, elf.R_X86_64_PC16:
		return true
	}
	return viaTable(t)
}

// viaTable tells whether a relocation leads over the global offset table.
func viaTable(t elf.R_X86_64) bool {
	switch t {
	case elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX, elf.R_X86_64_GOTTPOFF, elf.R_X86_64_TLSGD:
		return true
	}
	return false
}

// refuse makes an error about a function or variable.
func refuse(code finding.Code, name, source, message, advice string) error {
	return &finding.Refusal{Findings: []finding.Finding{{Code: code, Severity: finding.Error, Function: name, Source: source, Message: message, Advice: advice}}}
}
