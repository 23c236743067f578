package patcher

import (
	"context"

	"github.com/darn-dev/darn/patcher/process"
)

// Image is a loaded module as a debugger wants to know it.
type Image struct {
	Path   string // of the file that it was loaded from, which may be another by now
	Module string // sha256 of that file as it was then, hex
	Base   uint64 // what its addresses count from
	Size   uint64 // bytes
}

// Debugger is told of modules that come and go. It must not use the Engine.
type Debugger interface {
	// Loaded is called when a module is in the target, under a halt or with nil
	// without one: then the debugger, which can't take it in while the target runs,
	// does when that stands still next. It may be called for one that was told of
	// already.
	Loaded(h *process.Halt, i Image)
	// Unloading is called when a module is to be unloaded: no breakpoint of the
	// debugger's may stay in it. Loaded follows if it stays, otherwise Unloaded.
	Unloading(h *process.Halt, i Image)
	// Unloaded is called when a module has left the target.
	Unloaded(h *process.Halt, i Image)
}

// Watch has a debugger told of the modules that are loaded, and of those that
// come and go from now on. If there are any, a running target is halted.
// Refused with busy or target-exited.
func (e *Engine) Watch(ctx context.Context, d Debugger) error {
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	e.debugger = d
	if len(e.reg.Patches) == 0 {
		return nil
	}
	return e.p.HaltFor(ctx, "the debugger takes in the modules that are loaded", func(h *process.Halt) error {
		for _, p := range e.reg.Patches {
			d.Loaded(h, p.image())
		}
		e.station(h)
		return nil
	})
}

func (p *patchRecord) image() Image {
	return Image{Path: p.Path, Module: p.Module, Base: p.Base, Size: p.Size}
}
