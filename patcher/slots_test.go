package patcher

import (
	"testing"

	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/redirect"
)

// TestPadsFindTheirPlaces: each in its window, whole, and over nothing else that is
// in the block.
func TestPadsFindTheirPlaces(t *testing.T) {
	b := block{Addr: 0x10_0000, Size: blockSize}
	end := b.Addr + b.Size
	for _, test := range []struct {
		name    string
		windows []redirect.Window
		stub    uint64
		found   []bool
	}{
		{"single places", []redirect.Window{{Start: 0x10_0105, End: 0x10_0106}, {Start: 0x10_0125, End: 0x10_0126}}, 0, []bool{true, true}},
		{"single places too near", []redirect.Window{{Start: 0x10_0105, End: 0x10_0106}, {Start: 0x10_0115, End: 0x10_0116}}, 0, []bool{true, false}},
		{"across slots", []redirect.Window{{Start: 0x10_017b, End: 0x10_017c}, {Start: 0x10_0180, End: 0x10_0181}}, 0, []bool{true, false}},
		{"where a stub is", []redirect.Window{{Start: 0x10_017b, End: 0x10_017c}}, 0x10_0180, []bool{false}},
		{"at the end", []redirect.Window{{Start: end - redirect.FarJumpSize, End: end}, {Start: end - 1, End: end}}, 0, []bool{true, false}},
		{"256 bytes for ten", windows(10, 0x10_0205, 256), 0, []bool{true, true, true, true, true, true, true, true, true, true}},
		{"slots of their own", windows(2, 0x10_0301, 1<<24), 0x10_0380, []bool{true, true}},
		{"elsewhere", []redirect.Window{{Start: 0x20_0000, End: 0x20_1000}}, 0, []bool{false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := &transition{reg: new(registry)}
			if test.stub != 0 {
				tr.reg.Patches = []*patchRecord{{Functions: []*functionRecord{{Stub: test.stub}}}}
			}
			for i, w := range test.windows {
				used := tr.takenNow()
				pad := used.within(b, w, redirect.FarJumpSize)
				if (pad != 0) != test.found[i] {
					t.Fatalf("number %d has the place %#x", i, pad)
				}
				if pad == 0 {
					continue
				}
				code := redirect.FarJump(pad, 1)
				r := goruntime.Range{Start: pad, End: pad + uint64(len(code))}
				if pad < w.Start || pad >= w.End || r.Start < b.Addr || r.End > end || used.holds(r) || len(code) > redirect.FarJumpSize {
					t.Errorf("number %d is at [%#x, %#x)", i, r.Start, r.End)
				}
				tr.reg.addRedirect(&redirectRecord{Entry: uint64(i), Pad: pad})
			}
		})
	}
}

func windows(n int, start, size uint64) []redirect.Window {
	var ws []redirect.Window
	for range n {
		ws = append(ws, redirect.Window{Start: start, End: start + size})
	}
	return ws
}

// TestBlocksForPads: where the window is a single place the block has it.
func TestBlocksForPads(t *testing.T) {
	for _, start := range []uint64{0x4765_4321, 0x4765_ffff, 0x4765_0000, 0x4765_1ff8} {
		for _, size := range []uint64{1, 256} {
			w := redirect.Window{Start: start, End: start + size}
			for _, p := range around(w) {
				b := block{Addr: p.Start, Size: p.size}
				if p.size != p.End-p.Start || b.Addr%4096 != 0 || b.Size%4096 != 0 || (&taken{}).within(b, w, redirect.FarJumpSize) == 0 {
					t.Errorf("%#x..: %+v", start, p)
				}
			}
		}
	}
}
