package module

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// ID identifies the module: the SHA-256, in hex, of the bytes that it was read
// from, without their signature; for a module that was not read, of those that
// Write would write. It is "" for a module that cannot be written.
func (m *Module) ID() string {
	if m.digest != [sha256.Size]byte{} {
		return hex.EncodeToString(m.digest[:])
	}
	data, err := m.encode()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Write verifies the module as Read would and writes it. Equal modules give
// equal bytes. Symbols are written local ones first, relocations by address.
func (m *Module) Write(w io.Writer) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// WriteFile writes the module to path with mode 0644. A reader of path sees
// either what was there before or the whole module.
func (m *Module) WriteFile(path string) error { return m.WriteSigned(path, nil) }

// WriteSigned is WriteFile with a signature, if key is not nil.
func (m *Module) WriteSigned(path string, key ed25519.PrivateKey) (err error) {
	data, err := m.encode()
	if err == nil && key != nil {
		data, err = Sign(data, key)
	}
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// stringTable is an ELF string table under construction.
type stringTable struct {
	data []byte
	at   map[string]uint32
}

func newStringTable() *stringTable {
	return &stringTable{data: []byte{0}, at: map[string]uint32{"": 0}}
}

func (t *stringTable) add(s string) uint32 {
	off, ok := t.at[s]
	if !ok {
		off = uint32(len(t.data))
		t.data = append(append(t.data, s...), 0)
		t.at[s] = off
	}
	return off
}

// writer lays out an ELF file: header, program headers, contents in the order
// they are added, section headers.
type writer struct {
	out      bytes.Buffer
	names    *stringTable
	sections []elf.Section64
}

// content appends data at a multiple of a and returns its offset.
func (w *writer) content(data []byte, a uint64) uint64 {
	w.out.Write(make([]byte, align(uint64(w.out.Len()), a)-uint64(w.out.Len())))
	off := uint64(w.out.Len())
	w.out.Write(data)
	return off
}

// section adds a section header, with Name, Off and Size filled in.
func (w *writer) section(name string, data []byte, h elf.Section64) {
	h.Name = w.names.add(name)
	h.Off = w.content(data, max(h.Addralign, 1))
	h.Size = uint64(len(data))
	w.sections = append(w.sections, h)
}

func (m *Module) encode() ([]byte, error) {
	symbols, relocs := m.ordered()
	sorted := *m
	sorted.Symbols, sorted.Relocs = symbols, relocs
	if err := sorted.verify(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&m.Manifest)
	if err != nil {
		return nil, err
	}
	const others = 6 // null, note, relocations, symbols, two string tables
	if n := len(m.Segments) + len(m.Debug) + others; n >= int(elf.SHN_LORESERVE) {
		return nil, malformed("%d sections are more than ELF holds", n)
	}

	w := &writer{names: newStringTable(), sections: make([]elf.Section64, 1, len(m.Segments)+len(m.Debug)+others)}
	programs := make([]elf.Prog64, 0, len(m.Segments)+1)
	w.out.Write(make([]byte, headerSize+(len(m.Segments)+1)*progSize))

	for _, s := range m.Segments {
		flags, kind := elf.SHF_ALLOC, elf.SHT_PROGBITS
		if s.Flags&elf.PF_X != 0 {
			flags |= elf.SHF_EXECINSTR
		}
		if s.Flags&elf.PF_W != 0 {
			flags |= elf.SHF_WRITE
		}
		if len(s.Data) == 0 {
			kind = elf.SHT_NOBITS
		}
		w.section(s.Name, s.Data, elf.Section64{Type: uint32(kind), Flags: uint64(flags), Addr: s.Addr, Addralign: pageSize})
		h := &w.sections[len(w.sections)-1]
		if kind == elf.SHT_NOBITS {
			h.Size = s.Size
		}
		programs = append(programs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(s.Flags), Off: h.Off, Vaddr: s.Addr, Paddr: s.Addr,
			Filesz: uint64(len(s.Data)), Memsz: s.Size, Align: pageSize,
		})
	}

	note := binary.LittleEndian.AppendUint32(nil, uint32(len(noteName)+1))
	note = binary.LittleEndian.AppendUint32(note, uint32(len(text)))
	note = binary.LittleEndian.AppendUint32(note, noteManifest)
	note = append(note, noteName+"\x00\x00\x00\x00"...)
	note = append(note, text...)
	note = append(note, make([]byte, align(uint64(len(note)), 4)-uint64(len(note)))...)
	w.section(".note.darn", note, elf.Section64{Type: uint32(elf.SHT_NOTE), Addralign: 4})
	h := &w.sections[len(w.sections)-1]
	programs = append(programs, elf.Prog64{Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: h.Off, Filesz: h.Size, Align: 4})

	for _, s := range m.Debug {
		w.section(s.Name, s.Data, elf.Section64{Type: uint32(elf.SHT_PROGBITS), Addralign: 1})
	}
	symtab := uint32(len(w.sections))
	table, strings, locals := m.encodeSymbols(symbols)
	w.section(".symtab", table, elf.Section64{Type: uint32(elf.SHT_SYMTAB), Link: symtab + 1, Info: uint32(locals), Addralign: 8, Entsize: symbolSize})
	w.section(".strtab", strings, elf.Section64{Type: uint32(elf.SHT_STRTAB), Addralign: 1})
	if len(relocs) > 0 {
		w.section(".rela.dyn", encodeRelocs(relocs), elf.Section64{Type: uint32(elf.SHT_RELA), Link: symtab, Addralign: 8, Entsize: relocSize})
	}
	w.names.add(".shstrtab")
	w.section(".shstrtab", w.names.data, elf.Section64{Type: uint32(elf.SHT_STRTAB), Addralign: 1})

	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_DYN),
		Machine: uint16(elf.EM_X86_64),
		Version: uint32(elf.EV_CURRENT),
		Phoff:   headerSize,
		Ehsize:  headerSize, Phentsize: progSize, Phnum: uint16(len(programs)),
		Shentsize: sectionSize, Shnum: uint16(len(w.sections)), Shstrndx: uint16(len(w.sections) - 1),
	}
	header.Shoff = w.content(nil, 8)
	for _, h := range w.sections {
		if err := binary.Write(&w.out, binary.LittleEndian, &h); err != nil {
			return nil, err
		}
	}
	if w.out.Len() > MaxFile {
		return nil, malformed("the module would have %d bytes; at most %d are allowed", w.out.Len(), MaxFile)
	}
	out := w.out.Bytes()
	if _, err := binary.Encode(out, binary.LittleEndian, &header); err != nil {
		return nil, err
	}
	if _, err := binary.Encode(out[headerSize:], binary.LittleEndian, programs); err != nil {
		return nil, err
	}
	return out, nil
}

// ordered returns the symbols with the local ones first, as ELF wants them,
// and the relocations by address, referring to those symbols.
func (m *Module) ordered() ([]Symbol, []Reloc) {
	order := make([]int, len(m.Symbols))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return m.Symbols[order[i]].Local && !m.Symbols[order[j]].Local })
	symbols, place := make([]Symbol, len(order)), make([]int, len(order))
	for i, from := range order {
		symbols[i], place[from] = m.Symbols[from], i
	}
	relocs := slices.Clone(m.Relocs)
	for i := range relocs {
		if s := relocs[i].Symbol; s >= 0 && s < len(place) {
			relocs[i].Symbol = place[s]
		}
	}
	sort.SliceStable(relocs, func(i, j int) bool { return relocs[i].Addr < relocs[j].Addr })
	return symbols, relocs
}

// encodeSymbols returns the symbol table, its strings, and the number of its
// local entries, the reserved one included.
func (m *Module) encodeSymbols(symbols []Symbol) (table, strings []byte, locals int) {
	names := newStringTable()
	table = make([]byte, symbolSize, (len(symbols)+1)*symbolSize)
	locals = 1
	for _, s := range symbols {
		bind := elf.STB_GLOBAL
		if s.Local {
			bind, locals = elf.STB_LOCAL, locals+1
		}
		section := elf.SHN_UNDEF
		if !s.Undefined {
			section = elf.SHN_ABS // in the image, but in no segment that is shipped
			if i := m.segment(s.Addr); i >= 0 {
				section = elf.SectionIndex(i + 1)
			}
		}
		table = binary.LittleEndian.AppendUint32(table, names.add(s.Name))
		table = append(table, elf.ST_INFO(bind, s.Type), byte(elf.STV_DEFAULT))
		table = binary.LittleEndian.AppendUint16(table, uint16(section))
		table = binary.LittleEndian.AppendUint64(table, s.Addr)
		table = binary.LittleEndian.AppendUint64(table, s.Size)
	}
	return table, names.data, locals
}

func encodeRelocs(relocs []Reloc) []byte {
	table := make([]byte, 0, len(relocs)*relocSize)
	for _, r := range relocs {
		table = binary.LittleEndian.AppendUint64(table, r.Addr)
		table = binary.LittleEndian.AppendUint64(table, uint64(r.Symbol+1)<<32|uint64(r.Type))
		table = binary.LittleEndian.AppendUint64(table, uint64(r.Addend))
	}
	return table
}
