// Package loaded is what a process has loaded: its program and the shared
// libraries, with their symbols and the tables by which stacks are walked. It
// reads the dynamic linker's list and the files that are mapped; it changes
// nothing, and the process may run.
package loaded

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
)

// Set is the objects of a process at one time. It is used by one goroutine at a
// time.
type Set struct {
	// Objects are the program, then the libraries in the order in which the
	// dynamic linker searches them.
	Objects []*Object
	// Static tells that the program has no dynamic linker.
	Static bool
	// Started is false while the dynamic linker has not begun or is at work.
	Started bool
}

// ranger is what Range is in all of the engine.
type ranger = link.Range

// Open finds out what a process has loaded. What of before is still there is
// taken from it; it may be nil. It is refused with unsupported-target if the
// dynamic linker's list makes no sense.
func Open(p *process.Process, before *Set) (*Set, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	o := &opener{p: p, maps: maps, before: before, set: &Set{}}
	program, err := o.program()
	if err != nil {
		return nil, err
	}
	o.set.Objects = []*Object{program}
	if err := o.libraries(program); err != nil {
		return nil, err
	}
	for _, m := range maps {
		if m.Path == "[vdso]" {
			if x, err := o.vdso(m); err == nil {
				o.set.Objects = append(o.set.Objects, x)
			}
		}
	}
	return o.set, nil
}

// At returns the object whose memory holds addr, or nil.
func (s *Set) At(addr uint64) *Object {
	for _, o := range s.Objects {
		for _, r := range o.Memory {
			if r.Holds(addr, 1) {
				return o
			}
		}
	}
	return nil
}

// opener is the state of one Open.
type opener struct {
	p      *process.Process
	maps   []process.Mapping
	before *Set
	set    *Set
}

// program opens the program itself.
func (o *opener) program() (*Object, error) {
	x, err := o.open(o.p.ExePath(), o.p.LoadBias(), "")
	if err != nil {
		return nil, err
	}
	if path, err := os.Readlink(o.p.ExePath()); err == nil {
		x.Path = path
	}
	x.Program = true
	return x, nil
}

// open reads the file at path, which lies bias bytes above its own addresses.
func (o *opener) open(path string, bias uint64, name string) (*Object, error) {
	if name == "" {
		name = path
	}
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // was read only
		return nil, err
	}
	file := identity(info)
	if o.before != nil {
		for _, x := range o.before.Objects {
			if x.name == name && x.Bias == bias && x.file == file {
				_ = f.Close() // was read only
				return x, nil
			}
		}
	}
	x, err := newObject(f, bias)
	if err != nil {
		_ = f.Close() // was read only
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	x.Path, x.name, x.file = name, name, file
	if o.p != nil {
		x.root = o.p.Root("")
	}
	return x, nil
}

// vdso reads the code that the kernel maps into every process.
func (o *opener) vdso(m process.Mapping) (*Object, error) {
	data := make([]byte, min(m.End-m.Start, 1<<20))
	if err := o.p.ReadMemory(data, m.Start); err != nil {
		return nil, err
	}
	x, err := newObject(strings.NewReader(string(data)), m.Start)
	if err == nil {
		x.Path, x.name = m.Path, m.Path
	}
	return x, err
}

// The dynamic linker's list (link.h): struct r_debug and struct link_map.
const (
	debugMap     = 8  // r_debug.r_map
	debugState   = 24 // r_debug.r_state
	consistent   = 0  // RT_CONSISTENT
	maxLibraries = 1 << 14
)

// libraries reads the dynamic linker's list.
func (o *opener) libraries(program *Object) error {
	dynamic := program.elf.Section(".dynamic")
	var at uint64
	for _, p := range program.elf.Progs {
		if p.Type == elf.PT_DYNAMIC {
			at = p.Vaddr + program.Bias
		}
	}
	if at == 0 || dynamic == nil || program.interpreter() == "" {
		o.set.Static, o.set.Started = true, true
		return nil
	}
	debug, err := o.dynamicValue(at, elf.DT_DEBUG)
	if err != nil || debug == 0 {
		return err // not begun
	}
	head, err := o.words(debug, 4)
	if err != nil {
		return err
	}
	o.set.Started = head[debugMap/8] != 0 && uint32(head[debugState/8]) == consistent
	at = head[debugMap/8]
	for n := 0; at != 0; n++ {
		if n == maxLibraries {
			return finding.Refuse(finding.UnsupportedTarget, "the dynamic linker's list of libraries has no end",
				"something has damaged the program; restart it to patch it")
		}
		w, err := o.words(at, 4) // l_addr, l_name, l_ld, l_next
		if err != nil {
			return err
		}
		if n == 0 {
			program.linkMap = at
		} else if x, err := o.library(w[0], w[1], w[2]); err != nil {
			return err
		} else if x != nil {
			x.linkMap = at
			o.set.Objects = append(o.set.Objects, x)
		}
		at = w[3]
	}
	return nil
}

// library opens the library at bias; nil if it is none that has a file.
func (o *opener) library(bias, name, dynamic uint64) (*Object, error) {
	i := slices.IndexFunc(o.maps, func(m process.Mapping) bool { return dynamic >= m.Start && dynamic < m.End })
	if i < 0 || o.maps[i].Inode == 0 {
		return nil, nil // the vDSO
	}
	m := o.maps[i]
	path := o.p.Root(m.Path)
	info, err := os.Stat(path)
	if same := err == nil && identity(info).inode == m.Inode; !same {
		// Deleted or replaced since. The kernel still knows it.
		path = o.p.MapFile(m)
	} else if identity(info).device != m.Device {
		// Some file systems tell another device here than there. The kernel knows
		// for sure, but not everybody may ask.
		if _, err := os.Stat(o.p.MapFile(m)); err == nil {
			path = o.p.MapFile(m)
		}
	}
	x, err := o.open(path, bias, m.Path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the library %s was replaced or deleted since the program loaded it, and what is loaded can't be read: %v", m.Path, err),
			"run darn as root, or restart the program")
	}
	return x, err
}

// dynamicValue reads an entry of a dynamic section in memory.
func (o *opener) dynamicValue(at uint64, tag elf.DynTag) (uint64, error) {
	for range maxLibraries {
		w, err := o.words(at, 2)
		if err != nil {
			return 0, err
		}
		if elf.DynTag(w[0]) == tag {
			return w[1], nil
		}
		if elf.DynTag(w[0]) == elf.DT_NULL {
			break
		}
		at += 16
	}
	return 0, nil
}

func (o *opener) words(addr uint64, n int) ([]uint64, error) {
	b := make([]byte, 8*n)
	if err := o.p.ReadMemory(b, addr); err != nil {
		return nil, err
	}
	w := make([]uint64, n)
	for i := range w {
		w[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return w, nil
}

// Has tells whether a library with that name (DT_SONAME or file) is loaded.
func (s *Set) Has(soname string) bool { return s.library(soname) != nil }

// library returns the library with a name, nil if there is none.
func (s *Set) library(soname string) *Object {
	i := slices.IndexFunc(s.Objects, func(o *Object) bool {
		return !o.Program && (o.soname() == soname || filepath.Base(o.Path) == soname)
	})
	if i < 0 {
		return nil
	}
	return s.Objects[i]
}

// Files reads the program at path without its process; with pid, also the
// libraries that this has mapped. Addresses are those of the files.
func Files(path string, pid int) (*Set, error) {
	o := &opener{set: &Set{Started: true}}
	program, err := o.open(path, 0, "")
	if err != nil {
		return nil, err
	}
	program.Program = true
	if real, err := os.Readlink(path); err == nil {
		program.Path = real
	}
	o.set.Objects, o.set.Static = []*Object{program}, program.Static()
	if pid == 0 {
		return o.set, nil
	}
	maps, err := process.ReadMaps(pid)
	if err != nil {
		return nil, err
	}
	for _, m := range maps {
		if m.Inode == 0 || !strings.HasPrefix(m.Path, "/") || !strings.Contains(m.Perms, "x") || m.Path == program.Path {
			continue
		}
		x, err := o.open(fmt.Sprintf("/proc/%d/root%s", pid, m.Path), 0, m.Path)
		if err == nil {
			o.set.Objects = append(o.set.Objects, x)
		}
	}
	return o.set, nil
}

// Static tells whether an object has no dynamic linker.
func (x *Object) Static() bool { return x.interpreter() == "" }
