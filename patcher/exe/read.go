package exe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/darn-dev/darn/patcher/finding"
)

const symSize = 24 // of an Elf64_Sym

// read parses an executable's headers and notes. It must not panic whatever r
// holds.
func read(r io.ReaderAt) (*Executable, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, finding.Refuse(finding.UnsupportedTarget, "not an ELF executable: "+err.Error(),
			"give the executable that runs, built for linux/amd64")
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_X86_64 {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the executable is for %v, %v; only x86-64 is supported", f.Machine, f.Class),
			"build the target for linux/amd64")
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the file is no executable but %v", f.Type), "give the executable that runs")
	}
	x := &Executable{elf: f, PIE: f.Type == elf.ET_DYN, byName: map[string]int32{}}
	for _, s := range f.Sections {
		x.Sections = append(x.Sections, Section{Name: s.Name, Type: s.Type, Flags: s.Flags, Addr: s.Addr, Size: s.Size})
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOTE {
			if data, err := s.Data(); err == nil {
				x.parseNotes(data)
			}
		}
	}
	return x, nil
}

// hasSymbols and hasDWARF tell what is in a file.

func hasSymbols(f *elf.File) bool {
	sec := f.SectionByType(elf.SHT_SYMTAB)
	return sec != nil && sec.Size >= 2*symSize
}

func hasDWARF(f *elf.File) bool {
	return f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil
}

// useSymbols reads the symbols of f, which is the executable itself or its
// companion.
func (x *Executable) useSymbols(f *elf.File) error {
	if err := x.readSymbols(f); err != nil {
		return err
	}
	addr := func(name string) uint64 {
		s, _, _ := x.Symbol(name)
		return s.Addr
	}
	x.TextStart, x.TextEnd = addr("runtime.text"), addr("runtime.etext")
	x.TypesStart, x.TypesEnd = addr("runtime.types"), addr("runtime.etypes")
	x.TLSOffset = tlsOffset(x.elf, addr("runtime.tlsg"))
	x.symbols = f
	x.linesOnce = sync.Once{} // what was read without knowing where the text starts
	return nil
}

// readSymbols reads the static symbol table.
func (x *Executable) readSymbols(f *elf.File) error {
	sec := f.SectionByType(elf.SHT_SYMTAB)
	data, err := sec.Data()
	if err != nil {
		return malformed("symbol table: %v", err)
	}
	if int(sec.Link) >= len(f.Sections) {
		return malformed("symbol table names string table %d of %d", sec.Link, len(f.Sections))
	}
	raw, err := f.Sections[sec.Link].Data()
	if err != nil {
		return malformed("string table: %v", err)
	}
	// A companion's sections have other numbers.
	sections := make([]int, len(f.Sections))
	for i, s := range f.Sections {
		sections[i] = slices.IndexFunc(x.Sections, func(own Section) bool { return own.Name == s.Name })
	}
	return x.parseSymbols(data, string(raw), sections)
}

// parseSymbols parses a symbol table with its strings and indexes it. sections
// are the numbers in x.Sections of the sections that the table numbers; those
// of a section that x lacks are passed over.
func (x *Executable) parseSymbols(data []byte, strs string, sections []int) error {
	le := binary.LittleEndian
	n := len(data) / symSize
	x.Symbols = make([]Symbol, 0, n)
	for i := 1; i < n; i++ {
		e := data[i*symSize:]
		section, typ := int(le.Uint16(e[6:])), elf.SymType(e[4]&15)
		if section == 0 || section >= len(sections) || sections[section] < 0 || typ == elf.STT_SECTION || typ == elf.STT_FILE {
			continue
		}
		name, ok := cstring(strs, le.Uint32(e))
		if !ok {
			return malformed("name of symbol %d lies outside the string table", i)
		}
		x.Symbols = append(x.Symbols, Symbol{
			Name: name, Addr: le.Uint64(e[8:]), Size: le.Uint64(e[16:]),
			Type: typ, Section: sections[section], Local: e[4]>>4 == byte(elf.STB_LOCAL),
		})
	}
	sort.SliceStable(x.Symbols, func(i, j int) bool { return x.Symbols[i].Addr < x.Symbols[j].Addr })
	x.byName = make(map[string]int32, len(x.Symbols))
	for i, s := range x.Symbols {
		if j, dup := x.byName[s.Name]; dup && (j < 0 || x.Symbols[j].Addr != s.Addr) {
			x.byName[s.Name] = -1
		} else if !dup {
			x.byName[s.Name] = int32(i)
		}
	}
	return nil
}

// parseNotes takes the build IDs from a note section; others are passed over.
func (x *Executable) parseNotes(data []byte) {
	le := binary.LittleEndian
	for len(data) >= 12 {
		namesz, descsz, typ := uint64(le.Uint32(data)), uint64(le.Uint32(data[4:])), le.Uint32(data[8:])
		desc := 12 + (namesz+3)&^3
		end := desc + (descsz+3)&^3
		if end > uint64(len(data)) {
			return
		}
		name := string(bytes.TrimRight(data[12:12+namesz], "\x00"))
		switch {
		case name == "Go" && typ == 4: // cmd/internal/buildid: ELF_NOTE_GOBUILDID_TAG
			x.GoBuildID = string(data[desc : desc+descsz])
		case name == "GNU" && typ == 3: // NT_GNU_BUILD_ID
			x.GNUBuildID = hex.EncodeToString(data[desc : desc+descsz])
		}
		data = data[end:]
	}
}

// tlsOffset returns where the variable at offset tlsg of the executable's
// thread-local block lies from the thread pointer: the block ends there (TLS
// variant II of the x86-64 psABI).
func tlsOffset(f *elf.File, tlsg uint64) int64 {
	for _, p := range f.Progs {
		if p.Type == elf.PT_TLS {
			size := p.Memsz
			if p.Align > 1 {
				size = (size + p.Align - 1) / p.Align * p.Align
			}
			return int64(tlsg) - int64(size)
		}
	}
	return -8
}

// cstring returns the zero-terminated string at off.
func cstring(strs string, off uint32) (string, bool) {
	if uint64(off) >= uint64(len(strs)) {
		return "", false
	}
	s := strs[off:]
	n := strings.IndexByte(s, 0)
	if n < 0 {
		return "", false
	}
	return s[:n], true
}

func malformed(format string, args ...any) error {
	return finding.Refuse(finding.UnsupportedTarget, "malformed executable: "+fmt.Sprintf(format, args...),
		"give the file that runs, e.g. /proc/PID/exe")
}
