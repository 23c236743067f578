package patcher

import (
	"errors"
	"fmt"
	"os"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/resident"
)

// Attach traces a process by process.Attach and opens an Engine for it. While the
// process is stopped to be attached to what would halt it again is done too: the
// layout of a Go runtime is read, the resident thread is made if an earlier Darn
// left patches there, and with ForLoading the arena too. The executable is read
// before. Close the Engine, then the Process. It is refused as process.Attach and
// Open are.
func Attach(pid int, options ...func(*Engine)) (*process.Process, *Engine, error) {
	e := newEngine(options...)
	path := fmt.Sprintf("/proc/%d/exe", pid)
	file, _ := os.Stat(path)
	e.exe, _ = openTarget(path) // what is wrong with it Open says, if Attach doesn't
	var failed error
	p, err := process.AttachAnd(pid, func(h *process.Halt) {
		e.p = h.Process()
		if now, err := os.Stat(path); e.exe == nil || err != nil || !os.SameFile(file, now) {
			e.dropExe() // it has executed another program meanwhile
			return
		}
		failed = e.settleIn(h)
	})
	if err == nil && failed == nil {
		e.p = p
		failed = e.finish()
	}
	if err == nil && failed == nil {
		return p, e, nil
	}
	err = errors.Join(err, failed, e.letGo())
	if p != nil {
		if ended := p.Ended(); ended != nil {
			err = ended
		}
		err = errors.Join(err, p.Close())
	}
	return nil, nil, err
}

func (e *Engine) dropExe() {
	if e.exe != nil {
		_ = e.exe.Close() // was read only
		e.exe = nil
	}
}

// ForLoading is an option of Attach for a caller that loads a module: if it is the
// first in the process the arena and the resident thread for it are made while the
// process is stopped to be attached to. If it is not loaded after all Close takes
// them away.
func ForLoading(m *module.Module) func(*Engine) { return func(e *Engine) { e.coming = m } }

// settleIn does in the halt of an attach what would take another one. What fails
// and can be done later is.
func (e *Engine) settleIn(h *process.Halt) error {
	loads := false
	if e.alone == "" {
		a, err := arena.Open(e.p)
		loads = errors.Is(err, arena.ErrNone) && e.coming != nil
		if err == nil {
			if r, err := resident.Start(h, a); err == nil {
				e.arena, e.resident = a, r
			} else {
				_ = a.Close() // Open tries again and says why
			}
		}
	}
	// A C program's files take longer to read than another halt.
	if !loads && !isGo(e.exe) {
		return nil
	}
	if err := e.openLanguage(); err != nil {
		return err
	}
	if loads && e.checkIdentity(e.coming, e.coming.Manifest.Name) == nil {
		if a, err := e.lang.planArena(e.coming); err == nil {
			e.furnish(h, a)
		}
	}
	return nil
}
