package goruntime

import (
	"slices"

	"github.com/darn-dev/darn/patcher/link"
)

// Write is one change to the target's memory.
type Write = link.Write

// Range is a range of addresses in the target.
type Range = link.Range

// Ledger is what a runtime was told by Register and must be told back by
// Unregister. It is plain data, kept in the registry, so that a later Darn
// goes on where this one ended. The zero value is a runtime that was told
// nothing.
type Ledger struct {
	// Modules are the modules registered, in the order of the runtime's chain.
	Modules []*Registration `json:"modules,omitempty"`
	// Header is the program's own list of modules (what runtime.modulesSlice
	// pointed to), pinned for its return; 0 if Modules is empty.
	Header uint64 `json:"header,omitempty"`
	// List is the block that holds the list of modules that is in force.
	List Block `json:"list,omitzero"`
	// Table is the block that holds the table of itabs, if the program's own
	// had no room.
	Table Block `json:"table,omitzero"`
	// Retired are blocks that are out of use, but that a thread which was in
	// the middle of reading them may still be reading. They can be freed when
	// References finds nothing that points into them.
	Retired []Block `json:"retired,omitempty"`
}

// Registration is one module that a runtime was told of.
type Registration struct {
	Base       uint64 `json:"base"`
	Size       uint64 `json:"size"`
	Moduledata uint64 `json:"moduledata"`
	// Segments are the parts of it that hold something.
	Segments []Range `json:"segments"`
	// Fills are the slots in the program's types and itabs that the module
	// wants to lead to itself; New is what it wants there, Old what the
	// program was linked with.
	Fills []Write `json:"fills,omitempty"`
	// What follows is noted of modules for C: which of the Segments are code,
	// where its functions begin, and where its .eh_frame is, 0 if there is none.
	Text    []Range  `json:"text,omitempty"`
	Entries []uint64 `json:"entries,omitempty"`
	Frames  uint64   `json:"frames,omitempty"`
	// Unseen says why somebody may hold an address in it unseen.
	Unseen string `json:"unseen,omitempty"`
	// Bridges are pieces of code with a frame pointer and no .eh_frame.
	Bridges Range `json:"bridges,omitzero"`
}

// Range is the module's addresses.
func (m *Registration) Range() Range { return Range{Start: m.Base, End: m.Base + m.Size} }

// Block is memory that the runtime reads, got from the caller's Alloc.
type Block struct {
	Addr uint64 `json:"addr"`
	Size uint64 `json:"size"` // bytes
}

// Alloc gives writable memory of the target, 8-byte aligned, in which nothing
// stands that anybody reads, and which stays when a module is unloaded. The
// memory need not be mapped before the writes are applied.
type Alloc func(size uint64) (addr uint64, err error)

// Empty tells whether the runtime uses nothing of Darn's memory any more.
func (l *Ledger) Empty() bool {
	return len(l.Modules) == 0 && l.List == Block{} && l.Table == Block{} && len(l.Retired) == 0
}

// index returns where the module at base is in Modules, or -1.
func (l *Ledger) index(base uint64) int {
	return slices.IndexFunc(l.Modules, func(m *Registration) bool { return m.Base == base })
}

// retire puts a block out of use.
func (l *Ledger) retire(b *Block) {
	if *b != (Block{}) {
		l.Retired = append(l.Retired, *b)
	}
	*b = Block{}
}

// Range is the block's addresses.
func (b Block) Range() Range { return Range{Start: b.Addr, End: b.Addr + b.Size} }
