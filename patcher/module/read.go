package module

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/darn-dev/darn/patcher/finding"
)

// MaxFile is the size in bytes above which a file is not read.
const MaxFile = 1 << 30

// malformed is the refusal of a file, or of a Module, that breaks a rule of
// the format.
func malformed(format string, args ...any) error {
	return finding.Refuse(finding.ModuleMalformed, fmt.Sprintf(format, args...),
		"build the module again with `darn build`; if it was copied, compare the two files")
}

// Open reads the module file at path. The file is read once: what is verified
// and identified (ID, Signer) are the very bytes that are used, whatever happens
// to the file afterwards. Only a regular file is read.
func Open(path string) (*Module, error) {
	f, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadFile(f)
}

// OpenFile opens the file at path for ReadFile, for whoever wants to know more
// of the file that is read than what is in it. A FIFO does not hold it up.
func OpenFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// ReadFile reads a module from a file that OpenFile opened.
func ReadFile(f *os.File) (*Module, error) {
	data, err := Bytes(f)
	if err != nil {
		return nil, err
	}
	m, err := Read(data)
	if err == nil && m.Manifest.Name == "" {
		m.Manifest.Name = strings.TrimSuffix(filepath.Base(f.Name()), ".so")
	}
	return m, err
}

// Bytes reads what is in a file that OpenFile opened, to its end and once. It is
// refused with module-malformed if it is no regular file, or was changed
// meanwhile: it would be neither what it was before nor what it is now.
func Bytes(f *os.File) ([]byte, error) {
	path := f.Name()
	before, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, malformed("%s is not a regular file", path)
	}
	if before.Size() > MaxFile {
		return nil, malformed("%s has %d bytes; a module has at most %d", path, before.Size(), MaxFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, finding.Refuse(finding.ModuleMalformed,
			fmt.Sprintf("%s was changed while it was read", path), "try again when whoever writes it is done")
	}
	return data, nil
}

// Read parses and verifies a module. It never panics, and needs memory and
// time in proportion to len(data). The Module refers to data, which must not
// be altered afterwards.
//
// A shared object without the note "Darn" is a module for C programs, made by a
// compiler alone. Errors are Refusals: module-malformed, signature-invalid for
// a signature that is not that of these bytes, or unsupported-build for a shared
// object of a kind that can't be a module.
func Read(data []byte) (*Module, error) {
	if len(data) > MaxFile {
		return nil, malformed("the file has %d bytes; a module has at most %d", len(data), MaxFile)
	}
	data, signer, err := splitSignature(data)
	if err != nil {
		return nil, err
	}
	m, err := read(data)
	if err != nil {
		return nil, err
	}
	m.digest, m.signer = sha256.Sum256(data), signer
	return m, nil
}

// read does what Read does to a module without a signature.
func read(data []byte) (*Module, error) {
	r := reader{data: data, names: 16 * len(data)}
	if err := r.header(); err != nil {
		return nil, err
	}
	var m Module
	notes, err := r.programs(&m)
	if err != nil {
		return nil, err
	}
	if err := manifest(notes, &m.Manifest); err != nil {
		return nil, err
	}
	if m.Manifest.Format == 0 || m.Manifest.Language == "c" {
		m.Segments = nil
		if err := readShared(data, &m); err != nil {
			return nil, err
		}
		return &m, nil
	}
	if r.other != elf.PT_NULL {
		return nil, malformed("a program header of type %v has no place in a module", r.other)
	}
	if err := r.sections(&m); err != nil {
		return nil, err
	}
	if err := m.verify(); err != nil {
		return nil, err
	}
	return &m, nil
}

// reader takes an ELF file apart. package debug/elf would do, but it is
// documented as not hardened against hostile files.
type reader struct {
	data  []byte
	h     elf.Header64
	other elf.ProgType // of a program header that a module does not have
	names int          // bytes of names still allowed: many symbols may share one long string
}

// bytes returns the n bytes at offset off of the file.
func (r *reader) bytes(off, n uint64, what string) ([]byte, error) {
	if off > uint64(len(r.data)) || n > uint64(len(r.data))-off {
		return nil, malformed("%s lies outside the file (offset %#x, %d bytes, file of %d): it may be truncated", what, off, n, len(r.data))
	}
	return r.data[off : off+n : off+n], nil
}

func (r *reader) header() error {
	if len(r.data) < 4 || string(r.data[:4]) != elf.ELFMAG {
		return malformed("not an ELF file")
	}
	if _, err := binary.Decode(r.data, binary.LittleEndian, &r.h); err != nil {
		return malformed("the ELF header is truncated")
	}
	h := &r.h
	class, order := elf.Class(h.Ident[elf.EI_CLASS]), elf.Data(h.Ident[elf.EI_DATA])
	switch {
	case class != elf.ELFCLASS64 || order != elf.ELFDATA2LSB:
		return malformed("the file is %v %v; a module is ELFCLASS64 ELFDATA2LSB", class, order)
	case elf.Machine(h.Machine) != elf.EM_X86_64:
		return malformed("the file is for %v; a module is for EM_X86_64", elf.Machine(h.Machine))
	case elf.Type(h.Type) != elf.ET_DYN:
		return malformed("the file is %v; a module is a shared object (ET_DYN)", elf.Type(h.Type))
	case h.Ident[elf.EI_VERSION] != byte(elf.EV_CURRENT) || h.Version != uint32(elf.EV_CURRENT):
		return malformed("the ELF version is %d; only 1 is known", h.Version)
	case h.Phentsize != progSize:
		return malformed("program headers have %d bytes, not %d", h.Phentsize, progSize)
	case h.Shentsize != sectionSize:
		return malformed("section headers have %d bytes, not %d", h.Shentsize, sectionSize)
	case h.Phnum > maxPrograms || h.Shnum >= uint16(elf.SHN_LORESERVE):
		return malformed("%d program and %d section headers are too many", h.Phnum, h.Shnum)
	case h.Shstrndx >= h.Shnum:
		return malformed("section %d, which should hold the section names, does not exist", h.Shstrndx)
	}
	return nil
}

// programs reads the program headers: segments into m, and the notes. Other
// headers are noted only: first it must be known whether this is a module.
func (r *reader) programs(m *Module) (notes [][]byte, err error) {
	table, err := r.bytes(r.h.Phoff, uint64(r.h.Phnum)*progSize, "the program header table")
	if err != nil {
		return nil, err
	}
	for i := range int(r.h.Phnum) {
		var p elf.Prog64
		if _, err := binary.Decode(table[i*progSize:], binary.LittleEndian, &p); err != nil {
			return nil, malformed("program header %d: %v", i, err)
		}
		what := fmt.Sprintf("program header %d", i)
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			data, err := r.bytes(p.Off, p.Filesz, what)
			if err != nil {
				return nil, err
			}
			m.Segments = append(m.Segments, Segment{Addr: p.Vaddr, Data: data, Size: p.Memsz, Flags: elf.ProgFlag(p.Flags)})
		case elf.PT_NOTE:
			data, err := r.bytes(p.Off, p.Filesz, what)
			if err != nil {
				return nil, err
			}
			notes = append(notes, data)
		default:
			r.other = elf.ProgType(p.Type)
		}
	}
	return notes, nil
}

// manifest finds the one note "Darn" and decodes it; m stays empty if there is
// none.
func manifest(notes [][]byte, m *Manifest) error {
	var text []byte
	for _, b := range notes {
		for len(b) > 0 {
			if len(b) < noteHeader {
				return malformed("a note is truncated")
			}
			name, desc := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
			kind := binary.LittleEndian.Uint32(b[8:])
			b = b[noteHeader:]
			nameEnd, descEnd := align(uint64(name), 4), align(align(uint64(name), 4)+uint64(desc), 4)
			if descEnd > uint64(len(b)) {
				return malformed("a note is truncated: it has %d bytes, %d are left", descEnd, len(b))
			}
			if string(b[:name]) == noteName+"\x00" && kind == noteManifest {
				if text != nil {
					return malformed("there is more than one manifest")
				}
				text = b[nameEnd : nameEnd+uint64(desc)]
			}
			b = b[descEnd:]
		}
	}
	if text == nil {
		return nil
	}
	// The format comes first: a manifest of a later format need not decode.
	var format struct{ Format int }
	if err := json.Unmarshal(text, &format); err != nil {
		return malformed("the manifest is not valid JSON: %v", err)
	}
	if format.Format != FormatVersion {
		return malformed("the manifest has format %d; this version of Darn reads format %d", format.Format, FormatVersion)
	}
	// A field that we do not know may ask for something that we would not do.
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return malformed("the manifest cannot be decoded: %v", err)
	}
	return nil
}

// sections reads what only section headers tell: names of segments, symbols,
// relocations and DWARF.
func (r *reader) sections(m *Module) error {
	table, err := r.bytes(r.h.Shoff, uint64(r.h.Shnum)*sectionSize, "the section header table")
	if err != nil {
		return err
	}
	headers := make([]elf.Section64, r.h.Shnum)
	for i := range headers {
		if _, err := binary.Decode(table[i*sectionSize:], binary.LittleEndian, &headers[i]); err != nil {
			return malformed("section header %d: %v", i, err)
		}
	}
	content := func(i uint32, kind elf.SectionType) ([]byte, error) {
		if i >= uint32(len(headers)) || elf.SectionType(headers[i].Type) != kind {
			return nil, malformed("section %d is not of type %v", i, kind)
		}
		return r.bytes(headers[i].Off, headers[i].Size, fmt.Sprintf("section %d", i))
	}
	if len(headers) == 0 {
		return malformed("there are no section headers")
	}
	names, err := content(uint32(r.h.Shstrndx), elf.SHT_STRTAB)
	if err != nil {
		return err
	}

	at := make(map[uint64]*Segment, len(m.Segments))
	for i := range m.Segments {
		at[m.Segments[i].Addr] = &m.Segments[i]
	}
	symtab, rela := -1, -1
	for i := 1; i < len(headers); i++ {
		h := &headers[i]
		name, ok := r.str(names, h.Name)
		if !ok {
			return malformed("section %d has no name", i)
		}
		kind, loaded := elf.SectionType(h.Type), elf.SectionFlag(h.Flags)&elf.SHF_ALLOC != 0
		switch {
		case loaded:
			s := at[h.Addr]
			if s == nil || s.Name != "" || (kind != elf.SHT_PROGBITS && kind != elf.SHT_NOBITS) {
				return malformed("section %d (%q, %v at %#x) does not describe a segment of its own", i, name, kind, h.Addr)
			}
			if !r.same(h, s) {
				return malformed("section %d (%q) does not show what segment %#x loads", i, name, s.Addr)
			}
			s.Name = name
		case kind == elf.SHT_SYMTAB && symtab < 0:
			symtab = i
		case kind == elf.SHT_RELA && rela < 0:
			rela = i
		case kind == elf.SHT_PROGBITS:
			data, err := content(uint32(i), kind)
			if err != nil {
				return err
			}
			m.Debug = append(m.Debug, Section{name, data})
		case kind == elf.SHT_STRTAB, kind == elf.SHT_NOTE:
		default:
			return malformed("section %d (%q) of type %v has no place in a module", i, name, kind)
		}
	}
	for _, s := range m.Segments {
		if s.Name == "" {
			return malformed("no section describes the segment at %#x", s.Addr)
		}
	}

	if symtab < 0 {
		return malformed("there is no symbol table")
	}
	symbols, err := content(uint32(symtab), elf.SHT_SYMTAB)
	if err != nil {
		return err
	}
	strings, err := content(headers[symtab].Link, elf.SHT_STRTAB)
	if err != nil {
		return err
	}
	if err := r.symbols(m, symbols, strings, int(headers[symtab].Info)); err != nil {
		return err
	}
	if rela < 0 {
		return nil
	}
	if int(headers[rela].Link) != symtab {
		return malformed("the relocations refer to section %d, which is not the symbol table", headers[rela].Link)
	}
	relocs, err := content(uint32(rela), elf.SHT_RELA)
	if err != nil {
		return err
	}
	return readRelocs(m, relocs)
}

// same reports whether tools that go by section headers see in h the bytes that
// s loads.
func (r *reader) same(h *elf.Section64, s *Segment) bool {
	if elf.SectionType(h.Type) == elf.SHT_NOBITS {
		return len(s.Data) == 0 && h.Size == s.Size
	}
	data, err := r.bytes(h.Off, h.Size, "")
	return err == nil && len(data) == len(s.Data) && (len(data) == 0 || &data[0] == &s.Data[0])
}

// symbols decodes a symbol table of which the first locals entries are local.
func (r *reader) symbols(m *Module, table, strings []byte, locals int) error {
	if len(table)%symbolSize != 0 || len(table) == 0 || locals < 1 || locals > len(table)/symbolSize {
		return malformed("the symbol table (%d bytes, %d local symbols) is malformed", len(table), locals)
	}
	if table = table[symbolSize:]; len(table) == 0 { // entry 0 is reserved
		return nil
	}
	m.Symbols = make([]Symbol, 0, len(table)/symbolSize)
	for i := 1; len(table) > 0; i, table = i+1, table[symbolSize:] {
		name, ok := r.str(strings, binary.LittleEndian.Uint32(table))
		if !ok {
			return malformed("symbol %d has no name", i)
		}
		bind := elf.ST_BIND(table[4])
		if bind != elf.STB_LOCAL && bind != elf.STB_GLOBAL || (bind == elf.STB_LOCAL) != (i < locals) {
			return malformed("symbol %d (%q) has binding %v, which is not allowed there", i, name, bind)
		}
		m.Symbols = append(m.Symbols, Symbol{
			Name:      name,
			Type:      elf.ST_TYPE(table[4]),
			Addr:      binary.LittleEndian.Uint64(table[8:]),
			Size:      binary.LittleEndian.Uint64(table[16:]),
			Undefined: elf.SectionIndex(binary.LittleEndian.Uint16(table[6:])) == elf.SHN_UNDEF,
			Local:     bind == elf.STB_LOCAL,
		})
	}
	return nil
}

// readRelocs decodes a relocation section.
func readRelocs(m *Module, table []byte) error {
	if len(table)%relocSize != 0 {
		return malformed("the relocation section has %d bytes, no multiple of %d", len(table), relocSize)
	}
	if len(table) == 0 {
		return nil
	}
	m.Relocs = make([]Reloc, 0, len(table)/relocSize)
	for ; len(table) > 0; table = table[relocSize:] {
		info := binary.LittleEndian.Uint64(table[8:])
		m.Relocs = append(m.Relocs, Reloc{
			Addr:   binary.LittleEndian.Uint64(table),
			Type:   elf.R_X86_64(info & 0xffffffff),
			Symbol: int(info>>32) - 1, // entry 0 of the table is not in Symbols
			Addend: int64(binary.LittleEndian.Uint64(table[16:])),
		})
	}
	return nil
}

// str returns the non-empty string at offset off of a string table.
func (r *reader) str(table []byte, off uint32) (string, bool) {
	if uint64(off) >= uint64(len(table)) {
		return "", false
	}
	table = table[off:]
	n := bytes.IndexByte(table[:min(len(table), r.names)], 0)
	if n <= 0 {
		return "", false
	}
	r.names -= n
	return string(table[:n]), true
}
