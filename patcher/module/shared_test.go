package module

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// compile makes a shared object of C source.
func compile(t testing.TB, source string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fix.c")
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(filepath.Dir(path), "fix.so")
	args := append([]string{"-shared", "-fPIC", "-g", "-O1", "-o", out, path}, flags...)
	if output, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return out
}

func TestASharedObjectOfACompilerIsAModule(t *testing.T) {
	m, err := Open(compile(t, "extern int theirs; int own = 3; static int helper(void) { return theirs; } int total(int n) { return n * own + helper(); }"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Manifest.Name != "fix" || m.Manifest.Language != "c" || m.Shared == nil || len(m.Shared.Constructors) != 0 || m.Shared.Frames == 0 {
		t.Errorf("got %+v", m.Manifest)
	}
	var names []string
	for _, x := range m.Replaces() {
		names = append(names, x.Name)
	}
	if !slices.Contains(names, "total") || slices.Contains(names, "frame_dummy") || slices.Contains(names, "_init") {
		t.Errorf("it may replace %q", names)
	}
	if !slices.ContainsFunc(m.Symbols, func(s Symbol) bool { return s.Name == "theirs" && s.Undefined }) {
		t.Error("what it needs is not known")
	}
	for _, s := range m.Segments {
		if s.Addr%pageSize != 0 || s.Size%pageSize != 0 || s.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
			t.Errorf("a segment at %#x with %#x bytes, %v", s.Addr, s.Size, s.Flags)
		}
	}
}

func TestConstructorsAreFound(t *testing.T) {
	m, err := Open(compile(t, "int x; __attribute__((constructor)) static void begin(void) { x = 1; } int total(void) { return x; }"))
	if err != nil {
		t.Fatal(err)
	}
	if c := m.Shared.Constructors; len(c) != 1 || m.FunctionAt(c[0]) != "begin" {
		t.Errorf("the constructors are at %#x", c)
	}
}

// FuzzShared: whatever the compiler's file was turned into, reading it does not
// panic.
func FuzzShared(f *testing.F) {
	data, err := os.ReadFile(compile(f, "extern __thread int t; int total(int n) { return n + t; }", "-s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Read(data)
		if err != nil {
			return
		}
		m.FunctionAt(m.End())
		m.Replaces()
	})
}
