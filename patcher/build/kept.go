package build

import (
	"os"
	"path/filepath"

	"github.com/darn-dev/darn/patcher/module"
)

// keptModules is how many modules the cache holds; one is some 20 KB.
const keptModules = 256

// keepModule keeps a copy of a module that was built, by the hash of its file: a
// later build may have to know what a loaded one added to the program, and the
// next one is often written to the same path. Failing costs that knowledge only.
func keepModule(path, id string) {
	to := keptModulePath(id)
	if to == "" || os.MkdirAll(filepath.Dir(to), 0o777) != nil {
		return
	}
	if copyFile(to+".new", path) == nil && os.Rename(to+".new", to) == nil {
		prune(filepath.Dir(to), keptModules)
	}
}

// Keep keeps a module that was built, and the source that it was built from, by
// the hash of its file: see Texts and ModuleFile.
func Keep(path, id string, files []ChangedFile) {
	keepModule(path, id)
	keepTexts(id, files)
}

func keptModulePath(id string) string {
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "darn", "modules", id+".so")
}

// ModuleFile returns the path of a module, by the hash of its file: the one that
// is named, if it is still that module, or else the copy that was kept when it
// was built. It is "" if there is neither.
func ModuleFile(path, id string) string {
	for _, p := range []string{path, keptModulePath(id)} {
		if isModule(p, id) {
			return p
		}
	}
	return ""
}

// KeptModule is like ModuleFile, but prefers the copy, which stays what it is,
// and makes it if need be.
func KeptModule(path, id string) string {
	kept := keptModulePath(id)
	if kept != "" && !isModule(kept, id) && isModule(path, id) {
		keepModule(path, id)
	}
	return ModuleFile(kept, id)
}

func isModule(path, id string) bool {
	if path == "" {
		return false
	}
	m, err := module.Open(path)
	return err == nil && m.ID() == id
}
