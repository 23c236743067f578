package module

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
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

// noted is the source of a module that has a note with a manifest.
func noted(manifest string) string {
	return fmt.Sprintf("int total(int n) { return n; }\n__asm__(%q);\n", fmt.Sprintf(
		".pushsection .note.darn, \"a\", @note\n.balign 4\n.long 5, %d, 1\n.asciz \"Darn\"\n.balign 4\n.ascii %q\n.balign 4\n.popsection\n", len(manifest), manifest))
}

func TestFixupsOfAManifestAreChecked(t *testing.T) {
	for _, c := range []struct{ name, fixup, words string }{
		{"one in the code", `{"addr": 4096, "type": 2, "symbol": "a.c:x", "addend": -4}`, ""},
		{"of another type", `{"addr": 4096, "type": 8, "symbol": "x"}`, "has type R_X86_64_RELATIVE"},
		{"of a thread-local variable of its own", `{"addr": 4096, "type": 23}`, "has type R_X86_64_TPOFF32"},
		{"outside", `{"addr": 1073741823, "type": 2, "symbol": "x"}`, "alters bytes outside every segment"},
		{"at the end", `{"addr": 18446744073709551615, "type": 1, "symbol": "x"}`, "alters bytes outside every segment"},
		{"that leads outside", `{"addr": 4096, "type": 10, "addend": -1}`, "leads to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Open(compile(t, noted(`{"format": 2, "language": "c", "fixups": [`+c.fixup+`]}`)))
			if c.words != "" {
				if finding.CodeOf(err) != finding.ModuleMalformed || !strings.Contains(err.Error(), c.words) {
					t.Errorf("open says %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			f := m.Shared.Fixups
			if len(f) != 1 || f[0].Symbol < 0 || m.Symbols[f[0].Symbol].Name != "a.c:x" || !m.Symbols[f[0].Symbol].Undefined {
				t.Errorf("the fixups are %+v", f)
			}
		})
	}
}

// Packed relative relocations say the same as others do.
func TestPackedRelocationsAreRead(t *testing.T) {
	source := "static int a, b; static int *table[200] = {&a, &b, [7] = &a, [70] = &b, [199] = &a}; int *total(int n) { return table[n]; }"
	relative := func(flags ...string) (places []uint64) {
		m, err := Open(compile(t, source, flags...))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(m.Symbols, func(s Symbol) bool { return s.Name == "table" })
		for _, r := range m.Relocs {
			if at := r.Addr - m.Symbols[i].Addr; r.Type == elf.R_X86_64_RELATIVE && at < m.Symbols[i].Size {
				places = append(places, at)
			}
		}
		slices.Sort(places)
		return places
	}
	plain, packed := relative(), relative("-Wl,-z,pack-relative-relocs")
	if len(plain) != 5 || !slices.Equal(plain, packed) {
		t.Errorf("they are at %#x, and packed at %#x", plain, packed)
	}
}
