package redirect

import (
	"errors"
	"reflect"
	"testing"
)

func TestRefsFindsEveryKindOfField(t *testing.T) {
	code := unhex(t, ""+
		"e8 fb ff ff ff"+ // 00: call +0
		"e9 00 01 00 00"+ // 05: jmp +10a
		"eb fe"+ // 0a: jmp +a
		"76 02"+ // 0c: jbe +10
		"0f 86 f0 ff ff ff"+ // 0e: jbe +4
		"e3 00"+ // 14: jrcxz +16
		"48 8d 05 10 00 00 00"+ // 16: lea 0x10(%rip), %rax
		"80 3d 00 00 00 00 01"+ // 1d: cmpb $1, 0(%rip)
		"ff 25 00 00 00 80"+ // 24: jmp *-2GiB(%rip)
		"c5 f9 6f 05 04 00 00 00"+ // 2a: vmovdqa 4(%rip), %xmm0
		"62 f1 fe 48 6f 0d 08 00 00 00"+ // 32: vmovdqu64 8(%rip), %zmm1
		"ff d0"+ // 3c: call *%rax
		"48 8b 04 25 00 00 00 00"+ // 3e: mov 0, %rax
		"c7 f8 00 00 00 00"+ // 46: xbegin +4c
		"cc") // 4c
	const at = 0x7F00_0000_0000
	want := []Ref{
		{Call, 0x00, 5, 0x01, 4, at},
		{Jump, 0x05, 5, 0x06, 4, at + 0x10A},
		{Jump, 0x0A, 2, 0x0B, 1, at + 0x0A},
		{Cond, 0x0C, 2, 0x0D, 1, at + 0x10},
		{Cond, 0x0E, 6, 0x10, 4, at + 0x04},
		{Cond, 0x14, 2, 0x15, 1, at + 0x16},
		{Lea, 0x16, 7, 0x19, 4, at + 0x2D},
		{Mem, 0x1D, 7, 0x1F, 4, at + 0x24},
		{Mem, 0x24, 6, 0x26, 4, at + 0x2A - 1<<31},
		{Mem, 0x2A, 8, 0x2E, 4, at + 0x36},
		{Mem, 0x32, 10, 0x38, 4, at + 0x44},
		{Cond, 0x46, 6, 0x48, 4, at + 0x4C},
	}
	got, err := Refs(code, at)
	if err != nil {
		t.Fatal(err)
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing %+v", want[i])
		case i >= len(want):
			t.Errorf("not expected: %+v", got[i])
		case got[i] != want[i]:
			t.Errorf("reference %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestRefAddendCountsTheBytesBehindTheField(t *testing.T) {
	for _, c := range []struct {
		code string
		want int64
	}{
		{"e8 00 00 00 00", -4},
		{"eb 00", -1},
		{"80 3d 00 00 00 00 01", -5},             // cmpb $1, 0(%rip)
		{"48 c7 05 00 00 00 00 01 00 00 00", -8}, // movq $1, 0(%rip)
	} {
		refs, err := Refs(unhex(t, c.code), 0)
		if err != nil || len(refs) != 1 {
			t.Fatalf("%s: %v, %v", c.code, refs, err)
		}
		if got := refs[0].Addend(); got != c.want {
			t.Errorf("%s: addend %d, want %d", c.code, got, c.want)
		}
	}
}

func TestRefsReturnsWhatStandsBeforeUndecodableBytes(t *testing.T) {
	refs, err := Refs(unhex(t, "eb 00 90 06"), 0x1000)
	var decode *DecodeError
	if !errors.As(err, &decode) || decode.Offset != 3 {
		t.Errorf("error %v, want one at offset 3", err)
	}
	if want := []Ref{{Jump, 0, 2, 1, 1, 0x1002}}; !reflect.DeepEqual(refs, want) {
		t.Errorf("references %+v, want %+v", refs, want)
	}
}
