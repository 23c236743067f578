// Package debuginfo makes the DWARF of a patch out of that of the program which
// the patch was taken from: the functions of the patch with their lines,
// variables, inlined calls and frames, and the types that these refer to.
//
// The patch's code lies elsewhere than in the program, and the program's DWARF
// is much larger than a patch. So nothing is kept as it is: entries are read one
// by one, addresses and references between entries are put right, and what was
// not referred to is left out. What comes out is always DWARF 4, which needs
// fewer sections than DWARF 5 and which every debugger reads; what goes in is
// what the Go toolchain writes: DWARF 4 up to Go 1.24, DWARF 5 since.
package debuginfo

import (
	"cmp"
	"fmt"
	"slices"
)

// Sections are DWARF sections by name without ".debug_": "info", "line"…
// Relocations have been applied.
type Sections map[string][]byte

// Patch says what of a program is in the patch and where. Addresses of the
// program are those that its relocated Sections hold.
type Patch struct {
	// Functions are the program's functions that the patch has, by address.
	Functions []Function
	// Stubs are places in the patch with code that is in no function of the
	// program and leaves the stack as it found it.
	Stubs []Range
	// Variable returns where the patch keeps the program's variable at an
	// address, if it does.
	Variable func(addr uint64) (uint64, bool)
	// Type returns the offset of a type descriptor from the start of the
	// patch's types for the offset from the program's, if the patch has it.
	Type func(off uint64) (uint64, bool)
}

// Function is a function of the program.
type Function struct {
	Addr, Size uint64
	To         uint64 // its address in the patch
}

// Range is a part of the patch.
type Range struct{ Addr, Size uint64 }

// Rewrite returns the patch's DWARF sections. It does not panic whatever the
// program's hold.
func Rewrite(from Sections, p Patch) (Sections, error) {
	p.Functions = slices.Clone(p.Functions)
	slices.SortFunc(p.Functions, func(a, b Function) int { return cmp.Compare(a.Addr, b.Addr) })
	prog, err := open(from)
	if err != nil {
		return nil, err
	}
	c := &choice{program: prog, patch: &p, chosen: map[int]*entry{}}
	if err := c.choose(); err != nil {
		return nil, err
	}
	w := &writer{choice: c, abbrevs: map[string]uint64{}, moved: map[int]uint32{}}
	if err := w.write(); err != nil {
		return nil, err
	}
	if err := w.writeFrames(); err != nil {
		return nil, err
	}
	return Sections{"abbrev": append(w.abbrev, 0), "info": w.info, "line": w.line, "loc": w.loc, "ranges": w.ranges, "frame": w.frame}, nil
}

// move returns where the patch has the program's code at an address. The end of
// a function counts as part of it where no other begins.
func (p *Patch) move(addr uint64) (uint64, bool) {
	i, found := slices.BinarySearchFunc(p.Functions, addr, func(f Function, addr uint64) int { return cmp.Compare(f.Addr, addr) })
	if !found {
		i--
	}
	if i < 0 || addr-p.Functions[i].Addr > p.Functions[i].Size {
		return 0, false
	}
	return p.Functions[i].To + addr - p.Functions[i].Addr, true
}

// begins tells whether a function of the patch begins at a program's address.
func (p *Patch) begins(addr uint64) (*Function, bool) {
	i, found := slices.BinarySearchFunc(p.Functions, addr, func(f Function, addr uint64) int { return cmp.Compare(f.Addr, addr) })
	if !found {
		return nil, false
	}
	return &p.Functions[i], true
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("DWARF: "+format, args...)
}
