package patcher

import "github.com/darn-dev/darn/patcher/redirect"

// A debugger puts its breakpoint, the byte int3, at the beginning of an
// instruction of the old code, also where a jump has taken that instruction's
// place: where a prologue ends, to stop in a function or to step into it. If
// the first instruction has one byte, as `push %rbp` has, the next one begins
// in the lowest byte of the jump's distance. So the jump leads to a place, the
// pad, whose distance has just that byte anyway, and from there to the stub:
// the breakpoint then changes nothing.
const int3 = 0xCC

// line is the length of a line of the cache in bytes: half a slot.
const line = 64

// padByte returns the lowest byte that the address of d's pad must have;
// padded is false if d's jump needs none.
func padByte(d *redirectRecord) (low uint64, padded bool) {
	if n, err := redirect.Length(d.Old); err != nil || n != 1 || d.Encoding != redirect.JumpEncoding {
		return 0, false
	}
	low = (d.at() + redirect.JumpSize + int3) & 0xFF
	return low, low%line+redirect.JumpSize <= line
}

// padHalf returns which slot a stub on d needs for its pad.
func padHalf(d *redirectRecord) int {
	if low, padded := padByte(d); padded {
		return int(low / slotSize)
	}
	return anyHalf
}

// layStub places f's stub, with a thunk of a length in bytes behind it, and its
// pad if it needs one, in the slot that f.Stub is the address of. The stub begins
// where a line of the cache does, so that it and the thunk are in one as a rule.
// The thunk of a function that begins with one byte is so short that there is
// always room: 24 bytes at most, behind a stub of 38.
func (f *functionRecord) layStub(d *redirectRecord, thunk uint64) {
	size := f.stubSize() + thunk
	low, padded := padByte(d)
	low %= slotSize
	switch {
	case !padded:
	case low >= size:
		f.Pad = f.Stub + low
	case line+size <= slotSize:
		f.Pad = f.Stub + low
		f.Stub += line
	}
}

// stubSize is how long f's stub is, in bytes.
func (f *functionRecord) stubSize() uint64 {
	if f.Marked {
		return redirect.MarkedStubSize
	}
	return redirect.StubSize
}

// thunk is where f's stub ends and its thunk begins; only of one that has a stub.
func (f *functionRecord) thunk() uint64 { return f.Stub + f.stubSize() }

// landing is where an entry jumps to that leads to f's stub.
func (f *functionRecord) landing() uint64 {
	if f.Pad != 0 {
		return f.Pad
	}
	return f.Stub
}
