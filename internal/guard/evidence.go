package guard

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/process"
)

// Activation is what is remembered of an activation in case that the process
// ends.
type Activation struct {
	Case
	functions []patcher.Function // of all active patches
}

// NewActivation notes that a patch is activated in the target of an operation.
// active are the patches that are active then.
func (a *Act) NewActivation(p *patcher.Patch, receipt *patcher.Receipt, active []patcher.Patch) *Activation {
	v := &Activation{Case: Case{
		Module: p.Module, BuildID: a.build, Name: p.Name, Path: p.Path, PID: a.record.PID, Exe: a.record.Exe, Patch: p.ID, Receipt: receipt,
	}}
	if !slices.ContainsFunc(active, func(q patcher.Patch) bool { return q.ID == p.ID }) {
		active = append(slices.Clone(active), *p)
	}
	for _, q := range active {
		v.Active = append(v.Active, fmt.Sprintf("%s (%s)", q.ID, q.Name))
		for _, f := range q.Functions {
			f.Name = fmt.Sprintf("%s (patch %s)", f.Name, q.ID)
			v.functions = append(v.functions, f)
		}
	}
	return v
}

// Ended says how the process ended that the patch was activated in.
func (v *Activation) Ended(e *process.End) *Case {
	c := v.Case
	c.PID, c.Ended, c.How = e.PID, e.Time, e.String()
	s := e.Last
	if s == nil {
		c.Note = "the process had ended before anybody could look at its threads"
		return &c
	}
	c.Registers = make(map[string]string)
	for _, r := range s.Registers {
		c.Registers[r.Name] = fmt.Sprintf("%#x", r.Value)
	}
	symbols := openSymbols(e.Exe, s.Maps, v.functions)
	defer symbols.close()
	for _, addr := range append([]uint64{s.PC}, s.Returns...) {
		c.Stack = append(c.Stack, symbols.name(addr))
	}
	about := "exit"
	if s.Signal != 0 {
		about = "get " + unix.SignalName(s.Signal)
	}
	c.Note = fmt.Sprintf("thread %d, as it was about to %s; below its first line the stack shows what may be return addresses, and some that are left over", s.Thread, about)
	if s.Signal == unix.SIGSEGV || s.Signal == unix.SIGBUS {
		c.Note += fmt.Sprintf("; it could not access address %#x", s.Address)
	}
	return &c
}

// arenaName begins the name of the arena's mappings.
const arenaName = "/memfd:darn"

// symbols names addresses of a process that may be gone.
type symbols struct {
	program *exe.Executable // nil if it can't be read
	path    string          // of the program, as it was mapped
	bias    uint64
	maps    []process.Mapping
	patched []patcher.Function // by new address
}

func openSymbols(path string, maps []process.Mapping, patched []patcher.Function) *symbols {
	s := &symbols{maps: maps, patched: slices.Clone(patched)}
	slices.SortFunc(s.patched, func(a, b patcher.Function) int {
		return int(int64(a.NewAddress) - int64(b.NewAddress))
	})
	x, err := exe.OpenAny(path)
	if err != nil {
		return s
	}
	_ = x.Complete() // or it names no function
	s.program = x
	// The program is what was mapped first, as the kernel orders them by
	// address, of the file that has its text. Of the arena a part may be before it.
	for _, m := range maps {
		if m.Inode != 0 && strings.HasPrefix(m.Path, "/") && !strings.HasPrefix(m.Path, arenaName) {
			s.path = m.Path
			if x.PIE {
				s.bias = m.Start
			}
			break
		}
	}
	return s
}

func (s *symbols) close() {
	if s.program != nil {
		_ = s.program.Close() // was read only
	}
}

// name names an address: by its function if that is known, and by what is mapped
// there.
func (s *symbols) name(addr uint64) string {
	text := fmt.Sprintf("%#x", addr)
	i := slices.IndexFunc(s.maps, func(m process.Mapping) bool { return m.Start <= addr && addr < m.End })
	if i < 0 {
		return text + " (nothing is mapped there)"
	}
	m := s.maps[i]
	if s.program != nil && m.Path == s.path {
		if x, ok := s.program.SymbolAt(addr - s.bias); ok {
			return fmt.Sprintf("%s %s+%#x", text, x.Name, addr-s.bias-x.Addr)
		}
	}
	for j := len(s.patched) - 1; j >= 0; j-- {
		f := s.patched[j]
		if f.NewAddress != 0 && f.NewAddress <= addr && f.NewAddress >= m.Start {
			return fmt.Sprintf("%s %s+%#x", text, f.Name, addr-f.NewAddress)
		}
	}
	if strings.HasPrefix(m.Path, arenaName) {
		return text + " in the arena: a stub, or a bridge"
	}
	if m.Path != "" {
		return fmt.Sprintf("%s in %s, at %#x of the file", text, filepath.Base(m.Path), addr-m.Start+m.Offset)
	}
	return text
}
