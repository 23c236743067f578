package redirect

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// goCommand returns the path of the go command: a large Go binary that every
// machine which runs these tests has.
func goCommand(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "bin", "go")
}

// libc returns the path of the C library that gcc links with.
func libc(t testing.TB) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	out, err := exec.Command(gcc, "-print-file-name=libc.so.6").Output()
	if err != nil {
		t.Fatalf("gcc -print-file-name: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// image is the executable bytes of an ELF file.
type image struct {
	sections []section
	funcs    []function
}

type section struct {
	addr uint64
	data []byte
}

type function struct {
	name string
	addr uint64
	code []byte
}

// at returns up to n bytes at addr.
func (im *image) at(addr uint64, n int) []byte {
	for _, s := range im.sections {
		if addr >= s.addr && addr < s.addr+uint64(len(s.data)) {
			b := s.data[addr-s.addr:]
			return b[:min(n, len(b))]
		}
	}
	return nil
}

// readImage reads the executable sections and the functions of a file, each
// address once.
func readImage(t testing.TB, path string) *image {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("needs an amd64 toolchain")
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im := &image{}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 || s.Type != elf.SHT_PROGBITS {
			continue
		}
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		im.sections = append(im.sections, section{s.Addr, data})
	}
	syms, err := f.Symbols()
	if err != nil {
		syms, err = f.DynamicSymbols()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0 || seen[s.Value] {
			continue
		}
		if code := im.at(s.Value, int(s.Size)); uint64(len(code)) == s.Size {
			seen[s.Value] = true
			im.funcs = append(im.funcs, function{s.Name, s.Value, code})
		}
	}
	if len(im.funcs) == 0 {
		t.Fatalf("%s has no functions", path)
	}
	return im
}

// gcc runs gcc with args and fails the test if it fails.
func gcc(t testing.TB, args ...string) {
	t.Helper()
	tool, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// named returns the function called name.
func (im *image) named(t testing.TB, name string) function {
	t.Helper()
	for _, f := range im.funcs {
		if f.name == name {
			return f
		}
	}
	t.Fatalf("no function %s", name)
	return function{}
}
