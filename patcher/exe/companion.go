package exe

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
)

// keptCompanions is how many symbol companions the cache holds; one is as large
// as an executable that was not stripped.
const keptCompanions = 16

// CompanionDir is the folder of the user's cache that holds symbol companions,
// "" without a cache. It is laid out as debuggers expect it of a folder with
// separate debug information, by GNU build ID, so that they find them too.
func CompanionDir() string {
	user, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(user, "darn", "symbols")
}

// companionPath is where the cache holds the companion of an executable with
// that GNU build ID.
func companionPath(id string) string {
	return filepath.Join(CompanionDir(), ".build-id", id[:2], id[2:]+".debug")
}

// nameable tells whether the cache and debuggers can find a companion of x.
func (x *Executable) nameable() bool { return len(x.GNUBuildID) > 2 && CompanionDir() != "" }

// findCompanion completes x by the companion that the cache has.
func (x *Executable) findCompanion() error {
	if !x.nameable() {
		return x.stripped()
	}
	path := companionPath(x.GNUBuildID)
	err := x.useCompanion(path)
	if errors.Is(err, fs.ErrNotExist) {
		return x.stripped()
	}
	if err == nil {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // what pruning goes by
	}
	return err
}

// KeepCompanion completes x by the file at path, and keeps a copy of that as
// KeepSymbols does. It is refused with unsupported-target if the file is not
// the companion of x, which leaves x as it was, and if x has no GNU build ID,
// by which companions are found.
func (x *Executable) KeepCompanion(path string) error {
	if !x.nameable() {
		return x.stripped()
	}
	if err := x.useCompanion(path); err != nil {
		return err
	}
	return KeepSymbols(path)
}

// KeepSymbols copies a file with symbols and debugging information into the
// cache, as the companion of whatever stripped executable has its GNU build ID:
// Open verifies that. What can't be a companion is refused with
// unsupported-target.
func KeepSymbols(path string) error {
	y, err := OpenAny(path)
	if err != nil {
		return err
	}
	defer y.Close() // was read only
	if !hasSymbols(y.elf) || !hasDWARF(y.elf) || !y.nameable() {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("%s can't be the symbols of a stripped executable: it lacks a symbol table, debugging information or a GNU build id", path),
			"give the file that the executable was before it was stripped")
	}
	to := companionPath(y.GNUBuildID)
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the renaming
	_, err = io.Copy(tmp, y.file)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), to); err != nil {
		return err
	}
	pruneCompanions()
	return nil
}

// pruneCompanions removes the companions that were not used for longest.
func pruneCompanions() {
	files, err := filepath.Glob(filepath.Join(CompanionDir(), ".build-id", "*", "*"))
	if err != nil || len(files) <= keptCompanions {
		return
	}
	used := func(path string) time.Time {
		info, err := os.Stat(path)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(files, func(a, b string) int { return used(b).Compare(used(a)) })
	for _, file := range files[keptCompanions:] {
		_ = os.Remove(file)
	}
}

// useCompanion completes x by the file at path if that is its companion.
func (x *Executable) useCompanion(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	f, err := elf.NewFile(file)
	if err == nil {
		err = x.checkCompanion(f)
	}
	if err == nil {
		err = x.useSymbols(f)
	}
	if err != nil {
		_ = file.Close() // was read only
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("%s does not have the symbols of the executable %s: %v", path, x.path, err),
			"give the file that the executable was before it was stripped, or let `darn build` make one: without --symbols it compiles the program's source")
	}
	if x.companion != nil {
		_ = x.companion.Close()
	}
	x.companion = file
	return nil
}

// checkCompanion proves that a file is the executable but for what is not
// loaded. Sections are compared rather than segments: the first segment holds
// the ELF header, which says where the sections that are not loaded begin.
//
// Sections whose content was left out of the file (objcopy --only-keep-debug)
// can't be compared: then the GNU build ID, which depends on all that the
// program was made from, must do.
func (x *Executable) checkCompanion(f *elf.File) error {
	if !hasSymbols(f) || !hasDWARF(f) {
		return errors.New("it has no symbol table or no debugging information itself")
	}
	var y Executable
	left := false
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOTE && s.Flags&elf.SHF_ALLOC != 0 {
			if data, err := s.Data(); err == nil {
				y.parseNotes(data)
			}
		}
	}
	if y.GNUBuildID != x.GNUBuildID {
		return fmt.Errorf("its GNU build id is %q instead of %q", y.GNUBuildID, x.GNUBuildID)
	}
	alloc := func(flags elf.SectionFlag) bool { return flags&elf.SHF_ALLOC != 0 }
	loaded := map[string]*elf.Section{}
	for _, s := range f.Sections {
		if alloc(s.Flags) {
			loaded[s.Name] = s
		}
	}
	for _, was := range x.Sections {
		if !alloc(was.Flags) {
			continue
		}
		s := loaded[was.Name]
		delete(loaded, was.Name)
		if s == nil || s.Addr != was.Addr || s.Size != was.Size {
			return fmt.Errorf("the section %s, %d bytes at %#x, is not in it", was.Name, was.Size, was.Addr)
		}
		if was.Type == elf.SHT_NOBITS {
			continue
		}
		if s.Type == elf.SHT_NOBITS {
			left = true
			continue
		}
		at, err := x.firstDifference(s)
		if err == nil && at != 0 {
			err = fmt.Errorf("its section %s differs at %#x", s.Name, at)
		}
		if err != nil {
			return err
		}
	}
	for name := range loaded {
		return fmt.Errorf("its section %s is not in the executable", name)
	}
	if left && x.GNUBuildID == "" {
		return errors.New("it holds no code to compare, and there is no GNU build id")
	}
	return nil
}

// firstDifference returns the first address at which a section differs from x,
// 0 if there is none.
func (x *Executable) firstDifference(s *elf.Section) (uint64, error) {
	want, got := make([]byte, 1<<16), make([]byte, 1<<16)
	for off := uint64(0); off < s.Size; off += uint64(len(want)) {
		n := min(s.Size-off, uint64(len(want)))
		if _, err := s.ReadAt(got[:n], int64(off)); err != nil {
			return 0, err
		}
		if err := x.ReadAt(want[:n], s.Addr+off); err != nil {
			return 0, err
		}
		if !bytes.Equal(want[:n], got[:n]) {
			for i := range n {
				if want[i] != got[i] {
					return s.Addr + off + i, nil
				}
			}
		}
	}
	return 0, nil
}

// stripped is the refusal of an executable that has no companion.
func (x *Executable) stripped() error {
	what := "the executable is stripped: it has no symbol table"
	if hasSymbols(x.elf) {
		what = "the executable has no debugging information (DWARF)"
	}
	if len(x.GNUBuildID) <= 2 {
		return finding.Refuse(finding.UnsupportedTarget, what+", and no GNU build id by which its symbols could be found",
			"build the target without -ldflags=-s or -w, or else without -B=none and -buildid= among them")
	}
	return finding.Refuse(finding.UnsupportedTarget, what+", and its symbols are not in "+CompanionDir(),
		"make them with `darn build`, which compiles the program's source for it, or give the file that it was before it was stripped with --symbols")
}
