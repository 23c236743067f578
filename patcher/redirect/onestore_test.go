package redirect

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestOneStore: what one store may alter, and where the jump has to lead then.
func TestOneStore(t *testing.T) {
	const entry = 0x40_1000
	for _, test := range []struct {
		name, code string
		entry      uint64
		c          bool
		span       int
		start, end uint64 // relative to the end of the jump
		why        string
	}{
		{name: "Go's check of the stack, near", code: "493b6610 7629 5590", entry: entry, span: 4, start: 0x7600_0000, end: 0x7700_0000},
		{name: "Go's check of the stack, far", code: "493b6610 0f862b010000", entry: entry, span: 4, start: 0x0f00_0000, end: 0x1000_0000},
		{name: "a large frame", code: "4c8d642488 4d3b6610", entry: entry, span: 5, start: 1<<64 - 1<<31, end: 1<<31 - 1},
		{name: "three bytes", code: "4889d8 4801d8 c3", entry: entry, span: 3, start: 0x0148_0000, end: 0x0149_0000},
		{name: "two bytes", code: "31c0 4801d8 90c3", entry: entry, span: 2, start: 1<<64 - 1<<32 + 0xd801_4800, end: 1<<64 - 1<<32 + 0xd801_4900},
		{name: "a distance below", code: "480fafc3 c3", entry: entry, span: 4, start: 1<<64 - 1<<32 + 0xc300_0000, end: 1<<64 - 1<<32 + 0xc400_0000},
		{name: "endbr64 and a push", code: "f30f1efa 55 4889e5 90", entry: entry, span: 4, start: 0x5500_0000, end: 0x5600_0000},
		{name: "one byte", code: "55 4889e5 4883ec10", entry: entry, span: 1, start: 0x48e5_8948, end: 0x48e5_8949},
		{name: "one byte, and a fault behind it", code: "55 488b00 4801d8 c3", entry: entry, span: 1, start: 0x4800_8b48, end: 0x4800_8b49},
		{name: "a fault that Go has to see", code: "48 8b00 4801d8 c3", entry: entry, why: "accesses memory"},
		{name: "the same in C", code: "488b00 4801d8 c3", entry: entry, c: true, span: 3, start: 0x0148_0000, end: 0x0149_0000},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, err := hex.DecodeString(strings.ReplaceAll(test.code, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			p, err := analyze(code, test.entry, test.c)
			if err != nil {
				t.Fatal(err)
			}
			q, to, why := p.OneStore()
			if test.why != "" {
				if q != nil || !strings.Contains(why, test.why) {
					t.Fatalf("%+v, %q", q, why)
				}
				return
			}
			if q == nil {
				t.Fatal(why)
			}
			end := q.Entry + JumpSize
			if to != (Window{end + test.start, end + test.end}) || q.Span != test.span || q.Offset != 0 || !q.Single {
				t.Errorf("%+v to %#x..%#x", q, to.Start-end, to.End-end)
			}
			mustAlterTheFirstInstructionOnly(t, q, to, code)
			mustReach(t, q, to)
		})
	}
}

// mustReach asks whether p reaches what is in the window, and what is beside it.
func mustReach(t *testing.T, p *Plan, to Window) {
	t.Helper()
	plain := &Plan{Entry: p.Entry, Span: p.Span, Old: p.Old}
	for at, want := range map[uint64]bool{to.Start - 1: false, to.Start: true, to.End - 1: true, to.End: false} {
		if got := plain.Reaches(at); got != want {
			t.Errorf("it reaches %#x: %t, and the window is %#x..%#x", at, got, to.Start, to.End)
		}
	}
}

// mustAlterTheFirstInstructionOnly writes jumps to the ends of the window.
func mustAlterTheFirstInstructionOnly(t *testing.T, q *Plan, to Window, code []byte) {
	t.Helper()
	for _, at := range []uint64{to.Start, to.End - 1} {
		jump, err := q.Jump(at)
		if err != nil {
			t.Fatal(err)
		}
		kept := min(q.Span, JumpSize, wordSize-int(q.Entry%wordSize))
		if !bytes.Equal(jump[kept:], code[kept:JumpSize]) {
			t.Errorf("the jump to %#x is % x, over % x: it alters more than %d bytes", at, jump, code[:JumpSize], kept)
		}
	}
}

// An entry need not be aligned: then the jump may lie in two words, and only what is
// in the first of them is altered.
func TestOneStoreStaysInOneWord(t *testing.T) {
	code := []byte{0x4c, 0x8d, 0x64, 0x24, 0x88, 0x4d, 0x3b, 0x66, 0x10, 0x90}
	for _, entry := range []uint64{0x1004, 0x1005, 0x1006, 0x1007} {
		p, err := Analyze(code, entry)
		if err != nil {
			t.Fatal(err)
		}
		q, to, why := p.OneStore()
		if q == nil {
			if entry != 0x1007 {
				t.Errorf("%#x: %s", entry, why)
			}
			continue
		}
		mustAlterTheFirstInstructionOnly(t, q, to, code)
		if want := uint64(1) << (8 * (wordSize - entry%wordSize - 1)); to.End-to.Start != want {
			t.Errorf("%#x: the window has %#x bytes, not %#x", entry, to.End-to.Start, want)
		}
	}
}

// TestOneStoreThunk: the thunk does what the first instruction did, and goes on
// behind it.
func TestOneStoreThunk(t *testing.T) {
	p, err := Analyze([]byte{0x49, 0x3b, 0x66, 0x10, 0x76, 0x29, 0x55, 0x48, 0x89, 0xe5}, 0x40_1000)
	if err != nil {
		t.Fatal(err)
	}
	q, _, _ := p.OneStore()
	thunk, err := q.Thunk(0x40_2000)
	if err != nil {
		t.Fatal(err)
	}
	refs, err := Refs(thunk, 0x40_2000)
	if err != nil || !bytes.HasPrefix(thunk, []byte{0x49, 0x3b, 0x66, 0x10}) || len(refs) != 1 || refs[0].Target != 0x40_1004 {
		t.Errorf("% x: %+v, %v", thunk, refs, err)
	}
}
