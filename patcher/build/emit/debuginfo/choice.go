package debuginfo

import "encoding/binary"

// choice is what of the program's entries is wanted.
type choice struct {
	*program
	patch  *Patch
	chosen map[int]*entry // with all below them, by offset
	top    []*entry       // those that stand directly in a unit
	todo   []int          // offsets that chosen entries refer to
}

// choose chooses the functions and variables of the patch, and all that they
// refer to: the origins of inlined calls, and types.
func (c *choice) choose() error {
	var constants []*entry
	for _, u := range c.units {
		if ok, err := c.concerns(u); err != nil {
			return err
		} else if !ok {
			continue
		}
		found, err := c.scan(u)
		if err != nil {
			return err
		}
		constants = append(constants, found...)
	}
	if err := c.follow(); err != nil {
		return err
	}
	for _, e := range constants {
		if typ, ok := e.get(attrType); ok && c.chosen[int(typ.n)] != nil {
			c.add(e)
		}
	}
	return nil
}

// concerns tells whether a unit has a function of the patch.
func (c *choice) concerns(u *unit) (bool, error) {
	at, ok := u.root.get(attrRanges)
	if !ok {
		return false, nil
	}
	runs, err := u.list(false, at.n)
	if err != nil {
		return false, err
	}
	for _, f := range c.patch.Functions {
		for _, r := range runs {
			if f.Addr >= r.lo && f.Addr < r.hi {
				return true, nil
			}
		}
	}
	return false, nil
}

// scan chooses the unit's functions and variables that are the patch's. It
// returns the unit's named constants.
func (c *choice) scan(u *unit) (constants []*entry, err error) {
	b := u.buffer(u.start)
	if _, err := u.entry(b); err != nil || !u.root.parent {
		return nil, err
	}
	for depth := 0; depth >= 0 && b.left(); {
		e, err := u.entry(b)
		if err != nil {
			return nil, err
		}
		if e == nil {
			depth--
			continue
		}
		if depth == 0 && c.wants(e) {
			if err := c.addTree(u, e.off); err != nil {
				return nil, err
			}
		}
		if depth == 0 && e.tag == tagConstant {
			constants = append(constants, e)
		}
		if e.parent {
			depth++
		}
	}
	return constants, nil
}

// wants tells whether an entry is of a function or variable of the patch.
func (c *choice) wants(e *entry) bool {
	switch e.tag {
	case tagSubprogram:
		low, ok := e.get(attrLowPC)
		if ok {
			_, ok = c.patch.begins(low.n)
		}
		return ok
	case tagVariable:
		v, ok := e.get(attrLocation)
		if !ok {
			return false
		}
		addr, ok := addressIn(v.raw)
		if ok {
			_, ok = c.patch.Variable(addr)
		}
		return ok
	}
	return false
}

// addressIn returns the address that a location consists of.
func addressIn(location []byte) (uint64, bool) {
	if len(location) != 1+addressSize || location[0] != opAddr {
		return 0, false
	}
	return binary.LittleEndian.Uint64(location[1:]), true
}

// addTree chooses the entry at an offset of a unit.
func (c *choice) addTree(u *unit, off int) error {
	e, err := u.tree(u.buffer(off), 0)
	if err != nil {
		return err
	}
	if e == nil {
		return malformed("there is no entry at %#x", off)
	}
	c.add(e)
	return nil
}

// add chooses an entry with all below it, and notes what they refer to.
func (c *choice) add(e *entry) {
	c.top = append(c.top, e)
	e.each(func(e *entry) {
		c.chosen[e.off] = e
		for _, v := range e.attrs {
			if v.form == formRefAddr {
				c.todo = append(c.todo, int(v.n))
			}
		}
	})
}

// follow chooses what the chosen entries refer to. The origin of a variable
// stands below that of its function, which is referred to before it.
func (c *choice) follow() error {
	for i := 0; i < len(c.todo); i++ {
		off := c.todo[i]
		if c.chosen[off] != nil {
			continue
		}
		u, ok := c.at(off)
		if !ok {
			return malformed("no unit has an entry at %#x", off)
		}
		if err := c.addTree(u, off); err != nil {
			return err
		}
	}
	c.todo = nil
	return nil
}
