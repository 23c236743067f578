package patcher

import (
	"testing"

	"github.com/darn-dev/darn/patcher/redirect"
)

// TestStubsAndPadsShareASlot: wherever an entry is that begins with one byte, its pad
// has the place that a breakpoint behind that byte does not change, and lies over
// neither the stub nor the longest thunk.
func TestStubsAndPadsShareASlot(t *testing.T) {
	const slot, longest = 0x10_0000, 24
	for _, marked := range []bool{false, true} {
		padded := 0
		for entry := uint64(0x40_0000); entry < 0x40_0100; entry++ {
			d := &redirectRecord{Entry: entry, Encoding: redirect.JumpEncoding, Old: []byte{0x55, 0x48, 0x89, 0xe5, 0x53}}
			f := &functionRecord{Stub: slot, Marked: marked}
			if half := padHalf(d); half != anyHalf {
				f.Stub += uint64(half) * slotSize
			}
			f.layStub(d, longest)
			if slotOf(f.Stub) != slotOf(f.thunk()+longest-1) || f.Stub%redirect.StubAlign != 0 {
				t.Errorf("%#x: the stub is at %#x, the thunk at %#x", entry, f.Stub, f.thunk())
			}
			if f.Pad == 0 {
				continue
			}
			padded++
			jump, err := d.jump(f.landing())
			if err != nil || jump[1] != int3 {
				t.Errorf("%#x: the jump is % x, %v", entry, jump, err)
			}
			if end := f.Pad + redirect.JumpSize; slotOf(f.Pad) != slotOf(f.Stub) || slotOf(end-1) != slotOf(f.Pad) || f.Pad < f.thunk()+longest && end > f.Stub {
				t.Errorf("%#x: the pad is at %#x, the stub at %#x, the thunk at %#x", entry, f.Pad, f.Stub, f.thunk())
			}
		}
		if padded < 240 {
			t.Errorf("only %d of 256 entries have a pad", padded)
		}
	}
}
