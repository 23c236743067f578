// Package link binds a module to a target: it gives every symbol, type and
// itab an address and computes the bytes that the module has at the place
// chosen for it. It writes nothing; what it asks of the target it asks through
// an interface, so that all of it happens while the target runs.
package link

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// Image is a module bound to a target: the bytes to put into the target's
// memory, and what the target must be told about them.
type Image struct {
	Base, Size uint64
	Segments   []Segment
	// Functions are the functions that the module replaces.
	Functions []Function
	// Symbols are the module's own symbols. A name that several have is left
	// out.
	Symbols map[string]uint64
	// Moduledata and ModuledataSize are where the module's runtime.moduledata is.
	Moduledata, ModuledataSize uint64
	// Itabs are the module's own itabs that the runtime must know.
	Itabs []Itab
	// Fills are slots in the target's types and itabs that are to lead into
	// the module.
	Fills []Write
	// Entries are where the functions of a module for C begin, and Frames is
	// where its .eh_frame is, 0 if there is none.
	Entries []uint64
	Frames  uint64
	// Unseen says why somebody may hold an address in a module for C without that
	// it can be seen, "" if not.
	Unseen string
	// Bridges are where the bridges to the functions are, empty without.
	Bridges Range
	// Findings are what a user should know of how a module for C was bound.
	Findings []finding.Finding
}

// Segment is a run of whole pages of an image.
type Segment struct {
	Addr  uint64
	Data  []byte // relocated; the rest up to Size is zero
	Size  uint64
	Flags elf.ProgFlag
}

// Function is one replaced function.
type Function struct {
	module.Function
	Entry uint64 // of the old code
	New   uint64 // of the new code
	// Pieces are what of the old code a C compiler put elsewhere.
	Pieces []Range
	// LostCode is where what the manifest says is Lost is.
	LostCode []Range
	// Optional tells that it is left out where its entry can't be redirected: a
	// copy that a C++ compiler makes in every file.
	Optional bool
	// Bridge, if not 0, is where calls of the new code have to go.
	Bridge uint64
}

// CheckText compares code, the bytes at f.Entry without any breakpoints, with
// what the module was built for. It is refused with text-mismatch if they
// differ: then something else has changed the text, or the module is for
// another build.
func (f *Function) CheckText(code []byte) error {
	if uint64(len(code)) != f.Size {
		return fmt.Errorf("%s: %d bytes of code given, it has %d", f.Symbol, len(code), f.Size)
	}
	masked := append([]byte(nil), code...)
	for _, m := range f.Masked {
		if end := uint64(m.Offset) + uint64(m.Size); end <= uint64(len(masked)) {
			clear(masked[m.Offset:end])
		}
	}
	if sum := sha256.Sum256(masked); hex.EncodeToString(sum[:]) != f.SHA256 {
		r := finding.Refuse(finding.TextMismatch,
			fmt.Sprintf("the code at %#x is not the code that the module was built to replace", f.Entry),
			"build the module against the program that runs; if that is what was done, something else has changed the program's text")
		r.Findings[0].Function = f.Symbol
		return r
	}
	return nil
}

// Itab is an itab in the image that the runtime's table of itabs lacks.
type Itab struct {
	Addr, Inter, Type uint64
	// Hash is the runtime's hash of the pair (itabHashFunc in
	// runtime/iface.go).
	Hash uint32
}

// Write is one change to the target's memory: New where Old stands. Old is
// compared before New is written; an empty Old means memory that nobody reads
// yet, with anything in it.
type Write struct {
	Addr uint64 `json:"addr"`
	Old  []byte `json:"old,omitempty"`
	New  []byte `json:"new"`
}
