// Package object reads the relocatable object that the Go linker makes for an
// external one (go.o), in which every function and variable of a program still
// has its name and every reference its relocation. It compares two of them by
// content, to find what an edit changed, and one with an executable, to prove
// that the executable was built from the same source.
package object

import (
	"debug/elf"
	"debug/gosym"
	"io"
	"sort"
	"strings"
	"sync"
)

// Object is a relocatable object in memory. It is safe for use by several
// goroutines and must not be altered. Close it after use.
type Object struct {
	// Path is the file it was read from.
	Path string
	// Sections are indexed as in the file; index 0 is the null section.
	Sections []Section
	// Symbols are indexed as in the file; index 0 is the null symbol.
	Symbols []Symbol
	// Functions are the indices in Symbols of all functions with code, sorted
	// by their offset in .text.
	Functions []int
	// Text is the index of the section .text, the only one with code.
	Text int

	file   io.ReaderAt
	byName map[string][]int32
	spans  [][]int32 // by section: symbols with bytes of their own, by offset

	linesOnce   sync.Once
	lines       *gosym.Table
	linesErr    error
	debugOnce   sync.Once
	debug       *debugInfo
	debugErr    error
	stringsOnce sync.Once
	strings     stringTable
}

// Section is a section of an Object.
type Section struct {
	Name  string
	Type  elf.SectionType
	Flags elf.SectionFlag
	Align uint64
	Size  uint64
	// Data are the section's bytes if it is loaded (SHF_ALLOC) and not
	// SHT_NOBITS, else nil.
	Data []byte
	// Relocs of a loaded section, sorted by offset. In code they are only those
	// of the file: see Object.Refs.
	Relocs []Reloc

	off int64 // in the file
}

// Symbol is a symbol of an Object.
type Symbol struct {
	Name    string
	Section int    // index in Sections; 0 if it is not defined in the object
	Offset  uint64 // in the section
	Size    uint64 // bytes; of a container: up to the next symbol
	Type    elf.SymType
	Local   bool
	// Container tells that the symbol stands for many nameless ones: type:*,
	// go:string.*, go:func.*, go:funcdesc, runtime.gcbits.*…
	Container bool
}

// Place is a place in an Object. Section 0 stands for outside of the object.
type Place struct {
	Section int
	Offset  uint64
}

// Reloc is a reference from a field in a section to a place.
type Reloc struct {
	Offset uint64 // of the field, in its section
	Type   elf.R_X86_64
	Symbol int   // index in Symbols
	Addend int64 // as in the file
	// Target is the place referred to. In code it is exact only in what
	// Object.Refs returns: the field counts from the end of the instruction,
	// which the relocation does not tell.
	Target Place
	// Synthetic tells that the file has no relocation for the field: the linker
	// resolved it. The field holds the distance already.
	Synthetic bool
	// Size of the field, bytes.
	Size int
}

// Named returns the indices in Symbols of all symbols with the name, in the
// order of the file.
func (o *Object) Named(name string) []int32 { return o.byName[name] }

// Lookup returns the index in Symbols of the defined symbol with the name, if
// there is exactly one.
func (o *Object) Lookup(name string) (int, bool) {
	s := o.byName[name]
	if len(s) != 1 || o.Symbols[s[0]].Section == 0 {
		return 0, false
	}
	return int(s[0]), true
}

// SymbolAt returns the symbol, container or not, whose bytes hold the place.
func (o *Object) SymbolAt(p Place) (int, bool) {
	if p.Section <= 0 || p.Section >= len(o.spans) {
		return 0, false
	}
	span := o.spans[p.Section]
	i := sort.Search(len(span), func(i int) bool { return o.Symbols[span[i]].Offset > p.Offset })
	if i == 0 {
		return 0, false
	}
	s := &o.Symbols[span[i-1]]
	if p.Offset-s.Offset >= s.Size {
		return 0, false
	}
	return int(span[i-1]), true
}

// Content returns the bytes of a defined symbol with the fields of relocations
// as in the file; nil if it lies in a section without bytes (bss).
func (o *Object) Content(sym int) []byte {
	s := &o.Symbols[sym]
	data := o.Sections[s.Section].Data
	if data == nil {
		return nil
	}
	return data[s.Offset : s.Offset+s.Size : s.Offset+s.Size]
}

// Relocs returns the file's relocations within a defined symbol.
func (o *Object) Relocs(sym int) []Reloc {
	s := &o.Symbols[sym]
	return o.relocs(s.Section, s.Offset, s.Offset+s.Size)
}

func (o *Object) relocs(section int, lo, hi uint64) []Reloc {
	r := o.Sections[section].Relocs
	i := sort.Search(len(r), func(i int) bool { return r[i].Offset >= lo })
	j := i + sort.Search(len(r)-i, func(j int) bool { return r[i+j].Offset >= hi })
	return r[i:j:j]
}

// IsFunction tells whether the symbol is a function with code.
func (o *Object) IsFunction(sym int) bool {
	s := &o.Symbols[sym]
	return s.Type == elf.STT_FUNC && s.Section == o.Text && s.Size > 0
}

// Writable tells whether the symbol lies in a writable section.
func (o *Object) Writable(sym int) bool {
	s := &o.Symbols[sym]
	return o.Sections[s.Section].Flags&elf.SHF_WRITE != 0 && !strings.HasPrefix(o.Sections[s.Section].Name, ".data.rel.ro")
}

// bytesAt returns n bytes at the place, nil if it does not hold so many.
func (o *Object) bytesAt(p Place, n uint64) []byte {
	if p.Section <= 0 || p.Section >= len(o.Sections) {
		return nil
	}
	data := o.Sections[p.Section].Data
	if p.Offset > uint64(len(data)) || n > uint64(len(data))-p.Offset {
		return nil
	}
	return data[p.Offset:][:n:n]
}

// Close releases the file.
func (o *Object) Close() error { return o.file.(io.Closer).Close() }
