package patcher

import (
	"errors"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/resident"
)

// Attach traces a process by process.Attach and opens an Engine for it. If an
// earlier Darn left patches there, the resident thread is made while the process
// is stopped anyway to be attached to. Close the Engine, then the Process. It is
// refused as process.Attach and Open are.
func Attach(pid int, options ...func(*Engine)) (*process.Process, *Engine, error) {
	var wishes Engine
	for _, option := range options {
		option(&wishes)
	}
	var a *arena.Arena
	var r *resident.Resident
	p, err := process.AttachAnd(pid, func(h *process.Halt) {
		if wishes.alone != "" {
			return
		}
		var err error
		if a, err = arena.Open(h.Process()); err != nil {
			a = nil
			return // Open says why
		}
		if r, err = resident.Start(h, a); err != nil {
			_ = a.Close()
			a, r = nil, nil
		}
	})
	if err != nil {
		if r != nil {
			err = errors.Join(err, r.End())
		}
		return nil, nil, err
	}
	e, err := Open(p, append(options, func(e *Engine) { e.arena, e.resident = a, r })...)
	if err != nil {
		return nil, nil, errors.Join(err, p.Close())
	}
	return p, e, nil
}
