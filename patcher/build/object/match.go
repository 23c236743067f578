package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

// Match says where the symbols of a base object are in the executable it was
// found equal to.
type Match struct {
	// Functions is how many functions were compared, Data how many variables
	// and constants, Checks how many addresses that relocations imply were
	// cross-checked.
	Functions, Data, Checks int
	// Missing are functions of base that the executable does not have.
	Missing []int

	base *Object
	addr []uint64 // by symbol; 0: unknown
}

// Addr returns the link-time address in the executable of a symbol of base,
// containers included.
func (m *Match) Addr(sym int) (uint64, bool) {
	return m.addr[sym], m.addr[sym] != 0
}

// AddrAt returns the link-time address in the executable of a place in base.
func (m *Match) AddrAt(p Place) (uint64, bool) {
	sym, ok := m.base.SymbolAt(p)
	if !ok || m.addr[sym] == 0 {
		return 0, false
	}
	return m.addr[sym] + p.Offset - m.base.Symbols[sym].Offset, true
}

// MatchTarget compares every function of base with the executable's text, byte
// by byte with the fields of relocations masked, and cross-checks the addresses
// that the relocations imply ("run-pre matching", after Ksplice). Constants and
// initial values are compared as well. It is refused with text-mismatch, naming
// what differs.
//
// The object was made for an external linker and the executable perhaps without
// one: functions of the runtime and of no package, which serve as glue, may be
// missing on either side.
func MatchTarget(base *Object, x *exe.Executable) (*Match, error) {
	m := &matcher{Match: Match{base: base, addr: make([]uint64, len(base.Symbols))}, exe: x,
		targets: map[string][]exe.Symbol{}, differ: map[string]string{}, disagrees: map[string]string{}}
	for _, s := range x.Symbols {
		if s.Type != elf.STT_TLS {
			m.targets[s.Name] = append(m.targets[s.Name], s)
		}
	}
	m.pairFunctions()
	if err := m.readTarget(); err != nil {
		return nil, err
	}
	m.compareFunctions()
	m.compareData()
	m.Checks = int(m.checks.Load())
	if len(m.differ) == 0 {
		m.differ = m.disagrees // else they follow from the differences
	}
	if len(m.differ) > 0 {
		return nil, m.refusal()
	}
	return &m.Match, nil
}

// matcher is a run of MatchTarget.
type matcher struct {
	Match
	exe     *exe.Executable
	targets map[string][]exe.Symbol
	loaded  [][]byte // by section of the executable: its bytes, if any

	checks    atomic.Int64
	mu        sync.Mutex
	differ    map[string]string // symbol -> how
	disagrees map[string]string // the same, where only an address is not as others imply
}

// at is the address that is known of a symbol; others may be finding it out.
func (m *matcher) at(sym int) uint64 { return atomic.LoadUint64(&m.addr[sym]) }

// differs notes that a symbol is not the same in the executable.
func (m *matcher) differs(name, how string) { m.note(m.differ, name, how) }

func (m *matcher) note(list map[string]string, name, how string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := list[name]; !ok {
		list[name] = how
	}
}

// pairFunctions finds each function of base in the executable by its name; of
// functions that share a name, the one that lies as far from the function
// before as in base.
func (m *matcher) pairFunctions() {
	base := m.base
	seen, packages := map[string]int{}, map[string]bool{}
	var delta uint64 // address of the last pair minus its offset
	for _, fn := range base.Functions {
		s := &base.Symbols[fn]
		cand := m.targets[s.Name]
		nth := seen[s.Name]
		if seen[s.Name]++; nth == 0 {
			packages[PackageOf(s.Name)] = true
		}
		switch same := base.byName[s.Name]; {
		case len(cand) == 0:
			if !glue(s.Name) {
				m.differs(s.Name, "is not in the executable")
			}
			m.Missing = append(m.Missing, fn)
			continue
		case len(cand) == 1 && len(same) == 1:
			m.addr[fn] = cand[0].Addr
		case len(cand) == len(same):
			m.addr[fn] = cand[nth].Addr
		default:
			i := slices.IndexFunc(cand, func(c exe.Symbol) bool { return c.Addr == s.Offset+delta })
			if i < 0 {
				m.Missing = append(m.Missing, fn)
				continue
			}
			m.addr[fn] = cand[i].Addr
		}
		delta = m.at(fn) - s.Offset
	}
	for name, cand := range m.targets {
		if seen[name] == 0 && cand[0].Type == elf.STT_FUNC && cand[0].Size > 0 && packages[PackageOf(name)] && !glue(name) {
			m.differs(name, "is only in the executable")
		}
	}
}

// glue tells whether a function may be there or not depending on how the
// program was linked.
func glue(name string) bool {
	pkg := PackageOf(name)
	return pkg == "" || pkg == "runtime" || strings.HasPrefix(pkg, "runtime/") || strings.HasPrefix(pkg, "internal/runtime/")
}

// readTarget reads the executable's loaded sections.
func (m *matcher) readTarget() error {
	m.loaded = make([][]byte, len(m.exe.Sections))
	for i, s := range m.exe.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type != elf.SHT_PROGBITS {
			continue
		}
		m.loaded[i] = make([]byte, s.Size)
		if err := m.exe.ReadAt(m.loaded[i], s.Addr); err != nil {
			return err
		}
	}
	return nil
}

// target returns n bytes of the executable at addr; nil if it has none there.
func (m *matcher) target(addr, n uint64) []byte {
	for i, s := range m.exe.Sections {
		if m.loaded[i] != nil && addr >= s.Addr && addr-s.Addr < s.Size {
			if n > s.Size-(addr-s.Addr) {
				return nil
			}
			return m.loaded[i][addr-s.Addr:][:n]
		}
	}
	return nil
}

// compareFunctions compares all functions that were paired.
func (m *matcher) compareFunctions() {
	parallel(len(m.base.Functions), func(i int) {
		if fn := m.base.Functions[i]; m.at(fn) != 0 {
			m.compareFunction(fn)
		}
	})
	for _, fn := range m.base.Functions {
		if m.at(fn) != 0 {
			m.Functions++
		}
	}
}

// compareFunction compares one function. Only if bytes differ that are no
// reference to a known function it is decoded, to see where it refers to.
func (m *matcher) compareFunction(fn int) {
	s := &m.base.Symbols[fn]
	want, got := m.base.Content(fn), m.target(m.at(fn), s.Size)
	if got == nil {
		m.differs(s.Name, "lies outside the executable's text")
		return
	}
	if m.compareBytes(fn, want, got, m.base.Relocs(fn)) {
		return
	}
	if refs, _ := m.base.Refs(fn); !m.compareBytes(fn, want, got, refs) {
		m.differs(s.Name, "its code differs")
	}
}

// sameRun compares a run of a symbol's bytes, from offset at to end. Where they
// differ in a function, the linker may have resolved a reference to another
// function: then the fields must lead to the same one.
func (m *matcher) sameRun(sym int, want, got []byte, at, end int) bool {
	if bytes.Equal(want[at:end], got[at:end]) {
		return true
	}
	if !m.base.IsFunction(sym) {
		return false
	}
	for i := at; i < end; i++ {
		if want[i] == got[i] {
			continue
		}
		field := i // the first bytes of the field may be equal
		for !m.sameTarget(sym, want, got, field, end) {
			if field--; field < at || field < i-3 {
				return false
			}
		}
		at = field + 4
		i = at - 1
	}
	return true
}

// sameTarget tells whether the 4 bytes at field lead to the same place in a
// function in both.
func (m *matcher) sameTarget(sym int, want, got []byte, field, end int) bool {
	if field+4 > end {
		return false
	}
	le := binary.LittleEndian
	to := m.base.Symbols[sym].Offset + uint64(field+4) + uint64(int64(int32(le.Uint32(want[field:]))))
	fn, ok := m.base.functionAt(to)
	if !ok || m.at(fn) == 0 {
		return false
	}
	return m.at(fn)+to-m.base.Symbols[fn].Offset == m.at(sym)+uint64(field+4)+uint64(int64(int32(le.Uint32(got[field:]))))
}

// compareBytes compares the symbol's bytes but for the fields of relocs, and
// notes the addresses these imply.
func (m *matcher) compareBytes(sym int, want, got []byte, relocs []Reloc) bool {
	s := &m.base.Symbols[sym]
	at := 0
	for i := range relocs {
		r := &relocs[i]
		field := int(r.Offset - s.Offset)
		if field+r.Size > len(got) {
			return false
		}
		masked := field // where bytes that may differ begin
		if r.Type == elf.R_X86_64_GOTTPOFF || r.Type == elf.R_X86_64_GOTPCREL || r.Type == elf.R_X86_64_GOTPCRELX || r.Type == elf.R_X86_64_REX_GOTPCRELX {
			masked = m.relaxed(want, got, field)
		}
		if masked < at || !m.sameRun(sym, want, got, at, masked) {
			return false
		}
		at = field + r.Size
	}
	if !m.sameRun(sym, want, got, at, len(want)) {
		return false
	}
	for i := range relocs {
		m.checkReloc(sym, got, &relocs[i])
	}
	return true
}

// relaxed returns where the instruction differs that the linker may rewrite,
// whose field is at want[field:]. A load of a thread-local offset or of an
// address from the global offset table becomes the constant itself (mov imm32,
// lea): psABI x86-64, "Linker optimization".
func (m *matcher) relaxed(want, got []byte, field int) int {
	if field < 3 || bytes.Equal(want[field-3:field], got[field-3:field]) || want[field-2] != 0x8b {
		return field
	}
	reg := want[field-1] >> 3 & 7
	switch {
	case got[field-2] == 0xc7 && got[field-1] == 0xc0|reg && got[field-3]&0xf8 == 0x48: // mov $imm32, reg
		return field - 3
	case got[field-2] == 0x8d && got[field-1] == want[field-1] && got[field-3] == want[field-3]: // lea
		return field - 3
	}
	return field
}

// checkReloc notes the address that a relocation's field implies for its
// symbol, or compares it with what is known.
func (m *matcher) checkReloc(sym int, got []byte, r *Reloc) {
	from := &m.base.Symbols[sym]
	le := binary.LittleEndian
	field := got[r.Offset-from.Offset:]
	var implied uint64
	switch r.Type {
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		at := m.at(sym) + r.Offset - from.Offset
		implied = at + uint64(int64(int32(le.Uint32(field)))) - uint64(r.Addend)
	case elf.R_X86_64_64:
		value := le.Uint64(field)
		if value == 0 && m.exe.PIE {
			return // the loader fills it in
		}
		implied = value - uint64(r.Addend)
	case elf.R_X86_64_TPOFF32:
		if got := int64(int32(le.Uint32(field))) - r.Addend; got != m.exe.TLSOffset && m.base.Symbols[r.Symbol].Name == "runtime.tlsg" {
			m.note(m.disagrees, from.Name, fmt.Sprintf("it reaches the thread-local g at %d, the executable's is at %d", got, m.exe.TLSOffset))
		}
		return
	default:
		return
	}
	m.checks.Add(1)
	if to := &m.base.Symbols[r.Symbol]; to.Section == 0 {
		return // in another object; the linker may have put a stub in between
	}
	if addr := &m.addr[r.Symbol]; !atomic.CompareAndSwapUint64(addr, 0, implied) && atomic.LoadUint64(addr) != implied {
		m.note(m.disagrees, from.Name, fmt.Sprintf("it refers to %s at %#x, others at %#x", m.base.Symbols[r.Symbol].Name, implied, atomic.LoadUint64(addr)))
	}
}

// parallel calls f with 0..n-1 on all processors.
func parallel(n int, f func(int)) {
	const chunk = 64
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n/chunk+1) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				lo := int(next.Add(chunk)) - chunk
				if lo >= n {
					return
				}
				for i := lo; i < min(lo+chunk, n); i++ {
					f(i)
				}
			}
		}()
	}
	wg.Wait()
}

func (m *matcher) refusal() error {
	names := make([]string, 0, len(m.differ))
	for name := range m.differ {
		names = append(names, name)
	}
	slices.Sort(names)
	r := &finding.Refusal{}
	const most = 20
	for i, name := range names {
		if i == most {
			last := &r.Findings[most-1]
			last.Message += fmt.Sprintf(" (and %d more differ)", len(names)-most)
			break
		}
		r.Findings = append(r.Findings, finding.Finding{Code: finding.TextMismatch, Severity: finding.Error, Function: name,
			Message: "the base source is not what the target was built from: " + m.differ[name],
			Advice:  "give the target's source with --base, and build with the same flags and module versions"})
	}
	return r
}
