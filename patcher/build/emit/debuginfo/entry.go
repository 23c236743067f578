package debuginfo

// abbrev is a declaration of entries in .debug_abbrev.
type abbrev struct {
	tag      uint64
	children bool
	attrs    []spec
}

type spec struct{ attr, form uint64 }

// readAbbrevs reads the declarations from an offset on.
func readAbbrevs(data []byte, at uint64) (map[uint64]*abbrev, error) {
	b := buf(data, int(min(at, uint64(len(data))+1)), len(data))
	table := map[uint64]*abbrev{}
	for {
		code := b.uleb()
		if code == 0 || b.bad {
			break
		}
		a := &abbrev{tag: b.uleb()}
		a.children = b.uint(1) != 0
		for {
			s := spec{b.uleb(), b.uleb()}
			if s == (spec{}) || b.bad {
				break
			}
			a.attrs = append(a.attrs, s)
		}
		table[code] = a
	}
	if b.bad {
		return nil, malformed("the abbreviations at %#x have no end", at)
	}
	return table, nil
}

// entry is an entry of .debug_info (a DIE).
type entry struct {
	off      int
	unit     *unit
	tag      uint64
	attrs    []value
	parent   bool // it may have children
	children []*entry
}

// value is an attribute. n is a number, an address, or an offset in a section;
// raw are the bytes as they are, of a block without its length.
type value struct {
	spec
	n   uint64
	raw []byte
}

// get returns an attribute's value.
func (e *entry) get(attr uint64) (value, bool) {
	for _, v := range e.attrs {
		if v.attr == attr {
			return v, true
		}
	}
	return value{}, false
}

// entry reads the entry at an offset without its children. It returns nil for
// the end of a list of children.
func (u *unit) entry(b *buffer) (*entry, error) {
	e := &entry{off: b.at, unit: u}
	code := b.uleb()
	if code == 0 && !b.bad {
		return nil, nil
	}
	a := u.abbrevs[code]
	if a == nil {
		return nil, malformed("the entry at %#x has no declaration", e.off)
	}
	e.tag, e.parent = a.tag, a.children
	e.attrs = make([]value, 0, len(a.attrs))
	for _, s := range a.attrs {
		v := value{spec: s}
		at := b.at
		switch s.form {
		case formAddr, formData8:
			v.n = b.uint(8)
		case formData4, formSecOffset, formRefAddr:
			v.n = b.uint(4)
		case formData2:
			v.n = b.uint(2)
		case formData1, formFlag:
			v.n = b.uint(1)
		case formFlagPresent:
		case formUdata, formSdata, formAddrx:
			v.n = b.uleb()
		case formString:
			b.text()
		case formBlock1:
			n := b.uint(1)
			at = b.at
			b.bytes(n)
		case formBlock, formExprloc:
			n := b.uleb()
			at = b.at
			b.bytes(n)
		default:
			return nil, malformed("the entry at %#x has an attribute %#x of the unknown form %#x", e.off, s.attr, s.form)
		}
		if b.bad {
			return nil, malformed("the entry at %#x has no end", e.off)
		}
		v.raw = b.data[at:b.at]
		if s.form == formAddrx {
			addr, ok := u.address(v.n)
			if !ok {
				return nil, malformed("the entry at %#x names address %d, which is not there", e.off, v.n)
			}
			v.form, v.n = formAddr, addr
		}
		e.attrs = append(e.attrs, v)
	}
	return e, nil
}

// maxDepth bounds how deep entries nest.
const maxDepth = 256

// tree reads an entry with all below it.
func (u *unit) tree(b *buffer, depth int) (*entry, error) {
	e, err := u.entry(b)
	if err != nil || e == nil || !e.parent {
		return e, err
	}
	if depth > maxDepth {
		return nil, malformed("the entry at %#x is nested too deep", e.off)
	}
	for {
		child, err := u.tree(b, depth+1)
		if err != nil {
			return nil, err
		}
		if child == nil {
			return e, nil
		}
		e.children = append(e.children, child)
	}
}

// each calls visit for an entry and all below it, in the order of the file.
func (e *entry) each(visit func(*entry)) {
	visit(e)
	for _, c := range e.children {
		c.each(visit)
	}
}
