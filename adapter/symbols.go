package adapter

import (
	"cmp"
	"debug/elf"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/darn-dev/darn/patcher/process"
)

// symbols are the functions in the symbol tables of the files that a target's code
// comes from: all that is known of libraries without debugging information.
type symbols struct {
	files map[string]*symbolTable
}

// symbolTable is a file's, in the order of addresses as the file has them.
type symbolTable struct {
	loads     []elf.ProgHeader
	functions []elf.Symbol
}

// code is the code of a process, where it is now.
type code struct {
	pid      int
	mappings []process.Mapping
	symbols  *symbols
}

// code returns where the code of a process is.
func (s *symbols) code(pid int) code {
	mappings, _ := process.ReadMaps(pid) // without them nothing is known
	return code{pid, mappings, s}
}

// name returns what the function at an address is called, the address itself if
// there is no symbol; ok is false if no code is there.
func (c code) name(pc uint64) (name string, ok bool) {
	for _, m := range c.mappings {
		if pc < m.Start || pc >= m.End || !strings.Contains(m.Perms, "x") {
			continue
		}
		name = fmt.Sprintf("%#x", pc)
		if m.Path == "" {
			return name, true
		}
		if f := c.symbols.file(fmt.Sprintf("/proc/%d/root%s", c.pid, m.Path)).at(pc - m.Start + m.Offset); f != "" {
			name = f
		}
		return fmt.Sprintf("%s (%s)", name, filepath.Base(m.Path)), true
	}
	return "", false
}

// file returns the table of a file, an empty one if that has none.
func (s *symbols) file(path string) *symbolTable {
	if t, ok := s.files[path]; ok {
		return t
	}
	t := &symbolTable{}
	if s.files == nil {
		s.files = make(map[string]*symbolTable)
	}
	s.files[path] = t
	f, err := elf.Open(path)
	if err != nil {
		return t
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			t.loads = append(t.loads, p.ProgHeader)
		}
	}
	all, _ := f.Symbols()
	dynamic, _ := f.DynamicSymbols()
	for _, sym := range append(all, dynamic...) {
		if elf.ST_TYPE(sym.Info) == elf.STT_FUNC && sym.Section != elf.SHN_UNDEF && sym.Size > 0 {
			t.functions = append(t.functions, sym)
		}
	}
	slices.SortStableFunc(t.functions, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	return t
}

// at returns the function at a place in the file, "" if there is none.
func (t *symbolTable) at(offset uint64) string {
	for _, p := range t.loads {
		if offset < p.Off || offset-p.Off >= p.Filesz {
			continue
		}
		addr := offset - p.Off + p.Vaddr
		i := sort.Search(len(t.functions), func(i int) bool { return t.functions[i].Value > addr })
		for i--; i >= 0; i-- {
			if f := t.functions[i]; addr-f.Value < f.Size {
				return f.Name
			} else if f.Value+1<<20 < addr {
				break
			}
		}
	}
	return ""
}
