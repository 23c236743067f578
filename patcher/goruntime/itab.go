package goruntime

import (
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/scan"
)

// The runtime's table of itabs (itabTableType in iface.go) is a hash table
// with quadratic probing and no way to delete. Readers take no lock; one that
// finds nothing takes itabLock and looks again before it makes an itab. All
// changes here happen while every thread is halted and itabLock is free.

// itabTable is a copy of the table.
type itabTable struct {
	addr    uint64
	count   uint64
	old     []uint64 // as in the target
	entries []uint64
}

// maxItabs bounds the size of the table.
const maxItabs = 1 << 24

// maxSlots is how many of size slots may be filled. The runtime itself doubles
// the table when it is about to add to one filled to 3/4; an empty slot must
// always remain, for a search to end.
func maxSlots(size uint64) uint64 { return size - size/8 }

// tableAt reads the table at addr.
func (r *Runtime) tableAt(addr uint64) (*itabTable, error) {
	size, err := r.word(addr + r.layout.itabTable.size)
	if err != nil {
		return nil, err
	}
	if size == 0 || size&(size-1) != 0 || size > maxItabs {
		return nil, wrong("its table of itabs has %d slots", size)
	}
	t := &itabTable{addr: addr}
	if t.count, err = r.word(addr + r.layout.itabTable.count); err != nil {
		return nil, err
	}
	if t.old, err = r.words(addr+r.layout.itabTable.entries, size); err != nil {
		return nil, err
	}
	t.entries = slices.Clone(t.old)
	return t, nil
}

// table reads the table in use.
func (r *Runtime) table() (*itabTable, error) {
	addr, err := r.word(r.itabTable)
	if err != nil {
		return nil, err
	}
	return r.tableAt(addr)
}

// search follows the probe sequence of a hash until stop returns true, and
// returns the index of that slot, or -1.
func (t *itabTable) search(hash uint32, stop func(entry uint64) bool) int {
	mask := uint64(len(t.entries) - 1)
	h := uint64(hash) & mask
	for i := uint64(1); i <= uint64(len(t.entries)); i++ {
		if stop(t.entries[h]) {
			return int(h)
		}
		h = (h + i) & mask
	}
	return -1
}

// insert puts an itab into the first empty slot.
func (t *itabTable) insert(itab uint64, hash uint32) bool {
	i := t.search(hash, func(e uint64) bool { return e == 0 })
	if i < 0 {
		return false
	}
	t.entries[i] = itab
	t.count++
	return true
}

// writes returns what changed.
func (t *itabTable) writes(r *Runtime, oldCount uint64) []Write {
	var w []Write
	for i, e := range t.entries {
		if e != t.old[i] {
			w = append(w, change(t.addr+r.layout.itabTable.entries+8*uint64(i), t.old[i], e))
		}
	}
	if t.count != oldCount {
		w = append(w, change(t.addr+r.layout.itabTable.count, oldCount, t.count))
	}
	return w
}

// itabInfo is what an itab says.
type itabInfo struct {
	addr, inter, typ uint64
	hash             uint32   // of the pair
	fun              []uint64 // its methods
}

// itabs reads many itabs. An entry 0 gives an empty one.
func (r *Runtime) itabs(addrs []uint64) ([]itabInfo, error) {
	infos := make([]itabInfo, len(addrs))
	heads := make([][link.ITabFun]byte, len(addrs))
	var requests []request
	for i, a := range addrs {
		if a != 0 {
			requests = append(requests, request{a, heads[i][:]})
		}
	}
	if err := r.readAll(requests); err != nil {
		return nil, err
	}
	hashes := make([][8]byte, len(addrs))
	counts := make([][8]byte, len(addrs))
	requests = requests[:0]
	for i, a := range addrs {
		if a == 0 {
			continue
		}
		infos[i] = itabInfo{addr: a, inter: le.Uint64(heads[i][link.ITabInter:]), typ: le.Uint64(heads[i][link.ITabType:])}
		requests = append(requests,
			request{infos[i].inter + link.TypeHash, hashes[i][:4]},
			request{infos[i].typ + link.TypeHash, hashes[i][4:]},
			request{infos[i].inter + link.InterfaceMethods + 8, counts[i][:]})
	}
	if err := r.readAll(requests); err != nil {
		return nil, err
	}
	requests = requests[:0]
	funs := make([][]byte, len(addrs))
	for i, a := range addrs {
		if a == 0 {
			continue
		}
		infos[i].hash = le.Uint32(hashes[i][:4]) ^ le.Uint32(hashes[i][4:])
		n := le.Uint64(counts[i][:])
		if n == 0 || n > 1<<16 {
			return nil, wrong("the itab at %#x is of an interface with %d methods", a, n)
		}
		funs[i] = make([]byte, 8*n)
		requests = append(requests, request{a + link.ITabFun, funs[i]})
	}
	if err := r.readAll(requests); err != nil {
		return nil, err
	}
	for i := range infos {
		infos[i].fun = scan.Words(funs[i])
	}
	return infos, nil
}

// size is the size of the itab in bytes.
func (t *itabInfo) size() uint64 { return link.ITabFun + 8*uint64(len(t.fun)) }

// absent tells whether the itab says that the type does not implement the
// interface: the runtime keeps that too.
func (t *itabInfo) absent() bool { return len(t.fun) == 0 || t.fun[0] == 0 }

// find returns the itab of a pair in the table and its slot, or nil.
func (r *Runtime) find(t *itabTable, inter, typ uint64, hash uint32) (found *itabInfo, slot int, err error) {
	slot = t.search(hash, func(e uint64) bool {
		if e == 0 {
			return true
		}
		var infos []itabInfo
		if infos, err = r.itabs([]uint64{e}); err != nil {
			return true
		}
		if infos[0].inter != inter || infos[0].typ != typ {
			return false
		}
		found = &infos[0]
		return true
	})
	return found, slot, err
}

// Itab looks a pair up in the runtime's table of itabs; it is the FindItab of
// link.ProcessTarget. The target may run: what is in the table stays. inter
// and typ must be types of the target.
func (r *Runtime) Itab(inter, typ uint64) (addr uint64, ok bool, err error) {
	interHash, err := r.word32(inter + link.TypeHash)
	if err != nil {
		return 0, false, err
	}
	typeHash, err := r.word32(typ + link.TypeHash)
	if err != nil {
		return 0, false, err
	}
	t, err := r.table()
	if err != nil {
		return 0, false, err
	}
	found, _, err := r.find(t, inter, typ, interHash^typeHash)
	if err != nil || found == nil || found.absent() {
		return 0, false, err
	}
	return found.addr, true, nil
}

// publish puts a module's own itabs into the table.
func (r *Runtime) publish(l *Ledger, own []link.Itab, alloc Alloc) ([]Write, error) {
	if len(own) == 0 {
		return nil, nil
	}
	t, err := r.table()
	if err != nil {
		return nil, err
	}
	var rest []link.Itab
	replaced := make(map[int]link.Itab)
	for _, o := range own {
		found, slot, err := r.find(t, o.Inter, o.Type, o.Hash)
		switch {
		case err != nil:
			return nil, err
		case found == nil:
			rest = append(rest, o)
		case found.absent():
			// The type did not implement the interface as the program was
			// linked; with the module it does.
			replaced[slot] = o
		default:
			return nil, ErrStale
		}
	}
	if t.count+uint64(len(rest)) > maxSlots(uint64(len(t.entries))) {
		return r.growTable(l, t, rest, replaced, alloc)
	}
	count := t.count
	for slot, o := range replaced {
		t.entries[slot] = o.Addr
	}
	for _, o := range rest {
		if !t.insert(o.Addr, o.Hash) {
			return nil, wrong("its table of itabs is full with %d entries", t.count)
		}
	}
	return t.writes(r, count), nil
}

// growTable makes a bigger table in a block of ours. The next time the runtime
// grows its table it makes another one on its heap, and this one is out of use.
func (r *Runtime) growTable(l *Ledger, t *itabTable, own []link.Itab, replaced map[int]link.Itab, alloc Alloc) ([]Write, error) {
	for slot, o := range replaced {
		t.entries[slot] = 0
		own = append(own, o)
	}
	infos, err := r.itabs(t.entries)
	if err != nil {
		return nil, err
	}
	size := uint64(len(t.entries))
	for t.count+uint64(len(own)) > size/2 {
		size *= 2
	}
	grown := &itabTable{entries: make([]uint64, size)}
	for i := range infos {
		if infos[i].addr != 0 {
			grown.insert(infos[i].addr, infos[i].hash)
		}
	}
	for _, o := range own {
		grown.insert(o.Addr, o.Hash)
	}
	f := r.layout.itabTable
	data := make([]byte, f.entries+8*size)
	le.PutUint64(data[f.size:], size)
	le.PutUint64(data[f.count:], grown.count)
	copy(data[f.entries:], bytesOf(grown.entries...))
	addr, err := alloc(uint64(len(data)))
	if err != nil {
		return nil, err
	}
	l.retire(&l.Table)
	l.Table = Block{addr, uint64(len(data))}
	return []Write{{Addr: addr, New: data}, change(r.itabTable, t.addr, addr)}, nil
}

// retract takes out of the table every itab that is the module's or of its
// types, and takes the module's methods out of the itabs that the runtime has
// made of the program's own types.
func (r *Runtime) retract(l *Ledger, m *Registration) ([]Write, error) {
	t, err := r.table()
	if err != nil {
		return nil, err
	}
	if t.addr != l.Table.Addr {
		l.retire(&l.Table) // the runtime has a table of its own again
	}
	infos, err := r.itabs(t.entries)
	if err != nil {
		return nil, err
	}
	text, err := r.word(r.firstmoduledata + r.layout.moduledata.text)
	if err != nil {
		return nil, err
	}
	in := m.Range()
	count := t.count
	var writes []Write
	for i := range infos {
		info := &infos[i]
		switch {
		case info.addr == 0:
		case m.owns(info):
			t.entries[i], infos[i] = 0, itabInfo{}
			t.count--
		default:
			for k, fun := range info.fun {
				slot := info.addr + link.ITabFun + 8*uint64(k)
				if in.Holds(fun, 1) && m.filling(slot) == nil {
					writes = append(writes, change(slot, fun, r.heir(l, m, text, fun)))
				}
			}
		}
	}
	t.mend(infos)
	if len(l.Modules) == 0 && l.Table != (Block{}) {
		home, err := r.restoreTable(l, t, infos)
		return append(writes, home...), err
	}
	return append(writes, t.writes(r, count)...), nil
}

// owns tells whether an itab is the module's, or of one of its types.
func (m *Registration) owns(t *itabInfo) bool {
	in := m.Range()
	return in.Holds(t.addr, 1) || in.Holds(t.inter, 1) || in.Holds(t.typ, 1)
}

// heir returns where the method at fun, which m brought for a pruned one, leads
// when m goes: to what another module brought for the same, or nowhere.
func (r *Runtime) heir(l *Ledger, m *Registration, text, fun uint64) uint64 {
	for _, f := range m.Fills {
		if target(f.New, text) != fun {
			continue
		}
		for _, o := range l.Modules {
			if other := o.filling(f.Addr); other != nil {
				return target(other, text)
			}
		}
	}
	return r.unreachableMethod
}

// target returns where a method slot leads: it holds an address or an offset
// from the program's text.
func target(slot []byte, text uint64) uint64 {
	if len(slot) == 4 {
		return text + uint64(int64(int32(le.Uint32(slot))))
	}
	return le.Uint64(slot)
}

// mend makes every entry findable again after some were taken out: one whose
// probe sequence has got a hole before it moves into that. infos are the
// entries' itabs, slot by slot; they move along.
func (t *itabTable) mend(infos []itabInfo) {
	for moved := true; moved; {
		moved = false
		for i, e := range t.entries {
			if e == 0 {
				continue
			}
			j := t.search(infos[i].hash, func(x uint64) bool { return x == 0 || x == e })
			if j != i {
				t.entries[j], t.entries[i] = e, 0
				infos[j], infos[i] = infos[i], itabInfo{}
				moved = true
			}
		}
	}
}

// restoreTable moves the entries back into the table that the program started
// with, so that the runtime uses none of our memory.
func (r *Runtime) restoreTable(l *Ledger, t *itabTable, infos []itabInfo) ([]Write, error) {
	home, err := r.tableAt(r.itabTableInit)
	if err != nil {
		return nil, err
	}
	if n := uint64(len(home.entries)); t.count > maxSlots(n) {
		return nil, finding.Refuse(finding.InUse,
			fmt.Sprintf("the Go runtime keeps its table of itabs in Darn's memory, and its %d entries don't fit into the program's own of %d", t.count, n),
			"keep the patch loaded; it is inactive")
	}
	count := home.count
	clear(home.entries)
	home.count = 0
	for i := range infos {
		if infos[i].addr != 0 {
			home.insert(infos[i].addr, infos[i].hash)
		}
	}
	l.retire(&l.Table)
	return append(home.writes(r, count), change(r.itabTable, t.addr, home.addr)), nil
}
