package exe

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

var scratch string // a folder for the run

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "exe-test"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		// Companions are not for the user's cache; what the compiler keeps is.
		goCache, err := exec.Command("go", "env", "GOCACHE").Output()
		if err != nil {
			panic(err)
		}
		os.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
		os.Setenv("XDG_CACHE_HOME", filepath.Join(scratch, "cache"))
		return m.Run()
	}())
}

// build makes an executable of testdata/hello.
func build(t testing.TB, flags ...string) string {
	t.Helper()
	return buildEnv(t, nil, flags...)
}

func buildEnv(t testing.TB, env []string, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "build")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "hello")
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), ".")...)
	cmd.Dir = "testdata/hello"
	cmd.Env = append(os.Environ(), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, output)
	}
	return out
}

var hello = sync.OnceValue(func() string { return build(noTest{}) })

// noTest lets build run outside of a test.
type noTest struct{ testing.TB }

func (noTest) Helper()                   {}
func (noTest) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (noTest) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func open(t testing.TB, path string) *Executable {
	t.Helper()
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestOpenReadsWhatTheToolchainWrote(t *testing.T) {
	x := open(t, hello())
	id, err := exec.Command("go", "tool", "buildid", hello()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if x.GoBuildID != strings.TrimSpace(string(id)) {
		t.Errorf("Go build ID %q, want %q", x.GoBuildID, id)
	}
	if x.BuildInfo == nil || x.BuildInfo.Path != "example.com/hello" || !strings.HasPrefix(x.BuildInfo.GoVersion, "go1.") {
		t.Errorf("build info %+v", x.BuildInfo)
	}
	if len(x.GNUBuildID) < 16 {
		t.Errorf("GNU build ID %q", x.GNUBuildID)
	}
	text, ok, _ := x.Symbol("runtime.text")
	if !ok || x.TextStart != text.Addr || x.TextEnd <= x.TextStart || x.TypesStart < x.TextEnd || x.TypesEnd <= x.TypesStart {
		t.Errorf("text %#x-%#x, types %#x-%#x", x.TextStart, x.TextEnd, x.TypesStart, x.TypesEnd)
	}
	if x.TLSOffset != -8 || x.PIE {
		t.Errorf("thread-local g at %d, PIE %v", x.TLSOffset, x.PIE)
	}
}

func TestOpenTellsPositionIndependentExecutables(t *testing.T) {
	x := open(t, build(t, "-buildmode=pie"))
	if !x.PIE || x.TLSOffset != -8 || x.TextStart == 0 {
		t.Errorf("PIE %v, thread-local g at %d, text at %#x", x.PIE, x.TLSOffset, x.TextStart)
	}
	if _, _, line, err := x.FuncLine(x.TextStart); err != nil || line == 0 {
		t.Errorf("line of the first function: %d, %v", line, err)
	}
}

func TestSymbol(t *testing.T) {
	x := open(t, hello())
	s, ok, ambiguous := x.Symbol("main.greet")
	if !ok || ambiguous || s.Type != elf.STT_FUNC || s.Size == 0 || x.Sections[s.Section].Name != ".text" {
		t.Errorf("main.greet: %+v %v %v", s, ok, ambiguous)
	}
	if _, ok, ambiguous := x.Symbol("main.none"); ok || ambiguous {
		t.Error("main.none was found")
	}
	for addr, want := range map[uint64]string{s.Addr: s.Name, s.Addr + s.Size - 1: s.Name, 1: ""} {
		if got, ok := x.SymbolAt(addr); got.Name != want || ok != (want != "") {
			t.Errorf("at %#x: %q %v, want %q", addr, got.Name, ok, want)
		}
	}
}

func TestReadAt(t *testing.T) {
	x := open(t, hello())
	greeting, _, _ := x.Symbol("main.greeting")
	header := make([]byte, 16)
	if err := x.ReadAt(header, greeting.Addr); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, binary.LittleEndian.Uint64(header[8:]))
	if err := x.ReadAt(text, binary.LittleEndian.Uint64(header)); err != nil || string(text) != "hello" {
		t.Errorf("main.greeting: %q, %v", text, err)
	}
	bss, _, _ := x.Symbol("runtime.mheap_")
	zero := []byte{1, 2, 3}
	if err := x.ReadAt(zero, bss.Addr); err != nil || string(zero) != "\x00\x00\x00" {
		t.Errorf("bss: %v, %v", zero, err)
	}
	if err := x.ReadAt(make([]byte, 1), 16); err == nil {
		t.Error("read where nothing is")
	}
	if err := x.ReadAt(make([]byte, 1<<30), x.TextStart); err == nil {
		t.Error("read past a segment")
	}
}

func TestFuncLine(t *testing.T) {
	x := open(t, hello())
	s, _, _ := x.Symbol("main.greet")
	function, file, line, err := x.FuncLine(s.Addr)
	if err != nil || function != "main.greet" || filepath.Base(file) != "main.go" || line != 9 {
		t.Errorf("%s %s:%d %v", function, file, line, err)
	}
	if _, _, _, err := x.FuncLine(1); err == nil {
		t.Error("a function at address 1")
	}
}

func TestDWARF(t *testing.T) {
	if _, err := open(t, hello()).DWARF(); err != nil {
		t.Error(err)
	}
}

func TestOpenReadsCPrograms(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc")
	}
	source, out := filepath.Join(t.TempDir(), "x.c"), filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(source, []byte("static int same(void) { return 1; }\nint main(void) { return same(); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(gcc, "-O0", "-Wl,--build-id", "-o", out, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	x := open(t, out)
	if x.BuildInfo != nil || x.GoBuildID != "" || x.TextStart != 0 || x.GNUBuildID == "" {
		t.Errorf("a C program: %+v %q %#x %q", x.BuildInfo, x.GoBuildID, x.TextStart, x.GNUBuildID)
	}
	if s, ok, _ := x.Symbol("same"); !ok || !s.Local {
		t.Errorf("the static function: %+v %v", s, ok)
	}
	if _, _, _, err := x.FuncLine(0); err == nil {
		t.Error("a Go line in a C program")
	}
}

func TestSymbolTellsAmbiguousNames(t *testing.T) {
	x := &Executable{}
	strs := "\x00twice\x00alias\x00"
	entry := func(name uint32, addr uint64) []byte {
		e := make([]byte, symSize)
		binary.LittleEndian.PutUint32(e, name)
		e[4], e[6] = byte(elf.STT_FUNC), 1
		binary.LittleEndian.PutUint64(e[8:], addr)
		return e
	}
	table := make([]byte, symSize)
	for _, e := range [][]byte{entry(1, 0x2000), entry(7, 0x3000), entry(1, 0x1000), entry(7, 0x3000)} {
		table = append(table, e...)
	}
	if err := x.parseSymbols(table, strs, []int{0, 1}); err != nil {
		t.Fatal(err)
	}
	if _, ok, ambiguous := x.Symbol("twice"); ok || !ambiguous {
		t.Error("a name of two functions is not ambiguous")
	}
	if s, ok, ambiguous := x.Symbol("alias"); !ok || ambiguous || s.Addr != 0x3000 {
		t.Error("a name that is there twice for the same address is ambiguous")
	}
}

func TestOpenRefuses(t *testing.T) {
	good, err := os.ReadFile(hello())
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, value uint16) []byte {
		data := append([]byte(nil), good...)
		binary.LittleEndian.PutUint16(data[at:], value)
		return data
	}
	for _, c := range []struct {
		name, text string
		data       []byte
	}{
		{"a script", "not an ELF executable", []byte("#!/bin/sh\nexit 0\n")},
		{"an empty file", "not an ELF executable", nil},
		{"a truncated file", "not an ELF executable", good[:100]},
		{"a file without its end", "not an ELF executable", good[:len(good)-1]},
		{"another architecture", "EM_AARCH64", change(18, uint16(elf.EM_AARCH64))},
		{"an object", "no executable but ET_REL", change(16, uint16(elf.ET_REL))},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, c.data, 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if finding.CodeOf(err) != finding.UnsupportedTarget || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

// FuzzParse gives any bytes to what reads tables of the file by itself.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, 3*symSize), "\x00a\x00", []byte("\x04\x00\x00\x00\x04\x00\x00\x00\x03\x00\x00\x00GNU\x00abcd"))
	f.Fuzz(func(t *testing.T, symbols []byte, strs string, notes []byte) {
		x := &Executable{}
		if err := x.parseSymbols(symbols, strs, []int{0, 1}); err == nil {
			for _, s := range x.Symbols {
				x.Symbol(s.Name)
				x.SymbolAt(s.Addr)
			}
		}
		x.parseNotes(notes)
	})
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		_ = open(b, hello()).Close()
	}
}

func TestLinesAreRightAlsoIfOneWasAskedForBeforeTheSymbols(t *testing.T) {
	x, err := OpenAny(hello())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	x.FileOf("main.main")
	if err := x.Complete(); err != nil {
		t.Fatal(err)
	}
	main, ok, _ := x.Symbol("main.main")
	if fn, _, line, err := x.FuncLine(main.Addr); !ok || err != nil || fn != "main.main" || line == 0 {
		t.Errorf("main.main is %s, line %d, %v", fn, line, err)
	}
}
