package debuginfo

import (
	"encoding/binary"
	"sort"
)

// program is the DWARF that is rewritten.
type program struct {
	Sections
	units []*unit // by offset
}

// unit is a compile unit: a package.
type unit struct {
	*program
	start, end int // of its entries
	version    uint64
	abbrevs    map[uint64]*abbrev
	root       *entry // its own entry
	addrBase   uint64
}

// open reads the headers of all units.
func open(from Sections) (*program, error) {
	p := &program{Sections: from}
	info := from["info"]
	tables := map[uint64]map[uint64]*abbrev{}
	for at := 0; at < len(info); {
		b := buf(info, at, len(info))
		size := b.uint(4)
		if size > uint64(len(info)-b.at) {
			return nil, malformed("the unit at %#x has no end", at)
		}
		u := &unit{program: p, end: b.at + int(size)}
		u.version = b.uint(2)
		var table uint64
		switch u.version {
		case 4:
			table = b.uint(4)
			b.uint(1)
		case 5:
			if kind := b.uint(1); kind != unitCompile {
				return nil, malformed("the unit at %#x is of kind %d", at, kind)
			}
			b.uint(1)
			table = b.uint(4)
		default:
			return nil, malformed("the unit at %#x has version %d; 4 and 5 are known", at, u.version)
		}
		at, u.start = u.end, b.at
		if b.bad || u.start > u.end {
			return nil, malformed("the unit at %#x is too short", u.start)
		}
		var err error
		if u.abbrevs = tables[table]; u.abbrevs == nil {
			if u.abbrevs, err = readAbbrevs(from["abbrev"], table); err != nil {
				return nil, err
			}
			tables[table] = u.abbrevs
		}
		if err := u.readRoot(); err != nil {
			return nil, err
		}
		p.units = append(p.units, u)
	}
	return p, nil
}

// readRoot reads the unit's own entry. No address in it is an index.
func (u *unit) readRoot() (err error) {
	if u.root, err = u.entry(u.buffer(u.start)); err != nil {
		return err
	}
	if u.root == nil || u.root.tag != tagCompileUnit {
		return malformed("the unit at %#x is no compile unit", u.start)
	}
	if base, ok := u.root.get(attrAddrBase); ok {
		u.addrBase = base.n
	}
	return nil
}

// buffer reads the unit's entries from an offset on.
func (u *unit) buffer(at int) *buffer { return buf(u.Sections["info"], at, u.end) }

// address returns an address that is given by its number.
func (u *unit) address(index uint64) (uint64, bool) {
	data := u.Sections["addr"]
	at := u.addrBase + index*addressSize
	if index > uint64(len(data)) || u.addrBase > uint64(len(data)) || at+addressSize > uint64(len(data)) {
		return 0, false
	}
	return binary.LittleEndian.Uint64(data[at:]), true
}

// at returns the unit with the entry at an offset.
func (p *program) at(off int) (*unit, bool) {
	i := sort.Search(len(p.units), func(i int) bool { return p.units[i].end > off })
	if i == len(p.units) || off < p.units[i].start {
		return nil, false
	}
	return p.units[i], true
}
