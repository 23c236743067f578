package loaded

import (
	"cmp"
	"debug/dwarf"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/exe"
)

// Object is a program or library in a process.
type Object struct {
	Path    string // in the process's own file system
	Program bool
	// Bias is what is added to an address of the file to get the one in the
	// process.
	Bias uint64
	// BuildID is the GNU build id in hex, "" if there is none.
	BuildID string
	// Memory is where it is, segment by segment; Text what of it is code.
	Memory, Text []ranger

	name     string
	file     fileID
	root     string // where the process's file system is found, "" for here
	elf      *elf.File
	linkMap  uint64
	symbols  []Symbol // sorted by address
	read     bool     // symbols were
	byName   map[string][]int
	debug    *elf.File // what has debugging information: elf, or a file of its own
	searched bool      // for debug
	dwarf    *dwarf.Data
	frames   *frames
}

// Symbol is a symbol that an object defines.
type Symbol struct {
	Name    string
	Addr    uint64 // in the process; STT_TLS: in the object's thread-local block
	Size    uint64 // bytes
	Type    elf.SymType
	Local   bool
	Version string // "" if it has none
	Old     bool   // it is there for programs linked with an older library only
	Dynamic bool   // the dynamic linker knows it
	File    string // of a Local one: the source file, "" if not known
	Object  *Object
}

// newObject reads the headers of a file.
func newObject(r io.ReaderAt, bias uint64) (*Object, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	x := &Object{Bias: bias, elf: f}
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		m := ranger{Start: bias + p.Vaddr, End: bias + p.Vaddr + p.Memsz}
		x.Memory = append(x.Memory, m)
		if p.Flags&elf.PF_X != 0 {
			x.Text = append(x.Text, m)
		}
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOTE && s.Name == ".note.gnu.build-id" {
			if data, err := s.Data(); err == nil && len(data) > 16 {
				x.BuildID = hex.EncodeToString(data[16:])
			}
		}
	}
	return x, nil
}

func (x *Object) interpreter() string {
	for _, p := range x.elf.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz <= 4096 {
			data := make([]byte, p.Filesz)
			if _, err := p.ReadAt(data, 0); err == nil {
				return strings.TrimRight(string(data), "\x00")
			}
		}
	}
	return ""
}

func (x *Object) soname() string {
	if names, err := x.elf.DynString(elf.DT_SONAME); err == nil && len(names) > 0 {
		return names[0]
	}
	return filepath.Base(x.Path)
}

// Name is the short name of the object.
func (x *Object) Name() string { return filepath.Base(x.Path) }

// Stripped tells that only what the dynamic linker knows is known of it.
func (x *Object) Stripped() bool {
	return x.elf.SectionByType(elf.SHT_SYMTAB) == nil && (x.debugFile() == nil || x.debug.SectionByType(elf.SHT_SYMTAB) == nil)
}

// Symbols returns what the object defines, sorted by address.
func (x *Object) Symbols() []Symbol {
	x.readSymbols()
	return x.symbols
}

// Named returns the object's symbols with a name.
func (x *Object) Named(name string) []*Symbol {
	x.readSymbols()
	var found []*Symbol
	for _, i := range x.byName[name] {
		found = append(found, &x.symbols[i])
	}
	return found
}

// FunctionAt returns the function whose code holds addr.
func (x *Object) FunctionAt(addr uint64) (*Symbol, bool) {
	x.readSymbols()
	i := sort.Search(len(x.symbols), func(i int) bool { return x.symbols[i].Addr > addr })
	for i--; i >= 0; i-- {
		s := &x.symbols[i]
		if s.Type != elf.STT_FUNC && s.Type != elf.STT_GNU_IFUNC {
			continue
		}
		if addr-s.Addr < s.Size {
			return s, true
		}
		if s.Size > 0 {
			break
		}
	}
	return nil, false
}

func (x *Object) readSymbols() {
	if x.read {
		return
	}
	x.read = true
	type place struct {
		name string
		addr uint64
	}
	at := map[place]bool{}
	add := func(s elf.Symbol, dynamic bool, file string) {
		typ := elf.ST_TYPE(s.Info)
		if s.Section == elf.SHN_UNDEF || s.Section >= elf.SHN_LORESERVE || typ == elf.STT_SECTION || typ == elf.STT_FILE || s.Name == "" {
			return
		}
		name, version, _ := strings.Cut(s.Name, "@") // the static table has it in the name
		y := Symbol{
			Name: name, Addr: s.Value, Size: s.Size, Type: typ, Object: x, Dynamic: dynamic,
			Local: elf.ST_BIND(s.Info) == elf.STB_LOCAL, File: file,
		}
		if typ != elf.STT_TLS {
			y.Addr += x.Bias
		}
		if dynamic && s.HasVersion {
			y.Version, y.Old = s.Version, s.VersionIndex.IsHidden()
		}
		if !dynamic && at[place{name, y.Addr}] {
			return // the dynamic one has its version
		}
		at[place{name, y.Addr}] = true
		if version != "" && y.Version == "" {
			y.Version, y.Old = strings.TrimPrefix(version, "@"), !strings.HasPrefix(version, "@")
		}
		x.symbols = append(x.symbols, y)
	}
	if list, err := x.elf.DynamicSymbols(); err == nil {
		for _, s := range list {
			add(s, true, "")
		}
	}
	table := x.elf
	if table.SectionByType(elf.SHT_SYMTAB) == nil {
		table = x.debugFile()
	}
	if table != nil {
		list, _ := table.Symbols()
		file := ""
		for _, s := range list {
			if elf.ST_TYPE(s.Info) == elf.STT_FILE {
				file = s.Name
				continue
			}
			f := file
			if elf.ST_BIND(s.Info) != elf.STB_LOCAL {
				f = ""
			}
			add(s, false, f)
		}
	}
	slices.SortStableFunc(x.symbols, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	x.byName = make(map[string][]int, len(x.symbols))
	for i := range x.symbols {
		x.byName[x.symbols[i].Name] = append(x.byName[x.symbols[i].Name], i)
	}
}

// debugFile returns the file that has the object's debugging information, found
// as debuggers do: in the object, by build id, by .gnu_debuglink, and among what
// debuginfod has fetched. It is nil if there is none.
func (x *Object) debugFile() *elf.File {
	if x.searched {
		return x.debug
	}
	x.searched = true
	if x.elf.Section(".debug_info") != nil {
		x.debug = x.elf
		return x.debug
	}
	for _, path := range x.debugPaths() {
		f, err := openRegular(path)
		if err != nil {
			continue
		}
		y, err := newObject(f, 0)
		if err != nil || y.BuildID != x.BuildID || x.BuildID == "" && !x.linksTo(f) {
			_ = f.Close() // was read only
			continue
		}
		x.debug = y.elf
		break
	}
	return x.debug
}

// openRegular opens a file, but nothing that lets a reader wait, such as a FIFO.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close() // was read only
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return f, nil
}

// linksTo tells whether a file has the checksum that .gnu_debuglink gives, by
// which alone it is known to belong to an object without a build id.
func (x *Object) linksTo(f *os.File) bool {
	_, want, ok := x.debugLink()
	if !ok {
		return false
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, math.MaxInt64)); err != nil {
		return false
	}
	return want == sum.Sum32()
}

// debugLink returns the name and the checksum of the file of debugging
// information that .gnu_debuglink gives.
func (x *Object) debugLink() (name string, sum uint32, ok bool) {
	s := x.elf.Section(".gnu_debuglink")
	if s == nil {
		return "", 0, false
	}
	data, err := s.Data()
	if err != nil || len(data) < 4 {
		return "", 0, false
	}
	name, _, _ = strings.Cut(string(data), "\x00")
	return name, le.Uint32(data[len(data)-4:]), true
}

// systemDebug is where distributions install debugging information.
const systemDebug = "/usr/lib/debug"

// debugPaths is where separate debugging information may be.
func (x *Object) debugPaths() (paths []string) {
	if id := x.BuildID; len(id) > 2 {
		file := filepath.Join(".build-id", id[:2], id[2:]+".debug")
		paths = append(paths, filepath.Join(systemDebug, file))
		if dir := exe.CompanionDir(); dir != "" {
			paths = append(paths, filepath.Join(dir, file))
		}
		if dir := os.Getenv("DEBUGINFOD_CACHE_PATH"); dir != "" {
			paths = append(paths, filepath.Join(dir, id, "debuginfo"))
		}
		if dir, err := os.UserCacheDir(); err == nil {
			paths = append(paths, filepath.Join(dir, "debuginfod_client", id, "debuginfo"))
		}
	}
	if link, _, ok := x.debugLink(); ok {
		dir := filepath.Dir(x.Path)
		for _, path := range []string{filepath.Join(dir, link), filepath.Join(dir, ".debug", link), filepath.Join(systemDebug, dir, link)} {
			paths = append(paths, x.root+path)
		}
		paths = append(paths, filepath.Join(systemDebug, dir, link))
	}
	return paths
}

// DWARF returns the object's debugging information, nil if there is none.
func (x *Object) DWARF() *dwarf.Data {
	if f := x.debugFile(); f != nil && x.dwarf == nil {
		x.dwarf, _ = f.DWARF()
	}
	return x.dwarf
}

// MaxFunction bounds the code that is taken for one function, in bytes, whatever
// a damaged symbol table says.
const MaxFunction = 64 << 20

// Code returns what the file has at an address in the process.
func (x *Object) Code(addr, n uint64) ([]byte, error) {
	at := addr - x.Bias
	for _, p := range x.elf.Progs {
		if p.Type == elf.PT_LOAD && n <= MaxFunction && at >= p.Vaddr && at-p.Vaddr < p.Filesz && n <= p.Filesz-(at-p.Vaddr) {
			b := make([]byte, n)
			_, err := p.ReadAt(b, int64(at-p.Vaddr))
			return b, err
		}
	}
	return nil, fmt.Errorf("%s has no %d bytes at %#x", x.Path, n, at)
}

// Relocations returns the relocations of the object that the dynamic linker has
// applied, with the names of their symbols; addresses are the process's.
func (x *Object) Relocations() []Relocation {
	symbols, _ := x.elf.DynamicSymbols()
	var found []Relocation
	for _, s := range x.elf.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		data, err := s.Data()
		if err != nil {
			continue
		}
		for ; len(data) >= 24; data = data[24:] {
			info := le.Uint64(data[8:])
			r := Relocation{Addr: x.Bias + le.Uint64(data), Type: elf.R_X86_64(info & 0xffffffff), Addend: le.Uint64(data[16:])}
			if n := int(info >> 32); n > 0 && n <= len(symbols) {
				r.Symbol = symbols[n-1].Name
			}
			found = append(found, r)
		}
	}
	return found
}

// Relocation is a relocation of an object in memory.
type Relocation struct {
	Addr   uint64
	Type   elf.R_X86_64
	Symbol string // "" for none
	Addend uint64
}

// fileID tells a file from others, as a Mapping's fields do.
type fileID struct {
	device string
	inode  uint64
}

func identity(info fs.FileInfo) fileID {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileID{fmt.Sprintf("%02x:%02x", unix.Major(st.Dev), unix.Minor(st.Dev)), st.Ino}
	}
	return fileID{}
}

// SectionAt returns the name of the section that an address in the process is in,
// "" if it is in none.
func (x *Object) SectionAt(addr uint64) string {
	for _, s := range x.elf.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && addr-x.Bias-s.Addr < s.Size {
			return s.Name
		}
	}
	return ""
}
