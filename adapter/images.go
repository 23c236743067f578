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
		addBreakpoints(h.Group(), i)
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

// addBreakpoints gives the breakpoints that lie on lines or functions which a
// module has too a place in it. Those that are set stay as they are: a thread
// may be stopped at one.
func addBreakpoints(group *proc.TargetGroup, i patcher.Image) {
	target := group.Selected
	for _, bp := range group.LogicalBreakpoints {
		if bp.LogicalID <= 0 || !bp.Enabled() {
			continue
		}
		for _, addr := range places(target, bp) {
			if addr < i.Base || addr-i.Base >= i.Size {
				continue
			}
			// What can't be set is missed in the new code only.
			_, err := target.SetBreakpoint(bp.LogicalID, addr, proc.UserBreakpoint, nil)
			if err == nil && len(bp.Set.PidAddrs) > 0 {
				// So that it comes back when it is disabled and enabled.
				bp.Set.PidAddrs = append(bp.Set.PidAddrs, proc.PidAddr{Pid: target.Pid(), Addr: addr})
			}
		}
	}
}

// places returns where a breakpoint belongs by the line or function that it was
// set on.
func places(target *proc.Target, bp *proc.LogicalBreakpoint) (addrs []uint64) {
	switch {
	case bp.Set.File != "":
		addrs, _ = proc.FindFileLocation(target, bp.Set.File, bp.Set.Line)
	case bp.Set.FunctionName != "":
		addrs, _ = proc.FindFunctionLocation(target, bp.Set.FunctionName, bp.Set.Line)
	case bp.Set.Expr != nil:
		addrs = bp.Set.Expr(target)
	case strings.HasPrefix(bp.Name, functionBreakpoint) && len(bp.Set.PidAddrs) > 0:
		// The session has looked the function up.
		if fn := target.BinInfo().PCToFunc(bp.Set.PidAddrs[0].Addr); fn != nil {
			addrs, _ = proc.FindFunctionLocation(target, fn.Name, 0)
		}
	}
	return addrs
}
