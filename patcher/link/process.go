package link

import (
	"fmt"
	"strings"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
)

// Reader reads a process's memory.
type Reader interface {
	ReadMemory(buf []byte, addr uint64) error
}

// ProcessTarget is a Target for a process. What it knows of the executable is
// indexed when that is opened, so that its answers take no time.
type ProcessTarget struct {
	exe  *exe.Executable
	mem  Reader
	bias uint64

	// FindItab looks a pair up in the runtime's table of itabs; set it before
	// Bind (goruntime.Runtime.Itab does it). Without it no itab is dynamic.
	FindItab func(inter, typ uint64) (addr uint64, ok bool, err error)
	// FindModule tells where the loaded module with an ID is; set it before
	// Bind. Without it no module is loaded.
	FindModule func(id string) (r Range, ok bool)
}

// NewTarget makes a Target of the process that runs x, whose memory is mem and
// whose image lies bias bytes above its link-time addresses. It may be called
// while the target runs. What is not a Go program is refused with
// unsupported-target.
func NewTarget(x *exe.Executable, mem Reader, bias uint64) (*ProcessTarget, error) {
	if x.TextStart == 0 || x.TextEnd < x.TextStart || x.TypesStart == 0 || x.TypesEnd < x.TypesStart {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			"the executable's symbol table does not say where Go's text and types are",
			"only Go programs with a symbol table can be patched")
	}
	return &ProcessTarget{exe: x, mem: mem, bias: bias}, nil
}

// Symbol implements Target.
func (t *ProcessTarget) Symbol(name string) (uint64, error) {
	s, ok, ambiguous := t.exe.Symbol(name)
	switch {
	case ambiguous:
		return 0, refuse(finding.SymbolAmbiguous, name,
			fmt.Sprintf("the program has several symbols named %q", name),
			"build the module anew: darn build binds what is ambiguous to the module's own copy")
	case !ok:
		return 0, refuse(finding.SymbolUnresolved, name,
			fmt.Sprintf("the program has no symbol %q", name),
			"build the module against the program that runs")
	}
	return s.Addr + t.bias, nil
}

// ReadMemory implements Target.
func (t *ProcessTarget) ReadMemory(buf []byte, addr uint64) error {
	return t.mem.ReadMemory(buf, addr)
}

// Text implements Target.
func (t *ProcessTarget) Text() Range {
	return Range{t.exe.TextStart + t.bias, t.exe.TextEnd + t.bias}
}

// Types implements Target.
func (t *ProcessTarget) Types() Range {
	return Range{t.exe.TypesStart + t.bias, t.exe.TypesEnd + t.bias}
}

// IsItab implements Target.
func (t *ProcessTarget) IsItab(addr, n uint64) bool {
	s, ok := t.exe.SymbolAt(addr - t.bias)
	return ok && (strings.HasPrefix(s.Name, "go:itab.") || strings.HasPrefix(s.Name, "go.itab.")) &&
		Range{s.Addr, s.Addr + s.Size}.Holds(addr-t.bias, n)
}

// TLSOffset implements Target.
func (t *ProcessTarget) TLSOffset() int64 { return t.exe.TLSOffset }

// Itab implements Target.
func (t *ProcessTarget) Itab(inter, typ uint64) (uint64, bool, error) {
	if t.FindItab == nil {
		return 0, false, nil
	}
	return t.FindItab(inter, typ)
}

// Module implements Target.
func (t *ProcessTarget) Module(id string) (Range, bool) {
	if t.FindModule == nil {
		return Range{}, false
	}
	return t.FindModule(id)
}

// refuse returns a Refusal about one symbol.
func refuse(code finding.Code, symbol, message, advice string) error {
	r := finding.Refuse(code, message, advice)
	r.Findings[0].Function = symbol
	return r
}
