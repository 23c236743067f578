package patcher

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"sort"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/cruntime"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// cTarget is a target written in C, C++, or whatever else a linker makes ELF
// programs of.
type cTarget struct {
	*cruntime.Runtime
	p   *process.Process
	exe *exe.Executable
	e   *Engine
	// text is where the program's code begins.
	text uint64
}

// openC looks at what a target has loaded. It takes no halt.
func openC(e *Engine) (language, error) {
	r, err := cruntime.Open(e.p)
	if err != nil {
		return nil, err
	}
	set, err := r.Objects()
	if err != nil {
		return nil, err
	}
	return &cTarget{Runtime: r, p: e.p, exe: e.exe, e: e, text: set.Objects[0].Text[0].Start}, nil
}

// Positions and References walk stacks through the modules too.

func (c *cTarget) Positions(h *process.Halt, ranges ...link.Range) ([]goruntime.Holder, error) {
	c.Know(&c.e.reg.Runtime)
	return c.Runtime.Positions(h, ranges...)
}

func (c *cTarget) References(h *process.Halt, l *goruntime.Ledger, m *goruntime.Registration, writes []link.Write, own []goruntime.Range) ([]goruntime.Holder, []link.Write, error) {
	c.Know(&c.e.reg.Runtime)
	return c.Runtime.References(h, l, m, writes, own)
}

func (c *cTarget) checkIdentity(m *module.Module, path string) error {
	if m.Shared == nil {
		return finding.Refuse(finding.UnsupportedBuild,
			fmt.Sprintf("%s is a module for %s programs, process %d is none", path, m.Manifest.Language, c.p.Pid()),
			"make the patch with a C compiler: gcc -shared -fPIC -g fix.c -o fix.so")
	}
	if id := m.Manifest.Target.GNUBuildID; id != "" && id != c.exe.GNUBuildID {
		return finding.Refuse(finding.BuildIDMismatch,
			fmt.Sprintf("%s was built for another build of %s: its target has the GNU build id %s, process %d has %s",
				path, m.Manifest.Target.Path, id, c.p.Pid(), c.exe.GNUBuildID),
			fmt.Sprintf("build the patch for this process: darn build --pid %d", c.p.Pid()))
	}
	return nil
}

func (c *cTarget) near(m *module.Module) (link.Range, error) {
	set, err := c.Objects()
	if err != nil {
		return link.Range{}, err
	}
	if m == nil {
		return set.Objects[0].Text[0], nil
	}
	return clink.Near(m, set)
}

func (c *cTarget) planArena(m *module.Module) (*arena.Arena, error) {
	r, err := c.near(m)
	if err != nil {
		return nil, err
	}
	return arena.PlanAround(c.p, arena.Range{Start: r.Start, End: r.End})
}

func (c *cTarget) bind(m *module.Module, base uint64) (*link.Image, error) {
	set, err := c.Objects()
	if err != nil {
		return nil, err
	}
	return clink.Bind(m, set, c.p, base)
}

func (c *cTarget) plan(code []byte, f *link.Function) (*redirect.Plan, error) {
	plan, err := redirect.AnalyzeC(code, f.Entry)
	if err != nil {
		return nil, err
	}
	for _, r := range f.Pieces {
		if r.End-r.Start > loaded.MaxFunction {
			return nil, finding.Refuse(finding.UnsupportedTarget,
				fmt.Sprintf("the program's symbols say that a piece of %s at %#x has %d bytes", f.Symbol, r.Start, r.End-r.Start),
				"its symbol table is damaged; build the program anew")
		}
		piece := make([]byte, r.End-r.Start)
		if err := c.p.ReadText(piece, r.Start); err != nil {
			return nil, err
		}
		if err := plan.CheckPiece(piece, r.Start); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// checkOneStore: what is stored into must not go away at that instant, as a library
// may that the program unloads.
func (c *cTarget) checkOneStore(single *redirect.Plan, _ *link.Function) string {
	set, err := c.Objects()
	if err != nil {
		return err.Error()
	}
	for _, o := range set.Lasting() {
		for _, r := range o.Text {
			if r.Holds(single.Entry, redirect.JumpSize) {
				return ""
			}
		}
	}
	return "it is in a library that the program has loaded by dlopen, and might unload at that instant"
}

// forksNot: servers in C fork workers.
func (c *cTarget) forksNot() bool { return false }

// checkConcurrent: nobody in a C program is told of a module.
func (c *cTarget) checkConcurrent(*link.Image) string { return "" }

// checkPrologue lets all pass: where C compilers say that a prologue ends is
// inside the jump as often as not. Entries tells a debugger where it must not set
// breakpoints.
func (c *cTarget) checkPrologue(*process.Halt, entryChange) error { return nil }

// isEntry believes it of all code of which not all symbols are known any more.
func (c *cTarget) isEntry(addr uint64) bool {
	set, err := c.Objects()
	if err != nil {
		return false
	}
	o := set.At(addr)
	if o == nil || o.Stripped() {
		return o != nil
	}
	all := o.Symbols()
	i := sort.Search(len(all), func(i int) bool { return all[i].Addr >= addr })
	for ; i < len(all) && all[i].Addr == addr; i++ {
		if all[i].Type != elf.STT_OBJECT && all[i].Type != elf.STT_TLS {
			return true
		}
	}
	return false
}

func (c *cTarget) line(addr uint64) (file string, line int, ok bool) {
	set, err := c.Objects()
	if err != nil {
		return "", 0, false
	}
	o := set.At(addr)
	if o == nil {
		return "", 0, false
	}
	d := o.DWARF()
	if d == nil {
		return "", 0, false
	}
	unit, err := d.Reader().SeekPC(addr - o.Bias)
	if err != nil {
		return "", 0, false
	}
	lines, err := d.LineReader(unit)
	if err != nil || lines == nil {
		return "", 0, false
	}
	var entry dwarf.LineEntry
	if lines.SeekPC(addr-o.Bias, &entry) != nil || entry.File == nil {
		return "", 0, false
	}
	return entry.File.Name, entry.Line, true
}

func (c *cTarget) describe() TargetInfo {
	return TargetInfo{PID: c.p.Pid(), Language: "c", BuildID: c.exe.GNUBuildID}
}

func (c *cTarget) anyAddress() uint64 { return c.text }
