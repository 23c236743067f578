package emit

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// followTables follows what a function's tables in the line table refer to:
// pointer masks of objects on its stack, and the function that it wraps.
func (b *builder) followTables(fn int) error {
	r, err := b.lines.find(b.new.symbol(fn) - b.new.text)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	for index, off := range r.funcdata {
		if off == noTable || index != funcStackObjects && index != funcWrapInfo {
			continue
		}
		d, err := b.lines.funcdata(r, index)
		if err != nil {
			return err
		}
		if index == funcWrapInfo {
			to, err := b.functionAt(int64(le.Uint32(d)))
			if err != nil {
				return err
			}
			b.wraps[fn] = b.inModule(to, b.New.Symbols[fn].Name)
			continue
		}
		for d = d[8:]; len(d) > 0; d = d[sizeStackObject:] {
			bytes, mask := int32(le.Uint32(d[8:])), b.lines.rodata+uint64(le.Uint32(d[12:]))
			if bytes < 0 {
				return fmt.Errorf("an object on its stack has no pointer mask")
			}
			if err := b.ownData(segRodata, mask, mask+uint64(bytes/8+7)/8); err != nil {
				return err
			}
		}
	}
	return nil
}

// tableWriter writes the line table of the module's functions.
type tableWriter struct {
	b                    *builder
	names, cus, files    []byte
	pcs, funcs, funcdata []byte
	nameAt               map[string]uint32
	fileAt               map[string]uint32
	pcAt                 map[uint32]uint32 // by New's offset
	cuAt                 map[uint32]uint32
	cuFiles              map[uint32][]int32 // New's cu -> file numbers used
	dataAt               map[string]uint32
}

// entry is a function of the module.
type entry struct {
	fn   int // of New; -1: a jump to the target
	name string
	addr uint64
	rec  *record
}

// entries lists the module's functions by address.
func (b *builder) entries() ([]entry, error) {
	var list []entry
	for fn := range b.owned {
		lo := b.new.symbol(fn)
		r, err := b.lines.find(lo - b.new.text)
		if err != nil {
			return nil, err
		}
		name, err := cstring(b.lines.names, r.name)
		if err != nil {
			return nil, err
		}
		list = append(list, entry{fn, name, b.moved(lo), r})
	}
	for _, t := range b.thunkNames {
		list = append(list, entry{-1, t.name, b.moved(t.addr), nil})
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	return list, nil
}

// write writes the records of all functions. The module's text and constants
// have their places.
func (w *tableWriter) write(list []entry) error {
	if err := w.collectFiles(list); err != nil {
		return err
	}
	w.funcs = make([]byte, 8*len(list)+4)
	le := binary.LittleEndian
	base := w.b.segStart(segText)
	for i, e := range list {
		w.funcs = pad(w.funcs, 8)
		le.PutUint32(w.funcs[8*i:], uint32(e.addr-base))
		le.PutUint32(w.funcs[8*i+4:], uint32(len(w.funcs)))
		if err := w.function(e, uint32(e.addr-base)); err != nil {
			return fmt.Errorf("line table of %s: %w", e.name, err)
		}
	}
	le.PutUint32(w.funcs[8*len(list):], uint32(w.b.text.hi-base))
	return nil
}

// collectFiles gives each compilation unit that is needed its part of cutab.
func (w *tableWriter) collectFiles(list []entry) error {
	for _, e := range list {
		if e.fn < 0 || e.rec.cu == noTable || e.rec.pcfile == 0 {
			continue
		}
		if _, err := w.b.lines.values(e.rec.pcfile, func(v int32) {
			if v >= 0 && !slices.Contains(w.cuFiles[e.rec.cu], v) {
				w.cuFiles[e.rec.cu] = append(w.cuFiles[e.rec.cu], v)
			}
		}); err != nil {
			return err
		}
	}
	cus := make([]uint32, 0, len(w.cuFiles))
	for cu := range w.cuFiles {
		cus = append(cus, cu)
	}
	slices.Sort(cus)
	le := binary.LittleEndian
	for _, cu := range cus {
		w.cuAt[cu] = uint32(len(w.cus) / 4)
		files := w.cuFiles[cu]
		slices.Sort(files)
		part := make([]byte, 4*(files[len(files)-1]+1))
		for i := range part {
			part[i] = 0xff
		}
		for _, f := range files {
			at := 4 * (uint64(cu) + uint64(f))
			if at+4 > uint64(len(w.b.lines.cus)) {
				return fmt.Errorf("file %d of the unit at %#x lies outside the line table", f, cu)
			}
			name, err := cstring(w.b.lines.files, le.Uint32(w.b.lines.cus[at:]))
			if err != nil {
				return err
			}
			le.PutUint32(part[4*f:], text(&w.files, w.fileAt, name))
		}
		w.cus = append(w.cus, part...)
	}
	return nil
}

// text appends a string once.
func text(to *[]byte, at map[string]uint32, s string) uint32 {
	off, ok := at[s]
	if !ok {
		off = uint32(len(*to))
		at[s] = off
		*to = append(append(*to, s...), 0)
	}
	return off
}

// function appends the record of one function.
func (w *tableWriter) function(e entry, entryOff uint32) error {
	le := binary.LittleEndian
	r := record{entry: entryOff, name: text(&w.names, w.nameAt, e.name), cu: noTable, flag: flagAssembly}
	if e.fn < 0 {
		// A jump: no frame all along. 2 stands for a step of 1 from the
		// initial value -1.
		r.pcsp = uint32(len(w.pcs))
		w.pcs = append(w.pcs, 2, thunkSize, 0)
	} else {
		old := e.rec
		r.args, r.deferReturn, r.startLine, r.id, r.flag = old.args, old.deferReturn, old.startLine, old.id, old.flag
		if at, ok := w.cuAt[old.cu]; ok {
			r.cu = at
		}
		for _, t := range []struct {
			from uint32
			to   *uint32
		}{{old.pcsp, &r.pcsp}, {old.pcfile, &r.pcfile}, {old.pcln, &r.pcln}} {
			var err error
			if *t.to, err = w.pcTable(t.from); err != nil {
				return err
			}
		}
		for _, off := range old.pcdata {
			at, err := w.pcTable(off)
			if err != nil {
				return err
			}
			r.pcdata = append(r.pcdata, at)
		}
		for index, off := range old.funcdata {
			at := noTable
			if off != noTable {
				d, err := w.b.lines.funcdata(old, index)
				if err != nil {
					return err
				}
				if at, err = w.table(e.fn, index, slices.Clone(d)); err != nil {
					return err
				}
			}
			r.funcdata = append(r.funcdata, at)
		}
	}
	out := make([]byte, recordSize)
	for i, v := range []uint32{r.entry, r.name, r.args, r.deferReturn, r.pcsp, r.pcfile, r.pcln, uint32(len(r.pcdata)), r.cu, r.startLine} {
		le.PutUint32(out[4*i:], v)
	}
	out[40], out[41], out[43] = r.id, r.flag, uint8(len(r.funcdata))
	for _, v := range append(r.pcdata, r.funcdata...) {
		out = le.AppendUint32(out, v)
	}
	w.funcs = append(w.funcs, out...)
	return nil
}

// pcTable copies a table of values by instruction once.
func (w *tableWriter) pcTable(off uint32) (uint32, error) {
	if off == 0 {
		return 0, nil
	}
	at, ok := w.pcAt[off]
	if !ok {
		d, err := w.b.lines.values(off, func(int32) {})
		if err != nil {
			return 0, err
		}
		at = uint32(len(w.pcs))
		w.pcAt[off] = at
		w.pcs = append(w.pcs, d...)
	}
	return at, nil
}

// table appends one of a function's tables, with what it refers to put right.
func (w *tableWriter) table(fn, index int, d []byte) (uint32, error) {
	le := binary.LittleEndian
	b := w.b
	switch index {
	case funcStackObjects:
		for o := d[8:]; len(o) > 0; o = o[sizeStackObject:] {
			mask := b.lines.rodata + uint64(le.Uint32(o[12:]))
			if le.Uint32(o[8:]) == 0 {
				le.PutUint32(o[12:], 0)
			} else {
				le.PutUint32(o[12:], uint32(b.moved(mask)-b.segStart(segRodata)))
			}
		}
	case funcInlTree:
		for o := d; len(o) > 0; o = o[sizeInlinedCall:] {
			name, err := cstring(b.lines.names, le.Uint32(o[4:]))
			if err != nil {
				return 0, err
			}
			le.PutUint32(o[4:], text(&w.names, w.nameAt, name))
		}
	case funcWrapInfo:
		le.PutUint32(d, uint32(b.moved(b.wraps[fn].addr)-b.segStart(segText)))
	}
	at, ok := w.dataAt[string(d)]
	if !ok {
		w.funcdata = pad(w.funcdata, 8)
		at = uint32(len(w.funcdata))
		w.dataAt[string(d)] = at
		w.funcdata = append(w.funcdata, d...)
	}
	return at, nil
}

// findTable writes runtime.findfunctab: for each 256 bytes of text the first
// function there. See runtime.findfunc.
func (b *builder) findTable(list []entry) ([]byte, error) {
	const sub = funcTabBucket / funcTabSubBuckets
	lo, hi := b.text.lo, b.text.hi
	first := make([]int, (hi-lo+sub-1)/sub)
	k := 0
	for i := range first {
		for k+1 < len(list) && list[k+1].addr <= lo+uint64(i)*sub {
			k++
		}
		first[i] = k
	}
	var out []byte
	for i := 0; i < len(first); i += funcTabSubBuckets {
		out = binary.LittleEndian.AppendUint32(out, uint32(first[i]))
		for j := i; j < i+funcTabSubBuckets; j++ {
			d := 0
			if j < len(first) {
				d = first[j] - first[i]
			}
			if d > 255 {
				return nil, fmt.Errorf("%d functions in %d bytes of text", d, funcTabBucket)
			}
			out = append(out, uint8(d))
		}
	}
	return out, nil
}

// pad fills up to a multiple of n bytes.
func pad(d []byte, n int) []byte {
	for len(d)%n != 0 {
		d = append(d, 0)
	}
	return d
}
