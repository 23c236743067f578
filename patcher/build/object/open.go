package object

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/finding"
)

const (
	symSize  = 24 // of an Elf64_Sym
	relaSize = 24 // of an Elf64_Rela
)

// Open reads the object at path. What is no relocatable x86-64 ELF file is
// refused with unsupported-build.
func Open(path string) (*Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	o, err := read(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o.Path = path
	return o, nil
}

// read parses all but the debugging information. It must not panic whatever r
// holds.
func read(r io.ReaderAt) (*Object, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, malformed("%v", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return nil, malformed("it is %v for %v, not a relocatable object for x86-64", f.Type, f.Machine)
	}
	o := &Object{file: r, Sections: make([]Section, len(f.Sections))}
	for i, s := range f.Sections {
		o.Sections[i] = Section{Name: s.Name, Type: s.Type, Flags: s.Flags, Align: s.Addralign, Size: s.Size, off: int64(s.Offset)}
		if s.Name == ".text" {
			o.Text = i
		}
	}
	if o.Text == 0 || o.Sections[o.Text].Type != elf.SHT_PROGBITS {
		return nil, malformed("no section .text")
	}
	if err := o.readSymbols(f); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(f.Sections))
	for i, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_NOBITS {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			var err error
			if o.Sections[i].Data, err = s.Data(); err != nil {
				errs[i] = malformed("section %s: %v", s.Name, err)
			}
		}()
	}
	for i, s := range f.Sections {
		if s.Type != elf.SHT_RELA || int(s.Info) >= len(f.Sections) || f.Sections[s.Info].Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = o.readRelocs(s)
		}()
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return o, nil
}

// readSymbols reads the symbol table and indexes it.
func (o *Object) readSymbols(f *elf.File) error {
	sec := f.SectionByType(elf.SHT_SYMTAB)
	if sec == nil || int(sec.Link) >= len(f.Sections) {
		return malformed("no symbol table")
	}
	data, err := sec.Data()
	if err != nil {
		return malformed("symbol table: %v", err)
	}
	raw, err := f.Sections[sec.Link].Data()
	if err != nil {
		return malformed("string table: %v", err)
	}
	strs := string(raw)
	le := binary.LittleEndian
	n := len(data) / symSize
	o.Symbols = make([]Symbol, n)
	o.byName = make(map[string][]int32, n)
	o.spans = make([][]int32, len(f.Sections))
	bounds := make([][]uint64, len(f.Sections)) // where symbols start
	names := make([]int32, n)                   // one backing array for byName
	for i := 1; i < n; i++ {
		e := data[i*symSize:]
		off := le.Uint32(e)
		if uint64(off) >= uint64(len(strs)) {
			return malformed("name of symbol %d lies outside the string table", i)
		}
		name := strs[off:]
		if end := strings.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		s := &o.Symbols[i]
		*s = Symbol{Name: name, Offset: le.Uint64(e[8:]), Size: le.Uint64(e[16:]),
			Type: elf.SymType(e[4] & 15), Local: e[4]>>4 == byte(elf.STB_LOCAL)}
		if sec := int(le.Uint16(e[6:])); sec < len(f.Sections) {
			s.Section = sec
		}
		if s.Type == elf.STT_SECTION && s.Section != 0 {
			s.Name, s.Offset, s.Size = o.Sections[s.Section].Name, 0, 0
			continue
		}
		if s.Type == elf.STT_FILE {
			s.Section = 0
			continue
		}
		if same, ok := o.byName[s.Name]; ok {
			o.byName[s.Name] = append(same, int32(i))
		} else {
			names[i] = int32(i)
			o.byName[s.Name] = names[i : i+1 : i+1]
		}
		if s.Section == 0 {
			continue
		}
		size := o.Sections[s.Section].Size
		if s.Offset > size || s.Size > size-s.Offset {
			return malformed("symbol %s lies outside its section", s.Name)
		}
		if s.Size == 0 && isContainer(s.Name) {
			s.Container = true
			o.spans[s.Section] = append(o.spans[s.Section], int32(i))
		}
		if s.Size > 0 {
			o.spans[s.Section] = append(o.spans[s.Section], int32(i))
			bounds[s.Section] = append(bounds[s.Section], s.Offset)
			if o.IsFunction(i) {
				o.Functions = append(o.Functions, i)
			}
		}
	}
	byOffset := func(a, b int32) int {
		switch x, y := &o.Symbols[a], &o.Symbols[b]; {
		case x.Offset < y.Offset:
			return -1
		case x.Offset > y.Offset:
			return 1
		}
		return int(a - b)
	}
	for sec, span := range o.spans {
		slices.SortFunc(span, byOffset)
		slices.Sort(bounds[sec])
		for k, i := range span {
			s := &o.Symbols[i]
			if !s.Container {
				continue
			}
			end := o.Sections[sec].Size
			if b := sort.Search(len(bounds[sec]), func(j int) bool { return bounds[sec][j] > s.Offset }); b < len(bounds[sec]) {
				end = bounds[sec][b]
			}
			if k+1 < len(span) {
				end = min(end, o.Symbols[span[k+1]].Offset)
			}
			s.Size = end - s.Offset
		}
	}
	slices.SortFunc(o.Functions, func(a, b int) int { return byOffset(int32(a), int32(b)) })
	return nil
}

// isContainer tells whether a symbol without a size holds nameless symbols. See
// cmd/link/internal/ld, symtab.go, where they are made.
func isContainer(name string) bool {
	return strings.HasSuffix(name, ".*") || strings.HasSuffix(name, ":*") || name == "go:funcdesc" || name == "go:funcdescrel"
}

// readRelocs reads the relocations of one loaded section.
func (o *Object) readRelocs(rela *elf.Section) error {
	data, err := rela.Data()
	if err != nil {
		return malformed("section %s: %v", rela.Name, err)
	}
	sec := &o.Sections[rela.Info]
	if sec.Type == elf.SHT_NOBITS {
		return malformed("relocations of %s, which has no bytes", sec.Name)
	}
	le := binary.LittleEndian
	relocs := make([]Reloc, len(data)/relaSize)
	sorted := true
	for i := range relocs {
		e := data[i*relaSize:]
		r := &relocs[i]
		info := le.Uint64(e[8:])
		r.Offset, r.Type, r.Addend = le.Uint64(e), elf.R_X86_64(uint32(info)), int64(le.Uint64(e[16:]))
		sym := info >> 32
		if sym >= uint64(len(o.Symbols)) {
			return malformed("relocation %d of %s names symbol %d of %d", i, sec.Name, sym, len(o.Symbols))
		}
		r.Symbol = int(sym)
		if r.Size = fieldSize(r.Type); r.Size == 0 {
			return malformed("relocation %d of %s has the unknown type %v", i, sec.Name, r.Type)
		}
		if r.Offset > sec.Size || uint64(r.Size) > sec.Size-r.Offset {
			return malformed("relocation %d of %s lies outside the section", i, sec.Name)
		}
		s := &o.Symbols[sym]
		r.Target = Place{s.Section, s.Offset + uint64(r.Addend)}
		if r.pcRelative() {
			r.Target.Offset += 4
		}
		sorted = sorted && (i == 0 || relocs[i-1].Offset <= r.Offset)
	}
	if !sorted {
		slices.SortStableFunc(relocs, func(a, b Reloc) int {
			if a.Offset < b.Offset {
				return -1
			} else if a.Offset > b.Offset {
				return 1
			}
			return 0
		})
	}
	sec.Relocs = relocs
	return nil
}

// fieldSize returns how many bytes a relocation alters, 0 if the Go linker
// does not use its type.
func fieldSize(t elf.R_X86_64) int {
	switch t {
	case elf.R_X86_64_64:
		return 8
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX,
		elf.R_X86_64_GOTTPOFF, elf.R_X86_64_TPOFF32, elf.R_X86_64_32, elf.R_X86_64_32S:
		return 4
	case elf.R_X86_64_PC64, elf.R_X86_64_DTPOFF64, elf.R_X86_64_TPOFF64:
		return 8
	}
	return 0
}

// pcRelative tells whether the field counts from its place.
func (r *Reloc) pcRelative() bool {
	switch r.Type {
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX,
		elf.R_X86_64_GOTTPOFF:
		return true
	}
	return false
}

func malformed(format string, args ...any) error {
	return finding.Refuse(finding.UnsupportedBuild, "not an object of the Go linker: "+fmt.Sprintf(format, args...),
		"build again with the Go toolchain that built the target")
}
