package module

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// sample is a small module with one of everything.
func sample() *Module {
	text := bytes.Repeat([]byte{0xcc}, 64)
	copy(text, []byte{0xe8, 0, 0, 0, 0, 0xc3})            // answer: call other; ret
	copy(text[16:], []byte{0x64, 0x8b, 4, 0x25, 0, 0, 0}) // local: mov %fs:0, %eax
	sum := sha256.Sum256([]byte("old"))
	return &Module{
		Manifest: Manifest{
			Format: FormatVersion, Name: "fix", Description: "a fix", Language: "go",
			Target: Target{GoBuildID: "a/b/c/d", GNUBuildID: "abcd", GoVersion: "go1.26.8", Path: "example.com/server"},
			Functions: []Function{{
				Symbol: "main.answer", New: "main.answer", Offset: 0x1000, Size: 40,
				SHA256: hex.EncodeToString(sum[:]), Masked: []Field{{1, 4}, {9, 4}},
				Source: "/src/main.go:12", OldSource: "/src/main.go:11",
			}},
			Requires: []Required{{ID: earlierID, Name: "earlier", Size: 0x6000, Text: 0x1000}},
			Go: &Go{
				ModuledataAddr: 0x5000, ModuledataSize: 0x200, TypesAddr: 0x3000, TextAddr: 0x1000,
				Types: []TypeBinding{{Symbol: "type:main.T", Offset: 0x40, Hash: 7, Kind: 25, Size: 16, String: "main.T", PkgPath: "main"}},
				Itabs: []ItabBinding{{Symbol: "go:itab.main.T,main.I", HasStatic: true, Static: -64,
					Type: "type:main.T", Inter: "type:main.I", Hash: 7, Own: "go:itab.own"}},
				Methods: []MethodFill{{Offset: 0x80, Size: 8, Symbol: "main.answer"}, {Offset: 0x90, Size: 4, Symbol: "main.other"},
					{Module: earlierID, Offset: 0x80, Size: 4, Symbol: "main.answer"}},
				Variables:    []Variable{{Symbol: "go:itab.own", Name: "main.v", Type: "0f"}},
				Imports:      []Import{{Symbol: "main.shared", Module: earlierID, Offset: 0x3000, Size: 8}},
				InitPackages: []string{"encoding/json"},
			},
			Findings: []finding.Finding{{Code: finding.NeverReturns, Severity: finding.Warning, Function: "main.main", Message: "main.main never returns"}},
			Origin:   Origin{Base: "1234abc", New: "/src", Builder: "darn 0.1"},
		},
		Segments: []Segment{
			{Name: ".text", Addr: 0x1000, Data: text, Size: 0x1000, Flags: elf.PF_R | elf.PF_X},
			{Name: ".rodata", Addr: 0x3000, Data: make([]byte, 0x80), Size: 0x1000, Flags: elf.PF_R},
			{Name: ".data", Addr: 0x5000, Data: make([]byte, 0x300), Size: 0x1000, Flags: elf.PF_R | elf.PF_W},
			{Name: ".bss", Addr: 0x6000, Size: 0x2000, Flags: elf.PF_R | elf.PF_W},
		},
		Symbols: []Symbol{
			{Name: "main.local", Type: elf.STT_FUNC, Addr: 0x1010, Size: 8, Local: true},
			{Name: "runtime.types", Type: elf.STT_NOTYPE, Addr: 0x2000, Local: true}, // in a page that is not shipped
			{Name: "main.answer", Type: elf.STT_FUNC, Addr: 0x1000, Size: 16},
			{Name: "go:itab.own", Type: elf.STT_OBJECT, Addr: 0x3000, Size: 32},
			{Name: "type:main.I", Type: elf.STT_OBJECT, Addr: 0x3040, Size: 48},
			{Name: "type:main.T", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "go:itab.main.T,main.I", Type: elf.STT_OBJECT, Undefined: true},
			{Name: "main.other", Type: elf.STT_FUNC, Undefined: true},
			{Name: "runtime.tlsg", Type: elf.STT_TLS, Undefined: true},
		},
		Relocs: []Reloc{
			{Addr: 0x1001, Type: elf.R_X86_64_PC32, Symbol: 7, Addend: -4},
			{Addr: 0x1014, Type: elf.R_X86_64_TPOFF32, Symbol: 8},
			{Addr: 0x5000, Type: elf.R_X86_64_RELATIVE, Symbol: -1, Addend: 0x3000},
			{Addr: 0x6010, Type: elf.R_X86_64_64, Symbol: 5, Addend: 8},
		},
	}
}

// earlierID is the module that sample requires.
var earlierID = strings.Repeat("0a", 32)

// encoded returns what Write makes of m.
func encoded(t testing.TB, m *Module) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compiled is a module whose code and DWARF gcc made.
func compiled(t testing.TB) *Module {
	t.Helper()
	dir := t.TempDir()
	source, object := filepath.Join(dir, "answer.c"), filepath.Join(dir, "answer.so")
	err := os.WriteFile(source, []byte("static int twice(int x) { return 2 * x; }\nint answer(int x) { return twice(x) + 1; }\n"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-g", "-shared", "-nostdlib", "-o", object, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := elf.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := sample()
	text := f.Section(".text")
	page := make([]byte, text.Addr%pageSize) // DWARF names addresses: keep them
	data, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	m.Segments[0].Data = append(page, data...)
	if text.Addr-text.Addr%pageSize != m.Segments[0].Addr {
		t.Fatalf("gcc put .text at %#x", text.Addr)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	m.Symbols, m.Relocs = m.Symbols[3:], nil
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF {
			m.Symbols = append(m.Symbols, Symbol{Name: s.Name, Type: elf.STT_FUNC, Addr: s.Value, Size: s.Size, Local: elf.ST_BIND(s.Info) == elf.STB_LOCAL})
		}
	}
	m.Manifest.Functions[0].New = "answer"
	m.Manifest.Go.Methods = nil
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			data, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			m.Debug = append(m.Debug, Section{s.Name, data})
		}
	}
	return m
}
