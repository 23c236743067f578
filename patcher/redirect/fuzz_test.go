package redirect

import (
	"bytes"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

func addSeeds(f *testing.F, add func(code []byte)) {
	f.Helper()
	for _, s := range []string{
		"49 3b 66 10 76 02 55 48 89 e5 c3 e8 00 00 00 00 eb ee", // a Go function
		"f3 0f 1e fa 41 57 41 56 41 55 c3",                      // a C function
		"80 3d 00 02 00 00 01 74 f7 c3",
		"c5 f9 6f 05 00 00 00 00 c3",
		"62 f1 fe 48 6f 0d 08 00 00 00 c3",
		"8f ea 78 10 c1 01 02 03 04",
		"66 66 48 e8 00 00 00 00",
		"75 80 75 80 66 66 66 66 66 66 2e 0f 1f 84 00 00 00 00 00",
	} {
		add(unhex(f, s))
	}
}

// FuzzLength: a length is 1 to 15, and depends on just the bytes that it
// counts.
func FuzzLength(f *testing.F) {
	addSeeds(f, func(code []byte) { f.Add(code) })
	f.Fuzz(func(t *testing.T, code []byte) {
		n, err := Length(code)
		if err != nil {
			if n != 0 {
				t.Errorf("Length = %d with the error %v", n, err)
			}
			return
		}
		if n < 1 || n > maxLen || n > len(code) {
			t.Fatalf("Length = %d of %d bytes", n, len(code))
		}
		if m, err := Length(code[:n:n]); m != n || err != nil {
			t.Errorf("Length = %d, but %d, %v of the instruction alone", n, m, err)
		}
		if m, err := Length(code[: n-1 : n-1]); err == nil {
			t.Errorf("Length = %d, but %d without the last byte", n, m)
		}
	})
}

// FuzzRefs: every reference is a field of an instruction, in order, and moves
// with the code.
func FuzzRefs(f *testing.F) {
	addSeeds(f, func(code []byte) { f.Add(code, uint64(0x40_1000)) })
	f.Fuzz(func(t *testing.T, code []byte, addr uint64) {
		refs, err := Refs(code, addr)
		if e, ok := err.(*DecodeError); ok && (e.Offset < 0 || e.Offset >= len(code)) {
			t.Errorf("error at %d of %d bytes", e.Offset, len(code))
		}
		end := 0
		for _, r := range refs {
			if r.Offset < end || r.Field <= r.Offset || r.Size != 1 && r.Size != 4 ||
				r.Field+r.Size > r.Offset+r.Len || r.Offset+r.Len > len(code) {
				t.Fatalf("%+v of %d bytes, after one that ends at %d", r, len(code), end)
			}
			if n, err := Length(code[r.Offset:]); n != r.Len || err != nil {
				t.Errorf("%+v, but Length = %d, %v", r, n, err)
			}
			end = r.Offset + r.Len
		}
		moved, _ := Refs(code, addr+0x1234_5678_9ABC)
		if len(moved) != len(refs) {
			t.Fatalf("%d references here, %d elsewhere", len(refs), len(moved))
		}
		for i, r := range moved {
			r.Target -= 0x1234_5678_9ABC
			if r != refs[i] {
				t.Errorf("%+v here, %+v elsewhere", refs[i], r)
			}
		}
	})
}

// FuzzAnalyze: a plan covers what it says, its thunk does what the entry did,
// and nothing but a Refusal keeps it from being built.
func FuzzAnalyze(f *testing.F) {
	addSeeds(f, func(code []byte) { f.Add(code, uint64(0x40_1000), int64(0x1000_0000)) })
	f.Fuzz(func(t *testing.T, code []byte, entry uint64, distance int64) {
		p, err := Analyze(code, entry)
		if err != nil {
			if finding.CodeOf(err) == "" {
				t.Errorf("not a refusal: %v", err)
			}
			return
		}
		if p.Span < JumpSize || p.Span > JumpSize-1+maxLen || p.Offset+p.Span > len(code) ||
			!bytes.Equal(p.Old, code[p.Offset:p.Offset+JumpSize]) || (p.Encoding == JumpEncoding) != (p.Reason == "") {
			t.Fatalf("%+v", p)
		}
		at := entry + uint64(distance)
		if jump, err := p.Jump(at); err == nil {
			refs, err := Refs(jump, entry+uint64(p.Offset))
			if err != nil || len(jump) != JumpSize || len(refs) != 1 || refs[0].Target != at {
				t.Errorf("Jump(%#x) = % x: %+v, %v", at, jump, refs, err)
			}
		} else if finding.CodeOf(err) != finding.OutOfRange {
			t.Errorf("Jump(%#x): %v", at, err)
		}
		thunk, err := p.Thunk(at)
		switch {
		case p.Encoding == DirectEncoding:
			if err == nil {
				t.Error("a thunk of what must not move")
			}
		case err != nil:
			if finding.CodeOf(err) != finding.OutOfRange {
				t.Errorf("Thunk(%#x): %v", at, err)
			}
		default:
			if err := checkThunk(p, thunk, at); err != nil {
				t.Errorf("% x -> % x at %#x: %v", p.covered, thunk, at, err)
			}
		}
	})
}
