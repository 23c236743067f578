package patcher

import (
	"context"
	"debug/elf"
	"fmt"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// goTarget is a target written in Go.
type goTarget struct {
	*goruntime.Runtime
	p      *process.Process
	exe    *exe.Executable
	target *link.ProcessTarget
}

// openGo reads the layout of a target's Go runtime under a halt.
func openGo(e *Engine) (language, error) {
	g := &goTarget{p: e.p, exe: e.exe}
	err := e.p.HaltFor(context.Background(), "the layout of the runtime is read", func(h *process.Halt) (err error) {
		g.Runtime, err = goruntime.Open(h)
		return err
	})
	if err != nil {
		return nil, err
	}
	if g.target, err = link.NewTarget(e.exe, e.p, e.p.LoadBias()); err != nil {
		return nil, err
	}
	g.target.FindItab, g.target.FindModule, g.Symbols = g.Itab, e.findModule, e.exe
	return g, nil
}

// Prepare has nothing to do: the runtime's tables are read as they are needed.
func (g *goTarget) Prepare() {}

func (g *goTarget) checkIdentity(m *module.Module, path string) error {
	if m.Manifest.Language != "go" {
		return finding.Refuse(finding.UnsupportedBuild,
			fmt.Sprintf("%s is a module for %s programs, process %d is a Go program", path, m.Manifest.Language, g.p.Pid()),
			"build the patch from the Go program's source with `darn build`")
	}
	if t := m.Manifest.Target; t.GoBuildID != g.exe.GoBuildID || t.GNUBuildID != g.exe.GNUBuildID {
		return finding.Refuse(finding.BuildIDMismatch,
			fmt.Sprintf("%s was built for another build of %s: its target has the Go build id %s, process %d has %s",
				path, t.Path, t.GoBuildID, g.p.Pid(), g.exe.GoBuildID),
			fmt.Sprintf("build the patch for this process: darn build --pid %d", g.p.Pid()))
	}
	return nil
}

func (g *goTarget) near(*module.Module) (link.Range, error) { return g.target.Text(), nil }

func (g *goTarget) planArena(*module.Module) (*arena.Arena, error) {
	r := g.target.Text()
	return arena.Plan(g.p, arena.Range{Start: r.Start, End: r.End})
}

func (g *goTarget) bind(m *module.Module, base uint64) (*link.Image, error) {
	return link.Bind(m, g.target, base)
}

// plan refuses with breakpoint-at-entry if a line of source begins
// inside the jump: when a debugger, now or later, sets a breakpoint there, or a
// temporary one to step through the old code, its byte becomes a part of the
// jump's distance, and the next call goes astray.
func (g *goTarget) plan(code []byte, f *link.Function) (*redirect.Plan, error) {
	plan, err := redirect.Analyze(code, f.Entry)
	if err != nil {
		return nil, err
	}
	at := plan.Entry + uint64(plan.Offset) - g.p.LoadBias()
	_, file, first, err := g.exe.FuncLine(at)
	if err != nil {
		return plan, nil // no Go code: no lines either
	}
	from := uint64(1)
	if _, padded := padByte(newRedirect(plan)); padded {
		from = 2
	}
	for i := from; i < redirect.JumpSize; i++ {
		if _, _, line, err := g.exe.FuncLine(at + i); err == nil && line != first {
			return plan, finding.Refuse(finding.BreakpointAtEntry,
				fmt.Sprintf("line %d of %s begins %d bytes behind the entry, inside the %d bytes that the redirect needs: "+
					"a debugger's breakpoint or step there would break the jump", line, file, i, redirect.JumpSize),
				"change the function's callers instead, or let it do more before that line")
		}
	}
	return plan, nil
}

// checkOneStore: without a halt nobody can ask the debugger where it takes the
// prologue to end (checkPrologue). It ends behind the check of the stack, if there
// is one, or where the debug information says. Nor may a line begin where plan
// lets one begin beside a pad.
func (g *goTarget) checkOneStore(single *redirect.Plan, f *link.Function) string {
	if single.Span >= redirect.JumpSize || single.StackCheck {
		return ""
	}
	entry := single.Entry - g.p.LoadBias()
	if _, why := g.exe.StopWithin(entry, entry+f.Size, entry+1, entry+redirect.JumpSize); why != "" {
		return why + " inside the jump, and a debugger may stop there"
	}
	return ""
}

// forksNot: a forked child would have one thread, and a runtime that needs more.
func (g *goTarget) forksNot() bool { return true }

// checkConcurrent: the runtime adds to its table of itabs under a lock that only
// the program's own threads can take.
func (g *goTarget) checkConcurrent(image *link.Image) string {
	if len(image.Itabs) > 0 {
		return fmt.Sprintf("the module brings %d itabs, and the runtime's table of them must not change meanwhile", len(image.Itabs))
	}
	return ""
}

// checkPrologue: a function breakpoint goes where the prologue ends.
func (g *goTarget) checkPrologue(h *process.Halt, c entryChange) error {
	fn := h.Target().BinInfo().PCToFunc(c.redirect.Entry)
	if fn == nil {
		return nil
	}
	at := c.redirect.at()
	pc, err := proc.FirstPCAfterPrologue(h.Target(), fn, false)
	if err == nil && pc > at && pc < at+redirect.JumpSize && c.want[pc-at] != int3 {
		return finding.Refuse(finding.BreakpointAtEntry,
			fmt.Sprintf("a debugger's breakpoint on the function %s lies at %#x, in the bytes that the redirect needs", fn.Name, pc),
			"change the function's callers instead")
	}
	return nil
}

func (g *goTarget) isEntry(addr uint64) bool {
	s, ok := g.exe.SymbolAt(addr - g.p.LoadBias())
	return ok && s.Type == elf.STT_FUNC && s.Addr == addr-g.p.LoadBias()
}

func (g *goTarget) line(addr uint64) (file string, line int, ok bool) {
	_, file, line, err := g.exe.FuncLine(addr - g.p.LoadBias())
	return file, line, err == nil
}

func (g *goTarget) describe() TargetInfo {
	t := TargetInfo{PID: g.p.Pid(), Language: "go", BuildID: g.exe.GoBuildID}
	if g.exe.BuildInfo != nil {
		t.Version, t.Package = g.exe.BuildInfo.GoVersion, g.exe.BuildInfo.Path
	}
	return t
}

func (g *goTarget) anyAddress() uint64 { return g.target.Text().Start }
