package debuginfo

import "math"

// run is a part of the program's text, with the variable's location there if it
// is of a list of locations.
type run struct {
	lo, hi   uint64
	location []byte
}

// list reads the list of locations, or of ranges, at an offset.
func (u *unit) list(locations bool, off uint64) ([]run, error) {
	name := "ranges"
	if locations {
		name = "loc"
	}
	read := u.pairs
	if u.version == 5 {
		read = u.items
		name = map[bool]string{false: "rnglists", true: "loclists"}[locations]
	}
	data := u.Sections[name]
	b := buf(data, int(min(off, uint64(len(data))+1)), len(data))
	runs, err := read(b, locations)
	if err != nil {
		return nil, err
	}
	if b.bad {
		return nil, malformed("the list at %#x of .debug_%s has no end", off, name)
	}
	return runs, nil
}

// pairs reads a list of DWARF 4.
func (u *unit) pairs(b *buffer, locations bool) (runs []run, err error) {
	var base uint64
	if low, ok := u.root.get(attrLowPC); ok {
		base = low.n
	}
	for !b.bad {
		lo, hi := b.uint(addressSize), b.uint(addressSize)
		switch {
		case lo == 0 && hi == 0:
			return runs, nil
		case lo == math.MaxUint64:
			base = hi
			continue
		}
		r := run{lo: base + lo, hi: base + hi}
		if locations {
			r.location = b.bytes(b.uint(2))
		}
		runs = append(runs, r)
	}
	return nil, nil
}

// items reads a list of DWARF 5.
func (u *unit) items(b *buffer, locations bool) (runs []run, err error) {
	var base uint64
	for !b.bad {
		switch kind := b.uint(1); kind {
		case listEnd:
			return runs, nil
		case listBaseAddressx:
			var ok bool
			if base, ok = u.address(b.uleb()); !ok {
				return nil, malformed("a list counts from an address that is not there")
			}
		case listOffsetPair:
			r := run{lo: base + b.uleb()}
			r.hi = base + b.uleb()
			if locations {
				r.location = b.bytes(b.uleb())
			}
			runs = append(runs, r)
		default:
			return nil, malformed("a list has an item of the unknown kind %d", kind)
		}
	}
	return nil, nil
}
