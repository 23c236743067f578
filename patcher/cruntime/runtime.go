// Package cruntime is what can be asked of a running C or C++ program when a
// module comes or goes: where its threads are, and who holds an address. Such a
// program has no runtime that must be told of code; it is asked from outside,
// under a halt, and nothing in it is changed.
package cruntime

import (
	"context"
	"debug/elf"

	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/process"
)

// maxSection bounds the unwind tables of a module, in bytes.
const maxSection = 64 << 20

// Runtime is one C or C++ program. It is used by one goroutine at a time.
type Runtime struct {
	p       *process.Process
	objects *loaded.Set
	modules map[uint64]*loaded.Object // by their base
	bridges []link.Range              // of all modules
}

// Open looks at what the program has loaded. The process may run.
func Open(p *process.Process) (*Runtime, error) {
	set, err := loaded.Open(p, nil)
	if err != nil {
		return nil, err
	}
	return &Runtime{p: p, objects: set, modules: make(map[uint64]*loaded.Object)}, nil
}

// Objects returns what the program has loaded now. The process may run.
func (r *Runtime) Objects() (*loaded.Set, error) {
	set, err := loaded.Open(r.p, r.objects)
	if err == nil {
		r.objects = set
	}
	return r.objects, err
}

// Prepare reads the tables by which stacks are walked, so that it need not happen
// under a halt.
func (r *Runtime) Prepare() {
	set, err := r.Objects()
	if err != nil {
		return // the halt will say why
	}
	for _, o := range set.Objects {
		o.Prepare()
	}
}

// Started tells whether the program has come so far that its libraries are
// there.
func (r *Runtime) Started(*process.Halt) (bool, error) {
	if !r.objects.Started {
		if _, err := r.Objects(); err != nil {
			return false, err
		}
	}
	return r.objects.Started, nil
}

// Idle is always true: no part of a C program works on what Darn changes.
func (r *Runtime) Idle(*process.Halt) (bool, error) { return true, nil }

// ForceGC does nothing: memory that was freed may still hold addresses, and
// nobody collects it.
func (r *Runtime) ForceGC(context.Context, *process.Process) error { return nil }

// Register notes a module. Nobody in the program has to be told.
func (r *Runtime) Register(_ *process.Halt, l *goruntime.Ledger, image *link.Image, _ goruntime.Alloc) (*goruntime.Registration, []link.Write, error) {
	m := &goruntime.Registration{Base: image.Base, Size: image.Size, Frames: image.Frames, Bridges: image.Bridges, Unseen: image.Unseen}
	for _, s := range image.Segments {
		m.Segments = append(m.Segments, link.Range{Start: s.Addr, End: s.Addr + s.Size})
		if s.Flags&elf.PF_X != 0 {
			m.Text = append(m.Text, link.Range{Start: s.Addr, End: s.Addr + s.Size})
		}
	}
	m.Entries = image.Entries
	l.Modules = append(l.Modules, m)
	return m, nil, nil
}

// Settle has nothing to wait for.
func (r *Runtime) Settle(link.Write) error { return nil }

// Unregister forgets a module.
func (r *Runtime) Unregister(_ *process.Halt, l *goruntime.Ledger, m *goruntime.Registration, _ goruntime.Alloc) ([]link.Write, error) {
	var rest []*goruntime.Registration
	for _, x := range l.Modules {
		if x.Base != m.Base {
			rest = append(rest, x)
		}
	}
	l.Modules = rest
	delete(r.modules, m.Base)
	return nil, nil
}

// Know makes the modules that are loaded known, by whose tables stacks are
// walked through them.
func (r *Runtime) Know(l *goruntime.Ledger) {
	r.bridges = nil
	for _, m := range l.Modules {
		r.bridges = append(r.bridges, m.Bridges)
		if r.modules[m.Base] != nil || m.Frames == 0 {
			continue
		}
		for _, s := range m.Segments {
			if !s.Holds(m.Frames, 1) {
				continue
			}
			// The registry is memory of the program, which may have damaged it.
			section := make([]byte, min(s.End-m.Frames, maxSection))
			if r.p.ReadMemory(section, m.Frames) == nil {
				r.modules[m.Base] = loaded.Frames("", m.Range(), trim(section), m.Frames)
			}
		}
	}
}

// trim cuts a section .eh_frame off behind its terminator.
func trim(section []byte) []byte {
	for at := 0; at+4 <= len(section); {
		n := int(uint32(section[at]) | uint32(section[at+1])<<8 | uint32(section[at+2])<<16 | uint32(section[at+3])<<24)
		if n == 0 || n < 4 || at+4+n > len(section) {
			return section[:at]
		}
		at += 4 + n
	}
	return section
}

// object returns what holds addr: a module or an object, or nil.
func (r *Runtime) object(addr uint64) *loaded.Object {
	for _, m := range r.modules {
		if m.Memory[0].Holds(addr, 1) {
			return m
		}
	}
	return r.objects.At(addr)
}
