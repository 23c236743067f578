package adapter

import (
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/process"
)

// images tells Delve of the modules in the target: their code has lines,
// variables and frames then, and breakpoints on lines and functions that a patch
// brings anew lie in it too. Its methods are called during halts.
//
// A module whose file is gone can be run, but not be looked into.
type images struct{}

var _ patcher.Debugger = images{}

// Loaded implements patcher.Debugger. Delve finds a module that it knows.
func (images) Loaded(h *process.Halt, i patcher.Image) {
	path := builder.KeptModule(i.Path, i.Module)
	if path == "" {
		return
	}
	bi := h.Target().BinInfo()
	// Delve keeps pointers to functions, and sorts the list in place: let it
	// make a new one.
	bi.Functions = slices.Clip(bi.Functions)
	err := bi.AddImage(path, i.Base)
	noDownloads(bi)
	if err == nil {
		h.ClearCaches()
	}
}

// Unloading implements patcher.Debugger: it takes the breakpoints on lines and
// functions out of a module; they stay where else they are. One on an
// instruction is nowhere else.
func (images) Unloading(h *process.Halt, i patcher.Image) {
	target := h.Target()
	for _, bp := range h.Breakpoints(i.Base, i.Base+i.Size) {
		if bp.Logical == nil || strings.HasPrefix(bp.Logical.Name, instructionBreakpoint) {
			continue
		}
		bp.Logical.Set.PidAddrs = slices.DeleteFunc(bp.Logical.Set.PidAddrs, func(a proc.PidAddr) bool { return a.Addr == bp.Addr })
		_ = target.ClearBreakpoint(bp.Addr) // the unload is refused if it is still there
	}
}

// Unloaded implements patcher.Debugger.
func (images) Unloaded(h *process.Halt, i patcher.Image) {
	forgetImage(h.Target().BinInfo(), i.Base, i.Size)
	h.ClearCaches()
}
