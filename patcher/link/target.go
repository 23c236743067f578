package link

// Target is what Bind asks of the program that the module is for. All
// addresses are those of the running program.
type Target interface {
	// Symbol returns the address of a function or variable. It is refused with
	// symbol-unresolved or symbol-ambiguous.
	Symbol(name string) (uint64, error)
	// ReadMemory fills buf with what is at addr.
	ReadMemory(buf []byte, addr uint64) error
	// Text is the range from runtime.text to runtime.etext.
	Text() Range
	// Types is the range from runtime.types to runtime.etypes.
	Types() Range
	// IsItab tells whether n bytes at addr lie in one of the itabs that the
	// program was linked with.
	IsItab(addr, n uint64) bool
	// TLSOffset is the offset of the current g (runtime.tlsg) from the thread
	// pointer.
	TLSOffset() int64
	// Itab looks (inter, typ) up in the runtime's table of itabs. One that
	// says "does not implement" counts as absent.
	Itab(inter, typ uint64) (addr uint64, ok bool, err error)
	// Module is the range of the loaded module with the ID; ok is false if it is
	// not loaded.
	Module(id string) (r Range, ok bool)
}

// Range is the addresses from Start up to, not including, End.
type Range struct{ Start, End uint64 }

// Holds tells whether n bytes at addr lie in r.
func (r Range) Holds(addr, n uint64) bool {
	return addr >= r.Start && addr <= r.End && n <= r.End-addr
}
