package goruntime

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
)

// References returns who holds an address in a module, or in one of the
// ledger's Retired blocks, that matters when their memory goes. The target
// must be halted, and the module not yet unregistered: writes are what
// Unregister returned, l what it left; words that these are about to change
// don't count, and neither does what is in own, the memory of which Alloc gives.
// Words that may be changed without harm (caches in the program's own code) don't
// count either: cleanup is what must be written, together with writes, to empty
// them.
//
// What counts is what lives: objects on the heap that are not free, variables,
// registers, and of stacks what their frames still use. Call ForceGC before,
// or garbage that the collector has not yet found counts too. Program counters
// count only where execution will go on; elsewhere (profiles, recorded stacks)
// they are numbers.
func (r *Runtime) References(h *process.Halt, l *Ledger, m *Registration, writes []Write, own []Range) (holders []Holder, cleanup []Write, err error) {
	s, err := r.survey(h, 1<<40)
	if err != nil {
		return nil, nil, err
	}
	q := &query{survey: s, module: m}
	if err := q.prepare(l, writes, own); err != nil {
		return nil, nil, err
	}
	q.found = q.registers(q.in)
	if err := q.lookAtStacks(); err != nil {
		return nil, nil, err
	}
	if err := q.memory(); err != nil {
		return nil, nil, err
	}
	return q.found, q.cleanup, nil
}

// query is one search for references.
type query struct {
	*survey
	heap    *heap
	module  *Registration
	in      *scan.Set // what is looked for
	text    Range
	types   Range
	entries map[uint64]bool // of the module's functions
	skip    *scan.Set       // where is not looked
	noPtr   *scan.Set       // variables without pointers
	caches  []cacheHit

	found   []Holder
	cleanup []Write
}

// cacheHit is a word in a heap object without pointers: perhaps in a cache of
// type assertions.
type cacheHit struct {
	object object
	holder Holder
}

// prepare decides what to look for and where.
func (q *query) prepare(l *Ledger, writes []Write, own []Range) error {
	r := q.r
	var err error
	if q.heap, err = q.snapshot.heap(); err != nil {
		return err
	}
	q.heap.bitmaps = q.heap.checkBitmaps(q.goroutines)
	d := q.snapshot.moduledata(q.module.Moduledata)
	q.text, q.types = Range{Start: d.text, End: d.etext}, d.types
	if d.nftab > maxSlice/8 {
		return wrong("the module at %#x has a table of %d functions", q.module.Base, d.nftab)
	}
	ftab, err := r.words(d.ftab, d.nftab)
	if err != nil {
		return err
	}
	q.entries = make(map[uint64]bool, len(ftab))
	for _, e := range ftab {
		q.entries[d.text+e&0xffffffff] = true // functab.entryoff
	}

	looked := slices.Clone(q.module.Segments)
	skip := []Range{q.module.Range()}
	for _, b := range l.Retired {
		looked = append(looked, b.Range())
		skip = append(skip, b.Range())
	}
	skip = append(skip, l.List.Range(), l.Table.Range())
	skip = append(skip, own...)
	for _, w := range writes {
		skip = append(skip, Range{Start: w.Addr, End: w.Addr + uint64(len(w.New))})
	}
	// An itab that the runtime has made of one of the module's types is outside
	// the module, but as good as in it.
	t, err := r.table()
	if err != nil {
		return err
	}
	infos, err := r.itabs(t.entries)
	if err != nil {
		return err
	}
	for i := range infos {
		if info := &infos[i]; info.addr != 0 && q.module.owns(info) && !q.module.Range().Holds(info.addr, 1) {
			tab := Range{Start: info.addr, End: info.addr + info.size()}
			looked, skip = append(looked, tab), append(skip, tab)
			q.blank(info)
		}
	}
	// The table that the program started with is not looked at any more once
	// the runtime has made a bigger one, and keeps its entries.
	if t.addr != r.itabTableInit {
		home, err := r.tableAt(r.itabTableInit)
		if err != nil {
			return err
		}
		skip = append(skip, Range{Start: home.addr, End: home.addr + r.layout.itabTable.entries + 8*uint64(len(home.old))})
	}
	// Where a goroutine started is a record; that it still runs is seen on its
	// stack. A dead one's structure means nothing.
	for i := range q.goroutines {
		g := &q.goroutines[i]
		at := g.Addr + r.layout.g.startPC
		if skip = append(skip, Range{Start: at, End: at + 8}); g.Dead() {
			skip = append(skip, Range{Start: g.Addr, End: g.Addr + r.layout.g.size})
		}
	}
	stacks, err := r.profiled()
	if err != nil {
		return err
	}
	skip = append(skip, stacks...)
	numbers, err := q.heap.bookkeeping(q.queuesCleanups())
	if err != nil {
		return err
	}
	skip = append(skip, numbers...)
	// The write barrier's buffers are not emptied, only used from the start
	// again; while the collector rests they hold nothing.
	ps, err := r.slice(r.allp)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if at := p + r.layout.p.barrier; p != 0 {
			skip = append(skip, Range{Start: at, End: at + r.layout.p.barrierSize})
		}
	}
	// Threads' stacks outside Go's heap: their used parts are looked at by
	// themselves. (Those on the heap are no objects.)
	for i := range q.threads {
		t := &q.threads[i]
		if q.heap.arena(t.SP) == 0 {
			skip = append(skip, q.deadStack(t.SP))
		}
		if m := q.byThread[t.ID]; m != nil && q.heap.arena(m.g0.Stack.Start) == 0 {
			skip = append(skip, m.g0.Stack)
		}
	}
	for i := range q.stacks {
		skip = append(skip, q.stacks[i].Range)
	}
	var noPtr []Range
	for _, d := range q.snapshot.chain() {
		noPtr = append(noPtr, d.noptrdata, d.noptrbss)
	}
	q.in, q.skip, q.noPtr = scan.NewSet(looked), scan.NewSet(skip), scan.NewSet(noPtr)
	return nil
}

// profiled returns the stacks that the memory, block and mutex profiles count
// by. They stay for ever, also those of modules that were here before.
func (r *Runtime) profiled() (stacks []Range, err error) {
	l := &r.layout.bucket
	for _, list := range r.buckets {
		if list == 0 {
			continue
		}
		bucket, err := r.word(list)
		for n := 0; bucket != 0 && err == nil; n++ {
			w, err := r.words(bucket, l.size/8)
			if err != nil {
				return nil, err
			}
			if n > maxSlice/8 || w[l.depth/8] > maxSlice/8 {
				return nil, wrong("the profile's bucket at %#x has a stack of %d", bucket, w[l.depth/8])
			}
			stacks = append(stacks, Range{Start: bucket + l.size, End: bucket + l.size + 8*w[l.depth/8]})
			bucket = w[l.next/8]
		}
		if err != nil {
			return nil, err
		}
	}
	return stacks, nil
}

// blank adds to the cleanup what empties an itab of a type of the module's that
// the runtime has made: its memory stays, and would seem to refer to the next
// module that comes to lie there.
func (q *query) blank(info *itabInfo) {
	clear := func(offset, word uint64) {
		if word != 0 {
			q.cleanup = append(q.cleanup, change(info.addr+offset, word, 0))
		}
	}
	clear(link.ITabInter, info.inter)
	clear(link.ITabType, info.typ)
	for i, fun := range info.fun {
		clear(link.ITabFun+8*uint64(i), fun)
	}
}

// lookAtStacks looks at the goroutines, and at the threads' own stacks.
func (q *query) lookAtStacks() error {
	for i := range q.goroutines {
		g := &q.goroutines[i]
		if g.Dead() {
			continue
		}
		if !g.onThread() && q.in.Holds(g.PC) {
			q.found = append(q.found, q.atPC(g))
		}
		if q.in.Holds(g.context) {
			q.found = append(q.found, Holder{Goroutine: g.ID, Value: g.context,
				Where: fmt.Sprintf("%v is about to call a closure at %#x", g, g.context)})
		}
	}
	return q.onStacks(q.in, q.types, func(p *part, at int, seen sighting) {
		code := q.text.Holds(p.words[at], 1)
		switch {
		case seen.use == returnPC:
			q.found = append(q.found, q.returning(p, at))
		case seen.use == unsure || seen.use == live && !code:
			q.found = append(q.found, q.onStack(p, at, seen.fn))
		}
	})
}

// memory looks at everything else that can be written.
func (q *query) memory() error {
	for i := range q.mappings {
		m := &q.mappings[i]
		if !strings.HasPrefix(m.Perms, "rw") || strings.HasPrefix(m.Path, "/dev/") && !strings.HasPrefix(m.Path, "/dev/zero") {
			continue
		}
		if err := scan.Memory(q.r.mem, m, q.in, q.word); err != nil {
			return fmt.Errorf("reading %#x to %#x: %w", m.Start, m.End, err)
		}
	}
	return q.settleCaches()
}

// word judges a word in writable memory.
func (q *query) word(addr, value uint64) {
	if q.skip.Holds(addr) {
		return
	}
	code := q.text.Holds(value, 1)
	if code && !q.entries[value] {
		return // no function value: a recorded program counter
	}
	holder := Holder{Value: value, At: addr}
	if q.heap.arena(addr) == 0 {
		if q.noPtr.Holds(addr) && !(q.types.Holds(value, 1) && value%8 == 0) {
			return
		}
		if q.heap.staleType(addr) {
			return
		}
		holder.Where = q.variable(addr, value)
		q.found = append(q.found, holder)
		return
	}
	o, ok := q.heap.object(addr)
	if !ok {
		return
	}
	if q.heap.noReference(o, addr, value, code) {
		return
	}
	holder.Where = fmt.Sprintf("a heap object of %d bytes at %#x has %s", o.size, o.start, q.snapshot.describe(value))
	if !o.noPointers || code && addr == o.start {
		// The latter is a closure that captured no pointer.
		q.found = append(q.found, holder)
		return
	}
	if q.types.Holds(value, 1) && value%8 == 0 {
		q.caches = append(q.caches, cacheHit{o, holder})
	}
}

// variable describes a word outside the heap.
func (q *query) variable(addr, value uint64) string {
	if s, ok := q.r.symbolAt(addr); ok {
		if off := addr - q.r.bias - s.Addr; off > 0 {
			return fmt.Sprintf("variable %s+%#x has %s", s.Name, off, q.snapshot.describe(value))
		}
		return fmt.Sprintf("variable %s has %s", s.Name, q.snapshot.describe(value))
	}
	of := ""
	if m := q.mapping(addr); m != nil {
		of = fmt.Sprintf(" mapped at %#x to %#x", m.Start, m.End)
		if m.Path != "" {
			of = " of " + m.Path
		}
	}
	return fmt.Sprintf("memory%s has at %#x %s", of, addr, q.snapshot.describe(value))
}

// symbolAt returns the symbol of the program that holds addr.
func (r *Runtime) symbolAt(addr uint64) (exe.Symbol, bool) {
	x, err := r.executable()
	if err != nil {
		return exe.Symbol{}, false
	}
	return x.SymbolAt(addr - r.bias)
}

// settleCaches decides about words in heap objects without pointers. The
// compiler gives every type switch and assertion on interfaces a cache of
// types that came by (abi.TypeAssert and abi.InterfaceSwitch, runtime
// buildTypeAssertCache): such an object, to which a variable "..typeAssert.N"
// leads. Emptying it costs the program nothing but a look into the table of
// itabs.
func (q *query) settleCaches() error {
	if len(q.caches) == 0 {
		return nil
	}
	slices.SortFunc(q.caches, func(a, b cacheHit) int { return cmp.Compare(a.object.start, b.object.start) })
	var objects []Range
	for _, c := range q.caches {
		objects = append(objects, Range{Start: c.object.start, End: c.object.start + 1})
	}
	caches := make(map[uint64]bool) // objects that are one
	in := scan.NewSet(objects)
	emptied := make(map[uint64]bool)
	for i := range q.mappings {
		m := &q.mappings[i]
		if !strings.HasPrefix(m.Perms, "rw") || q.heap.arena(m.Start) != 0 {
			continue
		}
		err := scan.Memory(q.r.mem, m, in, func(addr, value uint64) {
			s, ok := q.r.symbolAt(addr)
			if !ok || s.Addr != addr-q.r.bias || emptied[addr] {
				return
			}
			var empty uint64
			switch {
			case strings.Contains(s.Name, "..typeAssert."):
				empty = q.r.emptyTypeAssert
			case strings.Contains(s.Name, "..interfaceSwitch."):
				empty = q.r.emptyInterfaceSwitch
			}
			if empty != 0 {
				emptied[addr], caches[value] = true, true
				q.cleanup = append(q.cleanup, change(addr, value, empty))
			}
		})
		if err != nil {
			return err
		}
	}
	for _, c := range q.caches {
		if !caches[c.object.start] {
			q.found = append(q.found, c.holder)
		}
	}
	return nil
}
