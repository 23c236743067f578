package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// loadedModule is a module of the protocol's: a file that code of the target
// comes from.
type loadedModule struct {
	dap.Module
	// State is that of a patch.
	State patcher.State `json:"patchState,omitempty"`
}

// patchStateColumn has clients show the state of patches among their modules.
var patchStateColumn = dap.ColumnDescriptor{AttributeName: "patchState", Label: "Patch", Type: "string"}

func moduleOf(p *patcher.Patch) loadedModule {
	return loadedModule{dap.Module{
		Id: "darn-" + p.ID, Name: p.Name, Path: p.Path, Version: p.Module, IsUserCode: true,
	}, p.State}
}

// modules answers the request for the modules: the program, its libraries, and
// the patches that are loaded. The target is not touched for it.
func (s *patches) modules(h *header) {
	s.start(func(ctx context.Context) {
		all, err := s.allModules(ctx)
		if err != nil {
			s.p.refuse(h, err)
			return
		}
		var a dap.ModulesArguments
		_ = json.Unmarshal(h.Arguments, &a)
		page := all[min(max(a.StartModule, 0), len(all)):]
		if a.ModuleCount > 0 {
			page = page[:min(a.ModuleCount, len(page))]
		}
		s.p.respond(h, struct {
			Modules      []loadedModule `json:"modules"`
			TotalModules int            `json:"totalModules"`
		}{page, len(all)})
	})
}

func (s *patches) allModules(ctx context.Context) ([]loadedModule, error) {
	s.p.mu.Lock()
	err := s.p.ready()
	pid := s.p.pid
	s.p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	mappings, err := process.ReadMaps(pid)
	if err != nil {
		return nil, err
	}
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	all := []loadedModule{}
	known := map[string]bool{}
	for _, m := range mappings {
		if !strings.HasPrefix(m.Path, "/") || strings.HasPrefix(m.Path, "/memfd:") || strings.HasPrefix(m.Path, "/dev/") {
			continue
		}
		if !known[m.Path] && !strings.Contains(m.Perms, "x") && m.Offset != 0 {
			continue
		}
		if !known[m.Path] {
			known[m.Path] = true
			all = append(all, loadedModule{Module: dap.Module{
				Id: m.Path, Name: filepath.Base(m.Path), Path: m.Path,
				IsUserCode: m.Path == program, AddressRange: fmt.Sprintf("%#x", m.Start),
			}})
		}
	}
	s.mu.Lock()
	e := s.engine
	s.mu.Unlock()
	if e != nil {
		l, err := e.Known(ctx)
		if err != nil {
			return nil, err
		}
		for i := range l.Patches {
			all = append(all, moduleOf(&l.Patches[i]))
		}
	}
	return all, nil
}
