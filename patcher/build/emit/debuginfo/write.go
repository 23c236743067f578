package debuginfo

import (
	"cmp"
	"encoding/binary"
	"slices"
)

var le = binary.LittleEndian

// writer writes the patch's sections.
type writer struct {
	*choice
	abbrev, info, line, loc, ranges, frame []byte

	abbrevs map[string]uint64 // numbers of declarations, by their bytes
	moved   map[int]uint32    // where the program's entries are
	refs    []reference

	// Of the unit that is being written:
	low   uint64 // what its lists count from
	files *files
}

// reference is a field of .debug_info that is to hold the offset of an entry.
type reference struct {
	at int
	to int // the entry's offset in the program
}

// write writes all that is chosen, unit by unit.
func (w *writer) write() error {
	slices.SortFunc(w.top, func(a, b *entry) int { return cmp.Compare(a.off, b.off) })
	for len(w.top) > 0 {
		n := 1
		for n < len(w.top) && w.top[n].unit == w.top[0].unit {
			n++
		}
		if err := w.unit(w.top[0].unit, w.top[:n]); err != nil {
			return err
		}
		w.top = w.top[n:]
	}
	for _, r := range w.refs {
		le.PutUint32(w.info[r.at:], w.moved[r.to])
	}
	return nil
}

// unit writes a unit with some of its entries.
func (w *writer) unit(u *unit, entries []*entry) error {
	start := len(w.info)
	w.info = append(le.AppendUint32(le.AppendUint16(append(w.info, 0, 0, 0, 0), 4), 0), addressSize)
	var runs []run // in the patch
	for _, e := range entries {
		if low, ok := e.get(attrLowPC); ok {
			if f, ok := w.patch.begins(low.n); ok {
				runs = append(runs, run{lo: f.To, hi: f.To + f.Size})
			}
		}
	}
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.lo, b.lo) })
	var err error
	if w.files, err = u.files(); err != nil {
		return err
	}
	w.root(u, runs)
	stmtList := len(w.info) - 4
	for _, e := range entries {
		if err := w.entry(e); err != nil {
			return err
		}
	}
	w.info = append(w.info, 0)
	le.PutUint32(w.info[start:], uint32(len(w.info)-start-4))
	if w.files != nil {
		le.PutUint32(w.info[stmtList:], uint32(len(w.line)))
		return w.lines(w.files)
	}
	return nil
}

// root writes a unit's own entry. The offset of its lines comes last, if it has
// any, and is filled in later.
func (w *writer) root(u *unit, runs []run) {
	root := &entry{tag: tagCompileUnit, parent: true}
	for _, v := range u.root.attrs {
		switch v.attr {
		case attrName, attrLanguage, attrCompDir, attrProducer, attrGoPackage:
			root.attrs = append(root.attrs, v)
		}
	}
	if len(runs) > 0 {
		w.low = runs[0].lo
		root.attrs = append(root.attrs,
			value{spec: spec{attrLowPC, formAddr}, raw: le.AppendUint64(nil, w.low)},
			value{spec: spec{attrRanges, formSecOffset}, raw: le.AppendUint32(nil, uint32(len(w.ranges)))})
		w.ranges = w.list(w.ranges, runs, false)
	}
	if w.files != nil {
		root.attrs = append(root.attrs, value{spec: spec{attrStmtList, formSecOffset}, raw: make([]byte, 4)})
	}
	w.plain(root)
}

// entry writes an entry and all below it.
func (w *writer) entry(e *entry) error {
	w.moved[e.off] = uint32(len(w.info))
	out := &entry{off: e.off, tag: e.tag, parent: e.parent}
	for _, v := range e.attrs {
		v, keep, err := w.value(e, v)
		if err != nil {
			return err
		}
		if keep {
			out.attrs = append(out.attrs, v)
		}
	}
	w.plain(out)
	if !e.parent {
		return nil
	}
	for _, c := range e.children {
		if err := w.entry(c); err != nil {
			return err
		}
	}
	w.info = append(w.info, 0)
	return nil
}

// plain writes an entry whose attributes have the bytes they are to have.
func (w *writer) plain(e *entry) {
	w.info = binary.AppendUvarint(w.info, w.declare(e))
	for _, v := range e.attrs {
		switch v.form {
		case formBlock1:
			w.info = append(w.info, byte(len(v.raw)))
		case formBlock, formExprloc:
			w.info = binary.AppendUvarint(w.info, uint64(len(v.raw)))
		case formRefAddr:
			w.refs = append(w.refs, reference{len(w.info), int(v.n)})
		}
		w.info = append(w.info, v.raw...)
	}
}

// declare returns the number of an entry's declaration.
func (w *writer) declare(e *entry) uint64 {
	d := binary.AppendUvarint(nil, e.tag)
	if e.parent {
		d = append(d, 1)
	} else {
		d = append(d, 0)
	}
	for _, v := range e.attrs {
		d = binary.AppendUvarint(binary.AppendUvarint(d, v.attr), v.form)
	}
	d = append(d, 0, 0)
	n, ok := w.abbrevs[string(d)]
	if !ok {
		n = uint64(len(w.abbrevs) + 1)
		w.abbrevs[string(d)] = n
		w.abbrev = append(binary.AppendUvarint(w.abbrev, n), d...)
	}
	return n
}

// value puts an attribute right for the patch. keep tells whether the patch's
// entry has it at all.
func (w *writer) value(e *entry, v value) (_ value, keep bool, err error) {
	switch v.attr {
	case attrSibling:
		return v, false, nil
	case attrGoRuntimeType:
		// The debugger takes it for a type of the module that the entry is in.
		off, ok := w.patch.Type(v.n)
		return address(v, off), ok, nil
	case attrDeclFile, attrCallFile:
		if w.files == nil {
			return v, false, nil
		}
		n, err := w.files.number(v.n)
		return value{spec: spec{v.attr, formUdata}, raw: binary.AppendUvarint(nil, n)}, true, err
	case attrRanges, attrLocation:
		if v.form == formSecOffset {
			v.raw, err = w.moveList(e.unit, v.n, v.attr == attrLocation)
			return v, true, err
		}
		if addr, ok := addressIn(v.raw); ok {
			to, ok := w.patch.Variable(addr)
			v.raw = le.AppendUint64([]byte{opAddr}, to)
			return v, ok, nil
		}
	case attrLowPC, attrHighPC:
		if v.form == formAddr {
			to, ok := w.moveFrom(e, v.n)
			if !ok {
				return v, false, malformed("the entry at %#x is of code at %#x, which is not in the patch", e.off, v.n)
			}
			return address(v, to), true, nil
		}
	}
	if v.form == formAddr {
		return v, false, nil
	}
	return v, true, nil
}

// address makes an attribute an address.
func address(v value, addr uint64) value {
	return value{spec: spec{v.attr, formAddr}, raw: le.AppendUint64(nil, addr)}
}

// moveFrom moves an address in an entry's code. It may be the end of a function
// that another function of the patch follows, elsewhere.
func (w *writer) moveFrom(e *entry, addr uint64) (uint64, bool) {
	low, ok := e.get(attrLowPC)
	if !ok || addr < low.n {
		return 0, false
	}
	to, ok := w.patch.move(low.n)
	return to + addr - low.n, ok
}

// moveList copies a list of locations or ranges and returns its offset as it
// stands in an attribute.
func (w *writer) moveList(u *unit, off uint64, locations bool) ([]byte, error) {
	runs, err := u.list(locations, off)
	if err != nil {
		return nil, err
	}
	for i, r := range runs {
		if r.lo >= r.hi {
			continue
		}
		to, ok := w.patch.move(r.lo)
		if !ok {
			return nil, malformed("a list has code at %#x, which is not in the patch", r.lo)
		}
		runs[i].lo, runs[i].hi = to, to+r.hi-r.lo
	}
	out := &w.ranges
	if locations {
		out = &w.loc
	}
	at := le.AppendUint32(nil, uint32(len(*out)))
	*out = w.list(*out, runs, locations)
	return at, nil
}

// list appends a list of parts of the patch.
func (w *writer) list(out []byte, runs []run, locations bool) []byte {
	for _, r := range runs {
		if r.lo >= r.hi {
			continue // two equal numbers may mean something else
		}
		out = le.AppendUint64(le.AppendUint64(out, r.lo-w.low), r.hi-w.low)
		if locations {
			out = append(le.AppendUint16(out, uint16(len(r.location))), r.location...)
		}
	}
	return append(out, make([]byte, 2*addressSize)...)
}
