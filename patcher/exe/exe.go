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

	"github.com/darn-dev/darn/patcher/finding"
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
	byName map[string]int32 // first index into Symbols; ambiguous: -1

	dwarfOnce sync.Once
	dwarf     *dwarf.Data
	dwarfErr  error
	linesOnce sync.Once
	lines     *gosym.Table
	linesErr  error
}

// Open reads the executable at path (for a process: /proc/PID/exe). What is no
// linux/amd64 ELF executable, and a stripped one, is refused with
// unsupported-target.
func Open(path string) (*Executable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	x, err := read(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	x.file = f
	if bi, err := buildinfo.Read(f); err == nil {
		x.BuildInfo = bi
	}
	return x, nil
}

// Close releases the file.
func (x *Executable) Close() error { return x.file.Close() }

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

// DWARF returns the file's debugging information; it is read once. A file
// without is refused with unsupported-target.
func (x *Executable) DWARF() (*dwarf.Data, error) {
	x.dwarfOnce.Do(func() {
		if x.elf.Section(".debug_info") == nil && x.elf.Section(".zdebug_info") == nil {
			x.dwarfErr = finding.Refuse(finding.UnsupportedTarget, "the executable has no debugging information (DWARF)",
				"build the target without -ldflags=-w")
			return
		}
		x.dwarf, x.dwarfErr = x.elf.DWARF()
	})
	return x.dwarf, x.dwarfErr
}

// FuncLine returns the function whose Go code holds addr, and the file and line
// of that instruction. The table that knows it is read once, for this.
func (x *Executable) FuncLine(addr uint64) (function, file string, line int, err error) {
	x.linesOnce.Do(func() { x.lines, x.linesErr = x.readLines() })
	if x.linesErr != nil {
		return "", "", 0, x.linesErr
	}
	file, line, fn := x.lines.PCToLine(addr)
	if fn == nil {
		return "", "", 0, fmt.Errorf("no Go function at %#x", addr)
	}
	return fn.Name, file, line, nil
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
