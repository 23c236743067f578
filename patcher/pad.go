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

// stubOffset is where in its slot a stub is: what is before and behind it has
// room for the pad of every entry that is aligned as Go and C align them.
const stubOffset = 24

// padByte returns the lowest byte that the address of d's pad must have;
// padded is false if d's jump needs none.
func padByte(d *redirectRecord) (low uint64, padded bool) {
	if n, err := redirect.Length(d.Old); err != nil || n != 1 || d.Encoding == redirect.DirectEncoding {
		return 0, false
	}
	low = (d.at() + redirect.JumpSize + int3) & 0xFF
	in := low % slotSize
	return low, in+redirect.JumpSize <= stubOffset || in >= stubOffset+redirect.StubSize && in+redirect.JumpSize <= slotSize
}

// padQuarter returns which slot a stub on d needs for its pad.
func padQuarter(d *redirectRecord) int {
	if low, padded := padByte(d); padded {
		return int(low / slotSize)
	}
	return anyQuarter
}

// layStub places f's stub, and its pad if it needs one, in the slot that
// f.Stub is the address of. A stub that knows marks is longer, and begins before
// a pad that is at the end.
func (f *functionRecord) layStub(d *redirectRecord) {
	off := uint64(stubOffset)
	if low, padded := padByte(d); padded {
		f.Pad = f.Stub + low%slotSize
		if f.Marked && low%slotSize > stubOffset {
			off = redirect.StubAlign
		}
	}
	f.Stub += off
}

// landing is where an entry jumps to that leads to f's stub.
func (f *functionRecord) landing() uint64 {
	if f.Pad != 0 {
		return f.Pad
	}
	return f.Stub
}
