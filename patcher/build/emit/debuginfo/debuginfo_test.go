package debuginfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// executable is a small program's DWARF, and its functions main.*.
func executable(t testing.TB) (Sections, Patch) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module small\n",
		"main.go": `package main

type node struct{ next *node; n int }

//go:noinline
func sum(l *node, twice bool) (total int) {
	for ; l != nil; l = l.next {
		total += value(l)
	}
	if twice {
		total *= 2
	}
	return total
}

func value(l *node) int { return l.n }

func main() { println(sum(&node{n: 1}, true)) }
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-ldflags=-compressdwarf=false", "-o", "small", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(filepath.Join(dir, "small"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sections := Sections{}
	for _, s := range f.Sections {
		if name, ok := strings.CutPrefix(s.Name, ".debug_"); ok {
			if sections[name], err = s.Data(); err != nil {
				t.Fatal(err)
			}
		}
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	p := Patch{
		Variable: func(addr uint64) (uint64, bool) { return addr, true },
		Type:     func(off uint64) (uint64, bool) { return off, off&1 == 0 },
	}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && strings.HasPrefix(s.Name, "main.") {
			p.Functions = append(p.Functions, Function{Addr: s.Value, Size: s.Size, To: s.Value - 0x1000})
		}
	}
	return sections, p
}

// only returns the sections with no more in them than the patch needs, so that
// what is altered matters.
func only(t testing.TB) (Sections, Patch) {
	t.Helper()
	sections, p := executable(t)
	small, err := Rewrite(sections, p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Functions {
		p.Functions[i].Addr, p.Functions[i].To = p.Functions[i].To, p.Functions[i].Addr
	}
	return small, p
}

func TestRewritingBackGivesTheSame(t *testing.T) {
	small, back := only(t)
	there, err := Rewrite(small, back)
	if err != nil {
		t.Fatal(err)
	}
	for i := range back.Functions {
		back.Functions[i].Addr, back.Functions[i].To = back.Functions[i].To, back.Functions[i].Addr
	}
	again, err := Rewrite(there, back)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range small {
		if len(data) == 0 || !bytes.Equal(again[name], data) {
			t.Errorf(".debug_%s: %d bytes, and then %d others", name, len(data), len(again[name]))
		}
	}
}

func TestWhatIsMalformedIsSaid(t *testing.T) {
	tests := []struct {
		name   string
		damage func(s Sections)
		want   string
	}{
		{"a unit that is cut off", func(s Sections) { s["info"] = s["info"][:len(s["info"])-1] }, "has no end"},
		{"an unknown version", func(s Sections) { s["info"][4] = 9 }, "has version 9; 4 and 5 are known"},
		{"no abbreviations", func(s Sections) { s["abbrev"] = nil }, "the abbreviations at 0x0 have no end"},
		{"an unknown abbreviation", func(s Sections) { s["info"][11] = 0x7f }, "the entry at 0xb has no declaration"},
		{"no lines", func(s Sections) { s["line"] = s["line"][:9] }, "the lines at 0x0 have no end"},
		{"no locations", func(s Sections) { s["loc"] = nil }, "of .debug_loc has no end"},
		{"no ranges", func(s Sections) { s["ranges"] = nil }, "of .debug_ranges has no end"},
		{"frames that are cut off", func(s Sections) { s["frame"] = s["frame"][:len(s["frame"])-1] }, "has no end"},
		{"a frame without the one it is of", func(s Sections) {
			binary.LittleEndian.PutUint32(s["frame"][4+binary.LittleEndian.Uint32(s["frame"])+4:], 1)
		}, "is of none that is known"},
	}
	small, p := only(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := Sections{}
			for name, data := range small {
				s[name] = slices.Clone(data)
			}
			test.damage(s)
			if _, err := Rewrite(s, p); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Rewrite says %v, want %q", err, test.want)
			}
		})
	}
}

// FuzzRewrite alters bytes of the sections of a program.
func FuzzRewrite(f *testing.F) {
	small, p := only(f)
	names := []string{"info", "abbrev", "line", "loc", "ranges", "frame"}
	f.Add(uint8(0), uint16(4), []byte{5})
	f.Add(uint8(2), uint16(20), []byte{0, 0xff})
	f.Fuzz(func(t *testing.T, section uint8, at uint16, with []byte) {
		s := Sections{}
		for name, data := range small {
			s[name] = data
		}
		name := names[int(section)%len(names)]
		data := slices.Clone(small[name])
		copy(data[min(int(at), len(data)):], with)
		s[name] = data
		to, err := Rewrite(s, p)
		if err == nil && len(to) != len(names) {
			t.Errorf("%d sections", len(to))
		}
	})
}

// FuzzRead gives sections of DWARF 5 that nothing has made.
func FuzzRead(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 5, 0, 1, 8, 0, 0, 0, 0, 1}, []byte{1, 0x11, 0, 0x55, 0x17, 0x10, 0x17, 0, 0, 0}, []byte{1, 0, 4, 1, 1, 0}, []byte{1})
	f.Fuzz(func(t *testing.T, info, abbrev, lists, line []byte) {
		if len(info)+len(abbrev)+len(lists)+len(line) > 1<<12 {
			return
		}
		none := func(uint64) (uint64, bool) { return 0, false }
		_, _ = Rewrite(Sections{"info": info, "abbrev": abbrev, "rnglists": lists, "loclists": lists, "addr": lists, "line": line, "frame": line},
			Patch{Functions: []Function{{Addr: 0, Size: 64, To: 128}}, Variable: none, Type: none})
	})
}
