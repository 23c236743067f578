package emit

import (
	"encoding/binary"
	"fmt"
	"sort"

	"github.com/darn-dev/darn/patcher/finding"
)

// The line table (pclntab) of Go 1.20 to 1.26: runtime/symtab.go, pcHeader;
// runtime/runtime2.go, _func; internal/abi/symtab.go. cmd/link/internal/ld/pcln.go
// writes it.
const (
	pcMagic      = 0xfffffff1
	pcHeaderSize = 72
	recordSize   = 44 // of runtime._func without its lists
)

// Indices of the tables of a function (internal/abi/symtab.go).
const (
	pcdataInlTree     = 2
	pcdataArgLive     = 3
	funcArgsMaps      = 0
	funcLocalsMaps    = 1
	funcStackObjects  = 2
	funcInlTree       = 3
	funcOpenDefers    = 4
	funcArgInfo       = 5
	funcArgLiveInfo   = 6
	funcWrapInfo      = 7
	noTable           = ^uint32(0)
	flagAssembly      = 4 // abi.FuncFlagAsm
	sizeStackObject   = 16
	sizeInlinedCall   = 16
	funcTabBucket     = 4096 // abi.FuncTabBucketSize
	funcTabSubBuckets = 16
)

// lineTable is the line table of a whole program, as its linker wrote it.
type lineTable struct {
	data              []byte // from its header on
	names, cus, files []byte
	pcs, funcs        []byte
	count             int
	gofunc, rodata    uint64 // in the space: what offsets of funcdata, of masks count from
	space             *space
	textStart         bool // the header holds the address of the text
}

// record is a runtime._func.
type record struct {
	entry, name, args, deferReturn uint32
	pcsp, pcfile, pcln             uint32
	cu                             uint32
	startLine                      uint32
	id, flag                       uint8
	pcdata, funcdata               []uint32
}

// readLineTable reads the header of the object's line table.
func readLineTable(s *space, md *moduledataLayout) (*lineTable, error) {
	bad := func(why string) error {
		return finding.Refuse(finding.UnsupportedBuild, "the line table of "+s.obj.Path+" is not of a kind known: "+why, "build with Go 1.24, 1.25 or 1.26")
	}
	sym, ok := s.obj.Lookup("runtime.pclntab")
	mod, okMod := s.obj.Lookup("runtime.firstmoduledata")
	if !ok || !okMod {
		return nil, bad("it has no symbol")
	}
	x := &s.obj.Symbols[sym]
	data := s.obj.Sections[x.Section].Data[x.Offset:]
	le := binary.LittleEndian
	if len(data) < pcHeaderSize || le.Uint32(data) != pcMagic || data[6] != 1 || data[7] != 8 {
		return nil, bad("its header is another")
	}
	l := &lineTable{data: data, space: s, count: int(le.Uint64(data[8:]))}
	for i, part := range []*[]byte{&l.names, &l.cus, &l.files, &l.pcs, &l.funcs} {
		off := le.Uint64(data[32+8*i:])
		if off > uint64(len(data)) {
			return nil, bad("it is too short")
		}
		*part = data[off:]
	}
	if l.count <= 0 || l.count*8+4 > len(l.funcs) {
		return nil, bad("it is too short")
	}
	at := s.symbol(mod)
	l.gofunc, l.rodata = s.Pointer(at+md.offset["gofunc"]), s.Pointer(at+md.offset["rodata"])
	if l.gofunc == 0 || l.rodata == 0 {
		return nil, bad("the module data does not lead to it")
	}
	l.textStart = s.pointerReloc(s.symbol(sym)+24) != nil
	return l, nil
}

// find returns the record of the function at an offset from runtime.text.
func (l *lineTable) find(entry uint64) (*record, error) {
	le := binary.LittleEndian
	i := sort.Search(l.count, func(i int) bool { return uint64(le.Uint32(l.funcs[8*i:])) >= entry })
	if i == l.count || uint64(le.Uint32(l.funcs[8*i:])) != entry {
		return nil, fmt.Errorf("the line table has no function at text offset %#x", entry)
	}
	off := uint64(le.Uint32(l.funcs[8*i+4:]))
	if off+recordSize > uint64(len(l.funcs)) {
		return nil, fmt.Errorf("the line table's record at %#x lies outside", off)
	}
	d := l.funcs[off:]
	r := &record{
		entry: le.Uint32(d), name: le.Uint32(d[4:]), args: le.Uint32(d[8:]), deferReturn: le.Uint32(d[12:]),
		pcsp: le.Uint32(d[16:]), pcfile: le.Uint32(d[20:]), pcln: le.Uint32(d[24:]),
		cu: le.Uint32(d[32:]), startLine: le.Uint32(d[36:]), id: d[40], flag: d[41],
	}
	npc, nfunc := int(le.Uint32(d[28:])), int(d[43])
	if npc > 64 || recordSize+4*(npc+nfunc) > len(d) {
		return nil, fmt.Errorf("the line table's record at %#x has %d+%d tables", off, npc, nfunc)
	}
	for k := range npc + nfunc {
		v := le.Uint32(d[recordSize+4*k:])
		if k < npc {
			r.pcdata = append(r.pcdata, v)
		} else {
			r.funcdata = append(r.funcdata, v)
		}
	}
	return r, nil
}

// values calls visit for each run of a table that gives each instruction a
// value, and returns the table's bytes. See runtime.step for the encoding.
func (l *lineTable) values(off uint32, visit func(value int32)) ([]byte, error) {
	if uint64(off) >= uint64(len(l.pcs)) {
		return nil, fmt.Errorf("a table at %#x of the line table lies outside", off)
	}
	d := l.pcs[off:]
	value, at := int32(-1), 0
	for first := true; ; first = false {
		delta, n := binary.Uvarint(d[at:])
		if n <= 0 {
			return nil, fmt.Errorf("a table at %#x of the line table has no end", off)
		}
		at += n
		if delta == 0 && !first {
			return d[:at], nil
		}
		if delta&1 != 0 {
			delta = ^(delta >> 1)
		} else {
			delta >>= 1
		}
		value += int32(delta)
		visit(value)
		if _, n = binary.Uvarint(d[at:]); n <= 0 {
			return nil, fmt.Errorf("a table at %#x of the line table has no end", off)
		}
		at += n
	}
}

// most returns the greatest value in a table, -1 if there is no table.
func (l *lineTable) most(r *record, index int) (int32, error) {
	most := int32(-1)
	if index >= len(r.pcdata) || r.pcdata[index] == 0 {
		return most, nil
	}
	_, err := l.values(r.pcdata[index], func(v int32) { most = max(most, v) })
	return most, err
}

// cstring returns the zero-terminated string at off.
func cstring(data []byte, off uint32) (string, error) {
	if uint64(off) < uint64(len(data)) {
		for i, c := range data[off:] {
			if c == 0 {
				return string(data[off : int(off)+i]), nil
			}
		}
	}
	return "", fmt.Errorf("a string at %#x of the line table lies outside", off)
}

// table returns the n bytes of a function's table, or as many as there are.
func (l *lineTable) table(off uint32, n int) ([]byte, error) {
	if d, ok := l.space.Bytes(l.gofunc+uint64(off), n); ok {
		return d, nil
	}
	return nil, fmt.Errorf("a function's table at %#x lies outside", off)
}

// funcdata returns the bytes of one of a function's tables.
func (l *lineTable) funcdata(r *record, index int) ([]byte, error) {
	off := r.funcdata[index]
	le := binary.LittleEndian
	switch index {
	case funcArgsMaps, funcLocalsMaps: // runtime.stackmap
		d, err := l.table(off, 8)
		if err != nil {
			return nil, err
		}
		n, bits := int(int32(le.Uint32(d))), int(int32(le.Uint32(d[4:])))
		return l.table(off, 8+n*((bits+7)/8))
	case funcStackObjects:
		d, err := l.table(off, 8)
		if err != nil {
			return nil, err
		}
		return l.table(off, 8+int(le.Uint32(d))*sizeStackObject)
	case funcInlTree:
		most, err := l.most(r, pcdataInlTree)
		if err != nil {
			return nil, err
		}
		return l.table(off, int(most+1)*sizeInlinedCall)
	case funcOpenDefers: // two varints
		return l.bytesUntil(off, func(d []byte) int {
			_, n := binary.Uvarint(d)
			_, m := binary.Uvarint(d[n:])
			return n + m
		})
	case funcArgInfo: // runtime/traceback.go, printArgs: pairs and operators, ended by 0xff
		return l.bytesUntil(off, func(d []byte) int {
			for i := 0; i < len(d); {
				switch {
				case d[i] == 0xff:
					return i + 1
				case d[i] >= 0xf0:
					i++
				default:
					i += 2
				}
			}
			return -1
		})
	case funcArgLiveInfo: // an offset, and bitmaps of at most a few bytes
		most, err := l.most(r, pcdataArgLive)
		if err != nil {
			return nil, err
		}
		return l.bytesUntil(off, func(d []byte) int { return min(len(d), int(most)+8) })
	case funcWrapInfo:
		return l.table(off, 4)
	}
	return nil, fmt.Errorf("a function's table %d is of no kind known", index)
}

// bytesUntil returns the bytes of a table that tells its own length.
func (l *lineTable) bytesUntil(off uint32, length func([]byte) int) ([]byte, error) {
	const most = 1 << 12
	p, ok := l.space.place(l.gofunc + uint64(off))
	data := l.space.obj.Sections[p.Section].Data
	if !ok || p.Offset >= uint64(len(data)) {
		return nil, fmt.Errorf("a function's table at %#x lies outside", off)
	}
	d := data[p.Offset:min(uint64(len(data)), p.Offset+most)]
	n := length(d)
	if n < 0 || n > len(d) {
		return nil, fmt.Errorf("a function's table at %#x has no end", off)
	}
	return d[:n], nil
}
