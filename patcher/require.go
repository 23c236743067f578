package patcher

import (
	"errors"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
)

// A module may share the variables and types that modules before it added to
// the program: it requires those. They must be loaded, lie below it, and stay
// for as long as it does; whether they are active doesn't matter.

// findModule returns where a loaded module is, by the hash of its file.
func (e *Engine) findModule(id string) (link.Range, bool) {
	for _, p := range e.reg.Patches {
		if p.Module == id {
			return link.Range{Start: p.Base, End: p.Base + p.Size}, true
		}
	}
	return link.Range{}, false
}

// above is the address that m may not lie below: the end of what it requires.
func (e *Engine) above(m *module.Module) (addr uint64) {
	for _, x := range m.Manifest.Requires {
		if r, ok := e.findModule(x.ID); ok {
			addr = max(addr, r.End)
		}
	}
	return addr
}

// notRequired refuses with in-use if a patch that is loaded requires p.
func (e *Engine) notRequired(p *patchRecord) error {
	for _, q := range e.reg.Patches {
		if slices.Contains(q.Requires, p.Module) {
			return finding.Refuse(finding.InUse,
				fmt.Sprintf("patch %s (%s) shares variables or types that patch %s added", q.ID, q.Name, p.ID),
				fmt.Sprintf("unload patch %s first", q.ID))
		}
	}
	return nil
}

// LoadedModule is a module that a process has loaded.
type LoadedModule struct {
	ID   string // of the patch
	Path string // of the file that it was loaded from
	Hash string // sha256 of that, hex
}

// LoadedModules returns the modules that a process has loaded, in the order of
// their loading. It only reads what Darn has noted there: the process is not
// attached to, may run or be stopped or be traced by another Darn, and notices
// nothing.
func LoadedModules(pid int) ([]LoadedModule, error) {
	data, err := arena.Peek(pid)
	if errors.Is(err, arena.ErrNone) || err == nil && data == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	reg, err := parseRegistry(data)
	if err != nil {
		return nil, err
	}
	var modules []LoadedModule
	for _, p := range reg.Patches {
		modules = append(modules, LoadedModule{p.ID, p.Path, p.Module})
	}
	return modules, nil
}
