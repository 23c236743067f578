package goruntime

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
)

// ErrStale says that the runtime has made an itab since the module was bound
// that the module was going to bring: bind it again.
var ErrStale = errors.New("the runtime has changed since the module was bound")

// Register returns the writes that make a module known to the runtime, and
// enters it in l. The writes are to be applied in order under the
// same halt, in which Idle must have been true, and when the image and what
// alloc gave is in place. On an error l is in no defined state: pass a copy.
//
// It is refused with module-malformed if the module is not for this runtime,
// with text-mismatch if something else has changed the runtime, and with
// unsupported-target if the program uses plugins. The error may be ErrStale.
func (r *Runtime) Register(_ *process.Halt, l *Ledger, image *link.Image, alloc Alloc) (*Registration, []Write, error) {
	if image.ModuledataSize != r.layout.moduledata.size {
		return nil, nil, finding.Refuse(finding.ModuleMalformed,
			fmt.Sprintf("malformed module: its moduledata has %d bytes, the program's has %d", image.ModuledataSize, r.layout.moduledata.size),
			"build the module with the Go version of the program")
	}
	m := &Registration{Base: image.Base, Size: image.Size, Moduledata: image.Moduledata, Fills: image.Fills}
	for _, s := range image.Segments {
		m.Segments = append(m.Segments, Range{Start: s.Addr, End: s.Addr + s.Size})
	}
	var writes []Write
	for _, step := range []func() ([]Write, error){
		func() ([]Write, error) { return r.chain(m) },
		func() ([]Write, error) { return r.enlist(l, m, alloc) },
		func() ([]Write, error) { return r.publish(l, image.Itabs, alloc) },
		func() ([]Write, error) { return r.fill(l, m) },
	} {
		w, err := step()
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, w...)
	}
	l.Modules = append(l.Modules, m)
	return m, writes, nil
}

// Unregister returns the writes that make the runtime forget a module, and
// takes it out of l; see Register. Modules can go in any order. The module
// itself and the Retired blocks must stay until References finds nobody who
// holds an address in them.
func (r *Runtime) Unregister(_ *process.Halt, l *Ledger, m *Registration, alloc Alloc) ([]Write, error) {
	i := l.index(m.Base)
	if i < 0 {
		return nil, fmt.Errorf("goruntime: no module is registered at %#x", m.Base)
	}
	l.Modules = slices.Delete(l.Modules, i, i+1)
	var writes []Write
	for _, step := range []func() ([]Write, error){
		func() ([]Write, error) { return r.unfill(l, m) },
		func() ([]Write, error) { return r.retract(l, m) },
		func() ([]Write, error) { return r.delist(l, m, alloc) },
		func() ([]Write, error) { return r.unchain(m) },
		func() ([]Write, error) { return r.forgetFrames(m) },
	} {
		w, err := step()
		if err != nil {
			return nil, err
		}
		writes = append(writes, w...)
	}
	return writes, nil
}

// change is a Write of one word.
func change(addr, old, new uint64) Write {
	return Write{Addr: addr, Old: bytesOf(old), New: bytesOf(new)}
}

// tampered refuses a runtime that something else has changed.
func tampered(format string, args ...any) error {
	return finding.Refuse(finding.TextMismatch, "the Go runtime is not as Darn left it: "+fmt.Sprintf(format, args...),
		"something else changes the program's runtime; restart it to patch it")
}

// chain appends a module to the chain that findfunc, the stack walker and the
// resolution of types follow (moduledata.next).
func (r *Runtime) chain(m *Registration) ([]Write, error) {
	last, err := r.word(r.lastmoduledata)
	if err != nil {
		return nil, err
	}
	next := last + r.layout.moduledata.next
	if after, err := r.word(next); err != nil || after != 0 {
		return nil, errors.Join(err, tampered("its last module is followed by one at %#x", after))
	}
	return []Write{change(next, 0, m.Moduledata), change(r.lastmoduledata, last, m.Moduledata)}, nil
}

// maxModules bounds the chain of modules against a loop in it.
const maxModules = 1 << 16

// unchain takes a module out of the chain, wherever it is in it.
func (r *Runtime) unchain(m *Registration) ([]Write, error) {
	off := r.layout.moduledata.next
	at := r.firstmoduledata
	for range maxModules {
		next, err := r.word(at + off)
		if err != nil {
			return nil, err
		}
		if next == 0 {
			break
		}
		if next != m.Moduledata {
			at = next
			continue
		}
		after, err := r.word(next + off)
		if err != nil {
			return nil, err
		}
		writes := []Write{change(at+off, next, after)}
		if after == 0 {
			writes = append(writes, change(r.lastmoduledata, m.Moduledata, at))
		}
		return writes, nil
	}
	return nil, tampered("the module at %#x is not in its chain of modules", m.Base)
}

// The collector does not follow the chain but a list, *modulesSlice. A thread
// reads its header without a lock, word by word, so a header is never changed
// in place, even under a halt: the pointer is swung to a new header and array.
// The program's own header is on the heap, and modulesSlice was all that kept
// it there; meanwhile the runtime's list of what must be kept
// (pinnedTypemaps, nil unless the program loads plugins) holds it, as the
// array of an empty slice.

// sliceHeader is the size of a slice, in bytes.
const sliceHeader = 24

// list reads the list of modules.
func (r *Runtime) list(l *Ledger) (header uint64, modules []uint64, err error) {
	if header, err = r.word(r.modulesSlice); err != nil {
		return 0, nil, err
	}
	if (len(l.Modules) > 0 || l.List != Block{}) && header != l.List.Addr {
		return 0, nil, tampered("its list of modules is at %#x instead of %#x", header, l.List.Addr)
	}
	slice, err := r.words(header, 2)
	if err != nil {
		return 0, nil, err
	}
	if slice[1] > maxModules {
		return 0, nil, wrong("its list of modules has %d entries", slice[1])
	}
	modules, err = r.words(slice[0], slice[1])
	return header, modules, err
}

// newList writes a list into a new block.
func newList(alloc Alloc, modules []uint64) (Block, Write, error) {
	n := uint64(len(modules))
	addr, err := alloc(sliceHeader + 8*n)
	if err != nil {
		return Block{}, Write{}, err
	}
	return Block{addr, sliceHeader + 8*n},
		Write{Addr: addr, New: bytesOf(append([]uint64{addr + sliceHeader, n, n}, modules...)...)}, nil
}

// enlist adds a module to the collector's list.
func (r *Runtime) enlist(l *Ledger, m *Registration, alloc Alloc) ([]Write, error) {
	header, modules, err := r.list(l)
	if err != nil {
		return nil, err
	}
	block, fill, err := newList(alloc, append(modules, m.Moduledata))
	if err != nil {
		return nil, err
	}
	writes := []Write{fill}
	if l.Header == 0 {
		pinned, err := r.words(r.pinnedTypemaps, 3)
		if err != nil {
			return nil, err
		}
		// Plugins have it hold some. One that is empty and held the list already is of
		// a load that was given up while the collector was at work.
		if pinned[0] != 0 && pinned[0] != header || pinned[1] != 0 || pinned[2] != 0 {
			return nil, finding.Refuse(finding.UnsupportedTarget,
				"the program has loaded plugins", "programs that load Go plugins can't be patched yet")
		}
		// Without a write barrier: none is in force while gcphase is 0.
		writes = append(writes, change(r.pinnedTypemaps, pinned[0], header))
		l.Header = header
	}
	l.retire(&l.List)
	l.List = block
	return append(writes, change(r.modulesSlice, header, block.Addr)), nil
}

// delist takes a module out of the collector's list, and gives the program its
// own list back when no module is left.
func (r *Runtime) delist(l *Ledger, m *Registration, alloc Alloc) ([]Write, error) {
	header, modules, err := r.list(l)
	if err != nil {
		return nil, err
	}
	i := slices.Index(modules, m.Moduledata)
	if i < 0 {
		return nil, tampered("the module at %#x is not in its list of modules", m.Base)
	}
	l.retire(&l.List)
	if len(l.Modules) == 0 {
		writes := []Write{change(r.modulesSlice, header, l.Header), change(r.pinnedTypemaps, l.Header, 0)}
		l.Header = 0
		return writes, nil
	}
	block, fill, err := newList(alloc, slices.Delete(modules, i, i+1))
	if err != nil {
		return nil, err
	}
	l.List = block
	return []Write{fill, change(r.modulesSlice, header, block.Addr)}, nil
}

// fill makes pruned methods of the program's types lead to the module. A slot
// that another module has filled stays as it is: both have the same method.
func (r *Runtime) fill(l *Ledger, m *Registration) ([]Write, error) {
	var writes []Write
	for _, f := range m.Fills {
		now := make([]byte, len(f.Old))
		if err := r.mem.ReadMemory(now, f.Addr); err != nil {
			return nil, err
		}
		if bytes.Equal(now, f.Old) {
			writes = append(writes, f)
			continue
		}
		if !slices.ContainsFunc(l.Modules, func(o *Registration) bool { return bytes.Equal(o.filling(f.Addr), now) }) {
			return nil, tampered("the method slot at %#x holds % x instead of % x", f.Addr, now, f.Old)
		}
	}
	return writes, nil
}

// filling returns what m wants in the slot at addr, or nil.
func (m *Registration) filling(addr uint64) []byte {
	for _, f := range m.Fills {
		if f.Addr == addr {
			return f.New
		}
	}
	return nil
}

// unfill makes the slots that lead to the module lead to another module that
// wants them, or nowhere, as the program was linked.
func (r *Runtime) unfill(l *Ledger, m *Registration) ([]Write, error) {
	var writes []Write
	for _, f := range m.Fills {
		now := make([]byte, len(f.New))
		if err := r.mem.ReadMemory(now, f.Addr); err != nil {
			return nil, err
		}
		if !bytes.Equal(now, f.New) {
			continue
		}
		w := Write{Addr: f.Addr, Old: f.New, New: f.Old}
		for _, o := range l.Modules {
			if other := o.filling(f.Addr); other != nil {
				w.New = other
			}
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// forgetFrames empties the entries of the threads' caches of decoded tables
// (m.pcvalueCache) that are about the module: another module may come to lie
// at the same addresses.
func (r *Runtime) forgetFrames(m *Registration) ([]Write, error) {
	machines, err := r.machines()
	if err != nil {
		return nil, err
	}
	size := r.layout.cacheEntry.size
	in := m.Range()
	buf := make([]byte, size*r.layout.cacheEntry.count)
	var writes []Write
	for i := range machines {
		at := machines[i].addr + r.layout.m.cache
		if err := r.mem.ReadMemory(buf, at); err != nil {
			return nil, err
		}
		for off := uint64(0); off+size <= uint64(len(buf)); off += size {
			entry := buf[off : off+size]
			// It holds both the pc asked for and the one where its value starts.
			if slices.ContainsFunc(scan.Words(entry), func(w uint64) bool { return in.Holds(w, 1) }) {
				writes = append(writes, Write{Addr: at + off, Old: slices.Clone(entry), New: make([]byte, size)})
			}
		}
	}
	return writes, nil
}

// The writes of Register may be made while the program runs, one store each, if it
// brings no itabs:
//
//   - the chain: who follows it reads one pointer after the other, and finds the
//     module with all that belongs to it or does not;
//   - the list: a new header takes the place of the old one by one store, and no
//     reader keeps the old one across a point where it may be freed. A collection
//     that counted its work before and does it after scans less or more of the
//     module's data, which holds no pointer into the heap yet, as no code of it has
//     run; from then on the write barrier tells the collector what is stored there;
//   - the slots of pruned methods: what nobody could call, or the method.
//
// But for one thing. The program's own header of the list is held by modulesSlice
// before and by pinnedTypemaps after, without a write barrier. A collector that
// looked at the one before it was set and at the other after it was swung would
// free the header. So the collector is seen at rest between the two: all that it
// looked at before is done with, and it looks at both again. Settle does that.

// settlePatience is for how long Settle waits, and settlePeriod how often it looks.
const (
	settlePatience = 5 * time.Second
	settlePeriod   = 100 * time.Microsecond
)

// Settle returns when the write that follows w, made while the program runs, may
// be made, or the one before it if w is about to be undone. Refused with
// gc-timeout if the collector does not rest.
func (r *Runtime) Settle(w Write) error {
	if w.Addr != r.pinnedTypemaps {
		return nil
	}
	for end := time.Now().Add(settlePatience); ; time.Sleep(settlePeriod) {
		phase, err := r.word32(r.gcphase)
		if err != nil || phase == 0 {
			return err
		}
		if time.Now().After(end) {
			return finding.Refuse(finding.GCTimeout, "the garbage collector is at work all the time", "try again at a quieter moment")
		}
	}
}
