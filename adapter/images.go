package adapter

import (
	"slices"
	"strings"
	"sync"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/process"
)

// images tells Delve of the modules in the target: their code has lines,
// variables and frames then, and breakpoints on lines and functions that a patch
// brings anew lie in it too.
//
// Delve can't be told while the target runs: its goroutine that waits for the next
// stop uses the same tables. It needs them for a step, and to see whether a
// breakpoint with a condition holds, of code that it set that in. Neither is in a
// module before Delve knows it. So one that is loaded while the target runs is taken
// in when that stands still next, for whatever reason: before the client hears of a
// stop, and before Darn does anything about breakpoints.
//
// A module whose file is gone can be run, but not be looked into.
type images struct {
	s     *patches
	mu    sync.Mutex
	later []patcher.Image // to be taken in
}

var _ patcher.Debugger = (*images)(nil)

// Loaded implements patcher.Debugger. Delve finds a module that it knows.
func (m *images) Loaded(h *process.Halt, i patcher.Image) {
	if h == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.later = append(m.later, i)
		return
	}
	m.forget(i)
	addImage(h.Target(), i)
}

// forget drops an image that was to be taken in.
func (m *images) forget(i patcher.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.later = slices.DeleteFunc(m.later, func(l patcher.Image) bool { return l == i })
}

// reset forgets all that was to be taken in.
func (m *images) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.later = nil
}

// waiting tells whether there is anything to be taken in.
func (m *images) waiting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.later) > 0
}

// takeIn tells Delve what it was not told while the target ran. The target is
// stopped and locked.
func (m *images) takeIn(target *proc.Target) {
	m.mu.Lock()
	later := m.later
	m.later = nil
	m.mu.Unlock()
	for _, i := range later {
		addImage(target, i)
	}
}

// addImage tells Delve of a module.
func addImage(target *proc.Target, i patcher.Image) {
	path := builder.KeptModule(i.Path, i.Module)
	if path == "" {
		return
	}
	bi := target.BinInfo()
	// Delve keeps pointers to functions, and sorts the list in place: let it
	// make a new one.
	bi.Functions = slices.Clip(bi.Functions)
	err := bi.AddImage(path, i.Base)
	noDownloads(bi)
	if err == nil {
		target.ClearCaches()
	}
}

// Unloading implements patcher.Debugger: it takes the breakpoints on lines and
// functions out of a module; they stay where else they are. One on an
// instruction is nowhere else.
func (m *images) Unloading(h *process.Halt, i patcher.Image) {
	m.forget(i)
	target := h.Target()
	for _, bp := range h.Breakpoints(i.Base, i.Base+i.Size) {
		if bp.Logical == nil || strings.HasPrefix(bp.Logical.Name, instructionBreakpoint) {
			continue
		}
		bp.Logical.Set.PidAddrs = slices.DeleteFunc(bp.Logical.Set.PidAddrs, func(a proc.PidAddr) bool { return a.Addr == bp.Addr })
		_ = target.ClearBreakpoint(bp.Addr) // the unload is refused if it is still there
		m.s.p.mu.Lock()
		m.s.p.sight.stale = true // it belongs there still if the module stays
		m.s.p.mu.Unlock()
	}
}

// Unloaded implements patcher.Debugger.
func (m *images) Unloaded(h *process.Halt, i patcher.Image) {
	forgetImage(h.Target().BinInfo(), i.Base, i.Size)
	h.ClearCaches()
	m.s.evict(h, i)
}
