package object

import (
	"debug/elf"
	"fmt"
	"sort"
	"strings"
)

// compareData gives the symbols of data that no code refers to their address
// by name, checks those that have both, and compares what the data holds.
func (m *matcher) compareData() {
	for i := range m.base.Symbols {
		s := &m.base.Symbols[i]
		if s.Section == 0 || s.Name == "" || s.Type == elf.STT_SECTION || s.Type == elf.STT_TLS || m.base.IsFunction(i) {
			continue
		}
		targets := m.targets[s.Name]
		if len(targets) != 1 || len(m.base.byName[s.Name]) != 1 {
			continue
		}
		if m.at(i) == 0 {
			m.addr[i] = targets[0].Addr
		} else if m.at(i) != targets[0].Addr {
			m.note(m.disagrees, s.Name, fmt.Sprintf("base refers to it at %#x, the executable has it at %#x", m.at(i), targets[0].Addr))
		}
	}
	// Each round may reveal where more symbols are, which only data refers to.
	done := make([]bool, len(m.base.Symbols))
	for {
		var data []int
		for i := range m.base.Symbols {
			s := &m.base.Symbols[i]
			if m.at(i) != 0 && !done[i] && s.Size > 0 && s.Section != m.base.Text && m.base.Sections[s.Section].Data != nil && !s.layoutDependent() {
				data, done[i] = append(data, i), true
			}
		}
		if len(data) == 0 {
			return
		}
		m.Data += len(data)
		parallel(len(data), func(k int) { m.compareOne(data[k]) })
	}
}

func (m *matcher) compareOne(sym int) {
	s := &m.base.Symbols[sym]
	got := m.target(m.at(sym), s.Size)
	if got == nil || !m.compareBytes(sym, m.base.Content(sym), got, m.base.Relocs(sym)) {
		m.differs(s.Name, m.dataDiffers(sym, got))
	}
}

// dataDiffers says how data differs.
func (m *matcher) dataDiffers(sym int, got []byte) string {
	s := &m.base.Symbols[sym]
	if s.Name != "go:string.*" {
		return "its initial value differs"
	}
	for i, c := range m.base.Content(sym) {
		if i < len(got) && got[i] == c {
			continue
		}
		starts, off := m.base.stringTable().starts, s.Offset+uint64(i)
		if k := sort.Search(len(starts), func(k int) bool { return starts[k] > off }); k > 0 && k < len(starts) {
			const enough = 60 // bytes to know it by
			return fmt.Sprintf("string constants differ, from %.*q on", enough, m.base.Content(sym)[starts[k-1]-s.Offset:starts[k]-s.Offset])
		}
		break
	}
	return "a string constant differs"
}

// layoutDependent tells whether a symbol's bytes tell where the linker put
// things, or how the executable was made, rather than what the source says.
func (s *Symbol) layoutDependent() bool {
	switch s.Name {
	case "runtime.firstmoduledata", "runtime.findfunctab", "runtime.pclntab", "runtime.modinfo", "runtime.modinfo.str",
		"runtime.textsectionmap", "runtime.types", "runtime.itablink", "runtime.typelink",
		"type:*", "go:func.*", "runtime.gcbits.*", "runtime.gcdata", "runtime.gcbss":
		return true
	}
	return strings.HasPrefix(s.Name, "typerel.") || strings.HasPrefix(s.Name, "go:fips") || strings.HasPrefix(s.Name, "go:build") ||
		strings.HasPrefix(s.Name, "runtime.buildVersion")
}
