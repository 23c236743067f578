package emit

import (
	"fmt"
	"testing"
)

func TestRunGCProgram(t *testing.T) {
	for _, x := range []struct {
		name string
		prog []byte
		n    int
		want string // "" for an error
	}{
		{"nothing", []byte{0}, 4, "0000"},
		{"literal bits", []byte{5, 0b10110, 0}, 8, "01101000"},
		{"literal bits in two bytes", []byte{9, 0xff, 1, 0}, 10, "1111111110"},
		{"the last bits repeated", []byte{2, 0b01, 0x80 | 2, 3, 0}, 10, "1010101000"},
		{"a long repetition", []byte{1, 1, 0x80, 1, 0x85, 0x01, 0}, 140, fmt.Sprintf("%0134d", 0)},
		{"no end", []byte{3, 7}, 3, ""},
		{"too few literal bits", []byte{9, 0xff}, 9, ""},
		{"a repetition of what is not there", []byte{1, 1, 0x80 | 5, 2, 0}, 9, ""},
		{"a repetition of nothing", []byte{0x80, 0, 2, 0}, 9, ""},
		{"a number without an end", []byte{1, 1, 0x80, 0xff}, 9, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			bits, err := runGCProgram(x.prog, x.n)
			got := ""
			for _, b := range bits {
				got += map[bool]string{false: "0", true: "1"}[b]
			}
			if x.name == "a long repetition" {
				x.want = ""
				for i := range x.n {
					x.want += map[bool]string{false: "0", true: "1"}[i < 134]
				}
			}
			if (err != nil) != (x.want == "") || got != x.want {
				t.Errorf("got %s, %v; wanted %s", got, err, x.want)
			}
		})
	}
}

func FuzzRunGCProgram(f *testing.F) {
	f.Add([]byte{2, 1, 0x82, 3, 0}, 10)
	f.Fuzz(func(t *testing.T, prog []byte, n int) {
		if n < 0 || n > 1<<16 {
			return
		}
		if bits, err := runGCProgram(prog, n); err == nil && len(bits) != n {
			t.Errorf("%d bits, wanted %d", len(bits), n)
		}
	})
}

func TestRelaxKeepsTheRegister(t *testing.T) {
	for _, x := range []struct{ from, to [3]byte }{
		{[3]byte{0x48, 0x8b, 0x05}, [3]byte{0x48, 0xc7, 0xc0}}, // rax
		{[3]byte{0x48, 0x8b, 0x0d}, [3]byte{0x48, 0xc7, 0xc1}}, // rcx
		{[3]byte{0x4c, 0x8b, 0x35}, [3]byte{0x49, 0xc7, 0xc6}}, // r14
	} {
		code := x.from
		if err := relax(code[:]); err != nil || code != x.to {
			t.Errorf("% x became % x (%v), wanted % x", x.from, code, err, x.to)
		}
	}
	if err := relax([]byte{0x48, 0x03, 0x05}); err == nil {
		t.Error("an addition was taken for a load")
	}
}

func TestMerge(t *testing.T) {
	got := fmt.Sprint(merge([]span{{20, 30}, {1, 5}, {5, 7}, {25, 40}, {2, 3}, {50, 51}}))
	if want := "[{1 7} {20 40} {50 51}]"; got != want {
		t.Errorf("got %s, wanted %s", got, want)
	}
}

func TestPlaceKeepsAlignment(t *testing.T) {
	ps := []*piece{{lo: 0x1010, size: 8}, {lo: 0x1020, size: 1}, {lo: 0x3f, size: 1}}
	end := place(ps, 0x40)
	for _, p := range ps {
		if p.addr%alignment != p.lo%alignment {
			t.Errorf("%#x was placed at %#x", p.lo, p.addr)
		}
	}
	if ps[1].addr < ps[0].addr+8 || end != ps[2].addr+1 {
		t.Errorf("placed at %#x, %#x, %#x, end %#x", ps[0].addr, ps[1].addr, ps[2].addr, end)
	}
}
