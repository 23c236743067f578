package object

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// tiny builds an object by hand: two functions, of which the first calls the
// second and takes the address of a string, and a table of two pointers.
type tiny struct {
	typ         elf.Type
	machine     elf.Machine
	textName    string
	symbolName  uint32 // of the first function
	symbolSize  uint64
	relocSymbol uint64
	relocOffset uint64
	relocType   elf.R_X86_64
}

func newTiny() tiny {
	return tiny{typ: elf.ET_REL, machine: elf.EM_X86_64, textName: ".text", symbolName: 1, symbolSize: 16, relocSymbol: 3, relocOffset: 8, relocType: elf.R_X86_64_PC32}
}

func (c tiny) bytes() []byte {
	code := []byte{
		0xe8, 0x0b, 0, 0, 0, // call main.b
		0x48, 0x8d, 0x05, 0, 0, 0, 0, // lea string(%rip), %rax
		0xc3, 0xcc, 0xcc, 0xcc,
		0xc3, 0xcc, 0xcc, 0xcc, // main.b
	}
	le := binary.LittleEndian
	strs := "\x00main.a\x00main.b\x00go:string.*\x00main.table\x00"
	sym := func(name string, index int, section uint16, typ elf.SymType, off, size uint64) []byte {
		e := make([]byte, symSize)
		le.PutUint32(e, uint32(strings.Index(strs, name)))
		if name == "" {
			le.PutUint32(e, uint32(index))
		}
		e[4] = byte(typ)
		le.PutUint16(e[6:], section)
		le.PutUint64(e[8:], off)
		le.PutUint64(e[16:], size)
		return e
	}
	first := sym("main.a", 1, 1, elf.STT_FUNC, 0, c.symbolSize)
	le.PutUint32(first, c.symbolName)
	symtab := bytes.Join([][]byte{make([]byte, symSize), first, sym("main.b", 2, 1, elf.STT_FUNC, 16, 4),
		sym("go:string.*", 3, 2, elf.STT_OBJECT, 0, 0), sym("main.table", 4, 3, elf.STT_OBJECT, 0, 32)}, nil)
	rela := func(off uint64, typ elf.R_X86_64, sym uint64, addend int64) []byte {
		e := make([]byte, relaSize)
		le.PutUint64(e, off)
		le.PutUint64(e[8:], sym<<32|uint64(typ))
		le.PutUint64(e[16:], uint64(addend))
		return e
	}
	table := make([]byte, 32)
	le.PutUint64(table[8:], 5)
	sections := []struct {
		name       string
		typ        elf.SectionType
		flags      elf.SectionFlag
		link, info uint32
		data       []byte
	}{
		{},
		{c.textName, elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, 0, 0, code},
		{".rodata", elf.SHT_PROGBITS, elf.SHF_ALLOC, 0, 0, []byte("hello, world")},
		{".data", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_WRITE, 0, 0, table},
		{".symtab", elf.SHT_SYMTAB, 0, 5, 0, symtab},
		{".strtab", elf.SHT_STRTAB, 0, 0, 0, []byte(strs)},
		{".rela.text", elf.SHT_RELA, 0, 4, 1, rela(c.relocOffset, c.relocType, c.relocSymbol, 1)},
		{".rela.data", elf.SHT_RELA, 0, 4, 3, append(rela(0, elf.R_X86_64_64, 3, 0), rela(16, elf.R_X86_64_64, 1, 0)...)},
		{".shstrtab", elf.SHT_STRTAB, 0, 0, 0, nil},
	}
	names := []byte{0}
	nameAt := make([]uint32, len(sections))
	for i, s := range sections {
		nameAt[i] = uint32(len(names))
		names = append(append(names, s.name...), 0)
	}
	sections[len(sections)-1].data = names
	var body, headers bytes.Buffer
	const headerSize = 64
	for i, s := range sections {
		h := elf.Section64{Name: nameAt[i], Type: uint32(s.typ), Flags: uint64(s.flags), Off: uint64(headerSize + body.Len()), Size: uint64(len(s.data)), Link: s.link, Info: s.info, Addralign: 1}
		_ = binary.Write(&headers, le, h)
		body.Write(s.data)
	}
	head := elf.Header64{Type: uint16(c.typ), Machine: uint16(c.machine), Version: 1, Shoff: uint64(headerSize + body.Len()), Ehsize: headerSize,
		Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: uint16(len(sections) - 1)}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	var out bytes.Buffer
	_ = binary.Write(&out, le, head)
	out.Write(body.Bytes())
	out.Write(headers.Bytes())
	return out.Bytes()
}

func TestRefsRecoversWhatTheLinkerResolved(t *testing.T) {
	o, err := read(bytes.NewReader(newTiny().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	a, ok := o.Lookup("main.a")
	if !ok {
		t.Fatal("no main.a")
	}
	refs, err := o.Refs(a)
	if err != nil || len(refs) != 2 {
		t.Fatalf("%+v, %v", refs, err)
	}
	call, lea := refs[0], refs[1]
	if !call.Synthetic || call.Offset != 1 || o.Symbols[call.Symbol].Name != "main.b" || call.Addend != -4 || call.Target != (Place{1, 16}) {
		t.Errorf("the call: %+v", call)
	}
	if lea.Synthetic || o.Symbols[lea.Symbol].Name != "go:string.*" || lea.Target != (Place{2, 5}) {
		t.Errorf("the string: %+v", lea)
	}
}

func TestSymbolAt(t *testing.T) {
	o, err := read(bytes.NewReader(newTiny().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		place Place
		want  string
	}{
		{Place{1, 0}, "main.a"}, {Place{1, 15}, "main.a"}, {Place{1, 16}, "main.b"}, {Place{1, 20}, ""},
		{Place{2, 11}, "go:string.*"}, {Place{2, 12}, ""}, {Place{3, 31}, "main.table"}, {Place{0, 0}, ""}, {Place{99, 0}, ""}, {Place{-1, 0}, ""},
	} {
		got := ""
		if i, ok := o.SymbolAt(c.place); ok {
			got = o.Symbols[i].Name
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.place, got, c.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	change := func(f func(*tiny)) []byte {
		c := newTiny()
		f(&c)
		return c.bytes()
	}
	whole := newTiny().bytes()
	for _, c := range []struct {
		name, text string
		data       []byte
	}{
		{"a text", "bad magic number", []byte(strings.Repeat("not an object\n", 10))},
		{"an empty file", "EOF", nil},
		{"a truncated object", "EOF", whole[:len(whole)-70]},
		{"an executable", "ET_EXEC", change(func(c *tiny) { c.typ = elf.ET_EXEC })},
		{"another architecture", "EM_AARCH64", change(func(c *tiny) { c.machine = elf.EM_AARCH64 })},
		{"no text", "no section .text", change(func(c *tiny) { c.textName = ".code" })},
		{"a name outside", "outside the string table", change(func(c *tiny) { c.symbolName = 1000 })},
		{"a symbol outside", "symbol main.a lies outside its section", change(func(c *tiny) { c.symbolSize = 21 })},
		{"a relocation against nothing", "names symbol 5 of 5", change(func(c *tiny) { c.relocSymbol = 5 })},
		{"a relocation outside", "lies outside the section", change(func(c *tiny) { c.relocOffset = 17 })},
		{"an unknown relocation", "unknown type R_X86_64_COPY", change(func(c *tiny) { c.relocType = elf.R_X86_64_COPY })},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.o")
			if err := os.WriteFile(path, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// FuzzRead does with any bytes all that may be done with an object.
func FuzzRead(f *testing.F) {
	f.Add(newTiny().bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range o.Symbols {
			if s := &o.Symbols[i]; s.Section != 0 && s.Type != elf.STT_SECTION {
				o.Content(i)
				o.Relocs(i)
				_, _ = o.TypeAt(Place{s.Section, s.Offset})
				o.describe(s.Offset, s.Name)
			}
		}
		for _, fn := range o.Functions {
			_, _ = o.Refs(fn)
			_, _, _ = o.Source(fn)
		}
		if _, err := Compare(o, o, Options{Differs: func(string) bool { return false }}); err != nil {
			t.Fatal(err)
		}
		_, _ = Compare(o, o, Options{})
		eq := &equality{base: o, new: o, settled: func(string) bool { return false }, refs: decodedRefs, memo: map[[2]int]bool{}, assumed: map[[2]int]bool{}}
		for i := range o.Symbols {
			if o.Symbols[i].Section != 0 && o.Symbols[i].Type != elf.STT_SECTION {
				eq.symbols(i, i)
			}
		}
	})
}
