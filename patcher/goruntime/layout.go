package goruntime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/godwarf"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
)

// layout holds the offsets of the fields that this package reads, in bytes,
// from the start of their structure. They differ between Go versions: all come
// from the target's own debugging information.
type layout struct {
	g struct {
		size, end                   uint64 // end of the last field read
		stackLo, stackHi            uint64
		schedSP, schedPC, schedCtxt uint64
		syscallSP, syscallPC        uint64
		m, status, id, startPC      uint64
		labels                      uint64
		deferred, panicked          uint64
	}
	m struct {
		end                       uint64
		g0, gsignal, curg, procid uint64
		next                      uint64 // alllink
		cache                     uint64 // pcvalueCache.entries
	}
	cacheEntry struct {
		size, count uint64
	}
	moduledata struct {
		size                                       uint64
		text, etext, minpc, maxpc                  uint64
		pctab, pclntable, ftab, findfunctab        uint64
		funcnametab, types, etypes, gofunc, next   uint64
		data, edata, bss, ebss                     uint64
		noptrdata, enoptrdata, noptrbss, enoptrbss uint64
	}
	fn struct {
		size                                          uint64 // up to the pcdata array
		entry, name, args, deferreturn, pcsp, npcdata uint64
		flag, nfuncdata                               uint64
	}
	deferRecord struct{ end, fn, link uint64 }
	span        struct {
		size, end                                uint64
		start, pages, count, free                uint64 // startAddr, npages, nelems, freeindex
		allocBits, class, state, elem, largeType uint64
		inlineMarks                              uint64 // size of spanInlineMarkBits, 0 without
	}
	bucket    struct{ size, next, depth uint64 } // allnext, nstk
	itabTable struct{ size, count, entries uint64 }
	p         struct{ barrier, barrierSize uint64 } // wbBuf.buf
	arena     struct {
		spans, pages uint64 // heapArena.spans, and how many
	}
}

// place is a global variable of the runtime.
type place struct {
	addr uint64
	typ  godwarf.Type
}

// fields looks types and variables of the target up, and keeps the first
// thing that it did not find.
type fields struct {
	h   *process.Halt
	r   *Runtime
	err error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = finding.Refuse(finding.UnsupportedTarget,
			"the program's debugging information does not describe its Go runtime as Darn knows it: "+fmt.Sprintf(format, args...),
			"build the target with Go 1.24 to 1.26 and without -ldflags=-w")
	}
}

// typ returns a type by its name.
func (f *fields) typ(name string) godwarf.Type {
	t, err := f.h.Target().BinInfo().FindType(name)
	if err != nil {
		f.fail("no type %s (%v)", name, err)
		return nil
	}
	return godwarf.ResolveTypedef(t)
}

// variable returns a package-level variable by its name.
func (f *fields) variable(name string) place {
	v, err := f.h.Eval(name)
	if err != nil {
		f.fail("no variable %s (%v)", name, err)
		return place{}
	}
	return place{v.Addr, godwarf.ResolveTypedef(v.DwarfType)}
}

// optional is variable for one that a program may lack.
func (f *fields) optional(name string) place {
	before := f.err
	p := f.variable(name)
	f.err = before
	return p
}

// symbol returns the address of a variable that the linker defines: up to Go
// 1.25 some have no debugging information.
func (f *fields) symbol(name string) uint64 {
	if p := f.optional(name); p.addr != 0 {
		return p.addr
	}
	x, err := f.r.executable()
	if err != nil {
		f.fail("%v", err)
		return 0
	}
	s, ok, _ := x.Symbol(name)
	if !ok {
		f.fail("no symbol %s", name)
		return 0
	}
	return s.Addr + f.r.bias
}

// functions returns the addresses of functions by their names, 0 for those
// that the program lacks.
func (f *fields) functions(names ...string) []uint64 {
	addrs := make([]uint64, len(names))
	all := f.h.Target().BinInfo().Functions
	for i := range all {
		if n := slices.Index(names, all[i].Name); n >= 0 {
			addrs[n] = all[i].Entry
		}
	}
	return addrs
}

// at returns the offset of a field, given as a path of names with dots, and
// extends *end to its end.
func (f *fields) at(t godwarf.Type, path string, end *uint64) uint64 {
	off, ft, ok := fieldOf(t, path)
	if !ok {
		name := "?"
		if t != nil {
			name = t.Common().Name
		}
		f.fail("no field %s.%s", name, path)
		return 0
	}
	if end != nil {
		*end = max(*end, off+uint64(ft.Size()))
	}
	return off
}

// in returns the address of a field of a variable.
func (f *fields) in(p place, path string) uint64 { return p.addr + f.at(p.typ, path, nil) }

// fieldOf finds a field by its path.
func fieldOf(t godwarf.Type, path string) (off uint64, ft godwarf.Type, ok bool) {
	for name := range strings.SplitSeq(path, ".") {
		s, isStruct := t.(*godwarf.StructType)
		if !isStruct {
			return 0, nil, false
		}
		t = nil
		for _, field := range s.Field {
			if field.Name == name {
				off += uint64(field.ByteOffset)
				t = godwarf.ResolveTypedef(field.Type)
			}
		}
		if t == nil {
			return 0, nil, false
		}
	}
	return off, t, true
}

// read collects the layout.
func (l *layout) read(f *fields) {
	t := f.typ("runtime.g")
	g := &l.g
	if t != nil {
		g.size = uint64(t.Size())
	}
	g.stackLo, g.stackHi = f.at(t, "stack.lo", &g.end), f.at(t, "stack.hi", &g.end)
	g.schedSP, g.schedPC, g.schedCtxt = f.at(t, "sched.sp", &g.end), f.at(t, "sched.pc", &g.end), f.at(t, "sched.ctxt", &g.end)
	g.syscallSP, g.syscallPC = f.at(t, "syscallsp", &g.end), f.at(t, "syscallpc", &g.end)
	g.m, g.status, g.id = f.at(t, "m", &g.end), f.at(t, "atomicstatus.value", &g.end), f.at(t, "goid", &g.end)
	g.startPC = f.at(t, "startpc", &g.end)
	g.labels = f.at(t, "labels", nil)
	g.deferred, g.panicked = f.at(t, "_defer", &g.end), f.at(t, "_panic", &g.end)

	t = f.typ("runtime.m")
	m := &l.m
	m.g0, m.gsignal, m.curg = f.at(t, "g0", &m.end), f.at(t, "gsignal", &m.end), f.at(t, "curg", &m.end)
	m.procid, m.next = f.at(t, "procid", &m.end), f.at(t, "alllink", &m.end)
	m.cache = f.at(t, "pcvalueCache.entries", &m.end)
	if _, entries, ok := fieldOf(t, "pcvalueCache.entries"); ok {
		var array *godwarf.ArrayType
		n := uint64(1)
		for ; ; entries = godwarf.ResolveTypedef(array.Type) {
			if array, ok = entries.(*godwarf.ArrayType); !ok {
				break
			}
			n *= uint64(array.Count)
		}
		l.cacheEntry.size, l.cacheEntry.count = uint64(entries.Size()), n
	}

	t = f.typ("runtime.moduledata")
	d := &l.moduledata
	if t != nil {
		d.size = uint64(t.Size())
	}
	for _, x := range []struct {
		off  *uint64
		name string
	}{
		{&d.text, "text"}, {&d.etext, "etext"}, {&d.minpc, "minpc"}, {&d.maxpc, "maxpc"},
		{&d.pctab, "pctab"}, {&d.pclntable, "pclntable"}, {&d.ftab, "ftab"}, {&d.findfunctab, "findfunctab"},
		{&d.types, "types"}, {&d.etypes, "etypes"}, {&d.gofunc, "gofunc"}, {&d.funcnametab, "funcnametab"}, {&d.next, "next"},
		{&d.data, "data"}, {&d.edata, "edata"}, {&d.bss, "bss"}, {&d.ebss, "ebss"},
		{&d.noptrdata, "noptrdata"}, {&d.enoptrdata, "enoptrdata"}, {&d.noptrbss, "noptrbss"}, {&d.enoptrbss, "enoptrbss"},
	} {
		*x.off = f.at(t, x.name, nil)
	}

	t = f.typ("runtime._func")
	fn := &l.fn
	fn.entry, fn.name = f.at(t, "entryOff", nil), f.at(t, "nameOff", nil)
	fn.args, fn.deferreturn = f.at(t, "args", nil), f.at(t, "deferreturn", nil)
	fn.pcsp, fn.npcdata = f.at(t, "pcsp", nil), f.at(t, "npcdata", nil)
	fn.flag, fn.nfuncdata = f.at(t, "flag", nil), f.at(t, "nfuncdata", nil)
	if t != nil {
		fn.size = uint64(t.Size())
	}

	t = f.typ("runtime._defer")
	r := &l.deferRecord
	r.fn, r.link = f.at(t, "fn", &r.end), f.at(t, "link", &r.end)

	t = f.typ("runtime.mspan")
	s := &l.span
	if t != nil {
		s.size = uint64(t.Size())
	}
	s.start, s.pages, s.count = f.at(t, "startAddr", &s.end), f.at(t, "npages", &s.end), f.at(t, "nelems", &s.end)
	s.free, s.allocBits = f.at(t, "freeindex", &s.end), f.at(t, "allocBits", &s.end)
	s.class, s.state, s.elem = f.at(t, "spanclass", &s.end), f.at(t, "state.s.value", &s.end), f.at(t, "elemsize", &s.end)
	s.largeType = f.at(t, "largeType", &s.end)
	before := f.err
	if marks := f.typ("runtime.spanInlineMarkBits"); marks != nil { // since Go 1.25, if at all
		s.inlineMarks = uint64(marks.Size())
	}
	f.err = before

	t = f.typ("runtime.bucket")
	l.bucket.next, l.bucket.depth = f.at(t, "allnext", &l.bucket.size), f.at(t, "nstk", &l.bucket.size)

	t = f.typ("runtime.itabTableType")
	l.itabTable.size, l.itabTable.count, l.itabTable.entries = f.at(t, "size", nil), f.at(t, "count", nil), f.at(t, "entries", nil)

	t = f.typ("runtime.p")
	l.p.barrier = f.at(t, "wbBuf.buf", &l.p.barrierSize)
	l.p.barrierSize -= l.p.barrier

	t = f.typ("runtime.heapArena")
	l.arena.spans = f.at(t, "spans", nil)
	if _, spans, ok := fieldOf(t, "spans"); ok {
		if array, ok := spans.(*godwarf.ArrayType); ok {
			l.arena.pages = uint64(array.Count)
		}
	}
	l.checkABI(f)
}

// checkABI compares the offsets that package link has by heart with the
// target's.
func (l *layout) checkABI(f *fields) {
	typ, inter, itab := f.typ("internal/abi.Type"), f.typ("internal/abi.InterfaceType"), f.typ("internal/abi.ITab")
	for _, x := range []struct {
		t    godwarf.Type
		path string
		want uint64
	}{
		{typ, "Size_", link.TypeSize}, {typ, "Hash", link.TypeHash}, {typ, "TFlag", link.TypeTFlag},
		{typ, "Kind_", link.TypeKind}, {typ, "Str", link.TypeStr}, {inter, "Methods", link.InterfaceMethods},
		{itab, "Inter", link.ITabInter}, {itab, "Type", link.ITabType}, {itab, "Hash", link.ITabHash}, {itab, "Fun", link.ITabFun},
	} {
		if got := f.at(x.t, x.path, nil); f.err == nil && got != x.want {
			f.fail("%s.%s is at %d instead of %d", x.t.Common().Name, x.path, got, x.want)
		}
	}
}
