package goruntime

// Holder is something in the target that holds an address.
type Holder struct {
	Goroutine uint64 // its id, 0 if it is not a goroutine
	Thread    int    // 0 if it is not a thread
	Value     uint64 // the word, which lies in one of the ranges asked for
	At        uint64 // the address of the word, 0 for a register
	Frame     bool   // a saved program counter: a function in the range is being executed
	Function  string // of those of Positions: which function's code Value leads into, or its address
	Where     string // in words
}

// String says in words who holds the address.
func (h Holder) String() string { return h.Where }
