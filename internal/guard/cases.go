package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Kept is a case and the file that it is kept in.
type Kept struct {
	File string `json:"file"`
	Case
}

// Cases returns all that is kept, also of modules that were forced since, in the
// order of the modules. Of a file that can't be read only the module is known, and
// Note says why.
func (g *Guard) Cases() ([]Kept, error) {
	dir := filepath.Join(g.state, "quarantine")
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var cases []Kept
	for _, f := range files {
		module, _, ok := strings.Cut(f.Name(), "-")
		if !ok || filepath.Ext(f.Name()) != ".json" {
			continue
		}
		k := Kept{File: filepath.Join(dir, f.Name())}
		data, err := os.ReadFile(k.File)
		if err == nil {
			err = json.Unmarshal(data, &k.Case)
		}
		if err != nil {
			k.Case = Case{Module: module, Note: fmt.Sprintf("can't be read: %v", err)}
		}
		cases = append(cases, k)
	}
	return cases, nil
}

// shortestID is how much of a module's hash stands for it.
const shortestID = 8

// Remove ends the quarantine of a module, given by its hash or the beginning of
// that, for all builds, and removes what was kept of it. It returns what that was.
// It is refused with not-permitted if the policy does not allow that anything is
// forced.
func (g *Guard) Remove(module string) ([]Kept, error) {
	all, err := g.Cases()
	if err != nil {
		return nil, err
	}
	var found []Kept
	for _, k := range all {
		if len(module) >= shortestID && strings.HasPrefix(k.Module, module) {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("nothing is kept of a module %s: give its file, or %d digits or more of what darn quarantine list prints", module, shortestID)
	}
	act, err := g.Begin("quarantine-remove", 0, true)
	if err != nil {
		return nil, err
	}
	act.record.Module, act.record.Path = found[0].Module, found[0].Path
	for _, k := range found {
		if k.Module != found[0].Module {
			return nil, act.End(fmt.Errorf("%s is the beginning of several modules' hashes: give more of it", module))
		}
	}
	for _, k := range found {
		err = errors.Join(err, os.Remove(k.File))
	}
	return found, act.End(err)
}
