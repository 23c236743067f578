package loaded

import "path/filepath"

// Lasting returns the objects that stay as long as the process: the program, and
// what it was linked with, itself or through others. The dynamic linkers unload only
// what a call of dlopen has loaded and nothing else needs (glibc's elf/dl-close.c;
// musl's unloads nothing).
func (s *Set) Lasting() []*Object {
	lasting := s.Objects[:1:1]
	seen := map[string]bool{}
	for i := 0; i < len(lasting); i++ {
		needed, err := lasting[i].elf.ImportedLibraries()
		if err != nil {
			continue
		}
		for _, name := range needed {
			name = filepath.Base(name)
			if seen[name] {
				continue
			}
			seen[name] = true
			if o := s.library(name); o != nil {
				lasting = append(lasting, o)
			}
		}
	}
	return lasting
}
