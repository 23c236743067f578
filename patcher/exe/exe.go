// Package exe reads the executable file of a target: its symbols, its bytes
// by address, what it was built from and with which flags. All addresses are
// link-time ones; a position-independent target runs at these plus its load
// bias.
package exe

import (
	"debug/buildinfo"
	"debug/dwarf"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"sync"
)

// Symbol is a defined symbol of the executable.
type Symbol struct {
	Name    string
	Addr    uint64 // STT_TLS: offset in the thread-local block
	Size    uint64 // bytes
	Type    elf.SymType
	Section int // index into Sections
	Local   bool
}

// Section is a section of the executable.
type Section struct {
	Name  string
	Type  elf.SectionType
	Flags elf.SectionFlag
	Addr  uint64
	Size  uint64
}

// Executable is an executable ELF file for linux/amd64. It is safe for use by
// several goroutines. Close it after use.
type Executable struct {
	// Sections are the file's sections; index 0 is the null section.
	Sections []Section
	// Symbols are the defined symbols, sorted by (Addr, file order).
	Symbols []Symbol
	// PIE tells whether the file is position independent.
	PIE bool
	// GoBuildID is the Go build ID, "" for a program that is not Go.
	GoBuildID string
	// GNUBuildID is the GNU build ID in hex, "" if there is none.
	GNUBuildID string
	// BuildInfo is what `go version -m` prints; nil for a program that is not
	// Go. BuildInfo.GoVersion is the toolchain.
	BuildInfo *debug.BuildInfo
	// TextStart and TextEnd are runtime.text and runtime.etext; 0 for a program
	// that is not Go.
	TextStart, TextEnd uint64
	// TypesStart and TypesEnd are runtime.types and runtime.etypes.
	TypesStart, TypesEnd uint64
	// TLSOffset is the offset of the current g's pointer (runtime.tlsg) from
	// the thread pointer.
	TLSOffset int64

	file   *os.File
	elf    *elf.File
	path   string
	byName map[string]int32 // first index into Symbols; ambiguous: -1

	symbols   *elf.File // what has the symbols: elf, the companion, or nil
	companion *os.File  // nil without

	dwarfOnce sync.Once
	dwarf     *dwarf.Data
	dwarfErr  error
	linesOnce sync.Once
	lines     *gosym.Table
	linesErr  error
}

// Open reads the executable at path (for a process: /proc/PID/exe). A stripped
// one is completed with the symbol companion that the cache has of it; without
// one it is refused with unsupported-target, as is what is no linux/amd64 ELF
// executable.
func Open(path string) (*Executable, error) {
	x, err := OpenAny(path)
	if err != nil {
		return nil, err
	}
	if err := x.Complete(); err != nil {
		_ = x.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return x, nil
}

// OpenAny is Open without symbols: the executable may be stripped. Symbols, the
// ranges that symbols give and DWARF are known after Complete.
func OpenAny(path string) (*Executable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	x, err := read(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	x.file, x.path = f, path
	if bi, err := buildinfo.Read(f); err == nil {
		x.BuildInfo = bi
	}
	return x, nil
}

// Stripped tells that the file lacks symbols, or debugging information, which
// other programs than Go's are often built without.
func (x *Executable) Stripped() bool {
	return !hasSymbols(x.elf) || x.GoBuildID != "" && !hasDWARF(x.elf)
}

// Complete reads the symbols: the executable's own, or those of the companion
// that the cache has of it. Without one it is refused with unsupported-target.
func (x *Executable) Complete() error {
	switch {
	case x.symbols != nil:
		return nil
	case !x.Stripped():
		return x.useSymbols(x.elf)
	}
	return x.findCompanion()
}

// Close releases the file.
func (x *Executable) Close() error {
	if x.companion != nil {
		_ = x.companion.Close() // was read only
	}
	return x.file.Close()
}

// Symbol looks up a symbol by name. Of a name that several symbols have, ok is
// false and ambiguous is true.
func (x *Executable) Symbol(name string) (s Symbol, ok, ambiguous bool) {
	i, found := x.byName[name]
	if !found {
		return Symbol{}, false, false
	}
	if i < 0 {
		return Symbol{}, false, true
	}
	return x.Symbols[i], true, false
}

// SymbolAt returns the function or object whose bytes contain addr.
func (x *Executable) SymbolAt(addr uint64) (Symbol, bool) {
	i := sort.Search(len(x.Symbols), func(i int) bool { return x.Symbols[i].Addr > addr })
	for i--; i >= 0; i-- {
		s := x.Symbols[i]
		if s.Type == elf.STT_TLS {
			continue
		}
		if addr < s.Addr+s.Size {
			return s, true
		}
		if s.Size > 0 {
			break
		}
	}
	return Symbol{}, false
}

// ReadAt fills buf with what the file holds for address addr when loaded; what
// is beyond the file's part of a segment (bss) reads as zero. It fails if buf
// does not lie in one segment. A target's writable memory differs, of course.
func (x *Executable) ReadAt(buf []byte, addr uint64) error {
	for _, p := range x.elf.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Memsz {
			continue
		}
		off := addr - p.Vaddr
		if uint64(len(buf)) > p.Memsz-off {
			break
		}
		n := 0
		if off < p.Filesz {
			n = int(min(uint64(len(buf)), p.Filesz-off))
			if _, err := x.file.ReadAt(buf[:n], int64(p.Off+off)); err != nil {
				return err
			}
		}
		clear(buf[n:])
		return nil
	}
	return fmt.Errorf("%d bytes at %#x are not in the executable", len(buf), addr)
}

// ReadCode is ReadAt of code that is in memory as it is in the file: it fails
// for an address that is not in an executable segment, and for a file whose code the
// loader has to relocate.
func (x *Executable) ReadCode(buf []byte, addr uint64) error {
	relocated, _ := x.elf.DynValue(elf.DT_TEXTREL) // none without a dynamic segment
	flags, _ := x.elf.DynValue(elf.DT_FLAGS)
	for _, f := range flags {
		if f&uint64(elf.DF_TEXTREL) != 0 {
			relocated = append(relocated, f)
		}
	}
	for _, p := range x.elf.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz && len(relocated) == 0 {
			return x.ReadAt(buf, addr)
		}
	}
	return fmt.Errorf("%d bytes at %#x are no code of the file's", len(buf), addr)
}

// DWARF returns the debugging information; it is read once. A program without
// is refused with unsupported-target.
func (x *Executable) DWARF() (*dwarf.Data, error) {
	x.dwarfOnce.Do(func() {
		if !hasDWARF(x.symbols) {
			x.dwarfErr = x.stripped()
			return
		}
		x.dwarf, x.dwarfErr = x.symbols.DWARF()
	})
	return x.dwarf, x.dwarfErr
}

// FuncLine returns the function whose Go code holds addr, and the file and line
// of that instruction. The table that knows it is read once, for this.
func (x *Executable) FuncLine(addr uint64) (function, file string, line int, err error) {
	lines, err := x.lineTable()
	if err != nil {
		return "", "", 0, err
	}
	file, line, fn := lines.PCToLine(addr)
	if fn == nil {
		return "", "", 0, fmt.Errorf("no Go function at %#x", addr)
	}
	return fn.Name, file, line, nil
}

// FileOf returns the source file of a Go function, "" if there is none of that
// name. A stripped executable knows it too.
func (x *Executable) FileOf(function string) string {
	lines, err := x.lineTable()
	if err != nil {
		return ""
	}
	fn := lines.LookupFunc(function)
	if fn == nil {
		return ""
	}
	file, _, _ := lines.PCToLine(fn.Entry)
	return file
}

func (x *Executable) lineTable() (*gosym.Table, error) {
	x.linesOnce.Do(func() { x.lines, x.linesErr = x.readLines() })
	return x.lines, x.linesErr
}

// StopWithin returns the first address in [lo, hi) where a debugger may put a
// breakpoint in the function at [entry, end), and says why in words: where the
// prologue ends, or another line begins than at the entry. It is "" if there is
// none.
func (x *Executable) StopWithin(entry, end, lo, hi uint64) (addr uint64, why string) {
	if at := x.PrologueEnd(entry, end); at >= lo && at < hi {
		return at, "the prologue ends"
	}
	_, file, first, err := x.FuncLine(entry)
	if err != nil {
		return 0, "" // no Go code: no lines either
	}
	for at := lo; at < hi; at++ {
		if _, _, line, err := x.FuncLine(at); err == nil && line != first {
			return at, fmt.Sprintf("line %d of %s begins", line, file)
		}
	}
	return 0, ""
}

// PrologueEnd returns where a function's prologue ends, 0 if it is not known.
func (x *Executable) PrologueEnd(entry, end uint64) uint64 {
	d, err := x.DWARF()
	if err != nil {
		return 0
	}
	unit, err := d.Reader().SeekPC(entry)
	if err != nil {
		return 0
	}
	lines, err := d.LineReader(unit)
	if err != nil || lines == nil {
		return 0
	}
	var line dwarf.LineEntry
	if lines.SeekPC(entry, &line) != nil {
		return 0
	}
	for line.Address < end {
		if line.PrologueEnd && line.Address >= entry {
			return line.Address
		}
		if lines.Next(&line) != nil {
			return 0
		}
	}
	return 0
}

func (x *Executable) readLines() (*gosym.Table, error) {
	var sec *elf.Section
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if sec = x.elf.Section(name); sec != nil {
			break
		}
	}
	if sec == nil {
		return nil, errors.New("no Go line table in the executable")
	}
	data, err := sec.Data()
	if err != nil {
		return nil, err
	}
	return gosym.NewTable(nil, gosym.NewLineTable(data, x.TextStart))
}
