package cbuild

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// shop builds the C program of the tests.
func shop(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "shop")
	dir := "../../../testdata/targets/cshop/"
	if out, err := exec.Command("gcc", "-g", "-O2", "-pthread", "-o", exe, dir+"shop.c", dir+"a.c", dir+"b.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

func source(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fix.c")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBuildWritesWhatTheModuleIsFor(t *testing.T) {
	o := Options{
		Source: source(t, "extern int named_state;\nint named(int n) { return n + named_state + MORE; }\n"), Target: shop(t),
		Output: filepath.Join(t.TempDir(), "out.so"), Flags: []string{"-DMORE=7"},
		Functions: []string{"b.c:named"}, Symbols: []string{"b.c:named_state"},
	}
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := module.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	f := m.Manifest.Functions
	if len(f) != 1 || f[0].Symbol != "b.c:named" || f[0].New != "named" || f[0].Size == 0 || len(f[0].SHA256) != 64 || !strings.HasSuffix(f[0].Source, "fix.c:2") {
		t.Errorf("it replaces %+v", f)
	}
	if m.Manifest.Target.GNUBuildID == "" || m.Manifest.Name != "fix" || len(m.Manifest.Bindings) != 1 {
		t.Errorf("the manifest is %+v", m.Manifest)
	}
}

func TestBuildRefuses(t *testing.T) {
	exe := shop(t)
	for _, c := range []struct {
		name, source string
		functions    []string
		code         finding.Code
		words        string
	}{
		{"a name that is there twice", "int named(int n) { return n; }", nil, finding.SymbolAmbiguous, "--function FILE.c:named"},
		{"a file that has no such function", "int named(int n) { return n; }", []string{"c.c:named"}, finding.SymbolUnresolved, "c.c:named: the program has no such function"},
		{"nothing of the program's", "int nothing(void) { return 1; }", nil, finding.SymbolUnresolved, "none of the module's functions"},
		{"what does not compile", "int total(int n) { return m; }", nil, "", "'m' undeclared"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.so")
			t.Setenv("LC_ALL", "C")
			_, err := Build(t.Context(), Options{Source: source(t, c.source), Target: exe, Output: out, Functions: c.functions})
			if err == nil || finding.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.words) {
				t.Errorf("build says %v", err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a module was written")
			}
		})
	}
}

// Copies of a function in its callers are not replaced, and that is said.
func TestInlinedCopiesAreNamed(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "x")
	text := source(t, `
static inline int small(int n) { return n * 3 + 1; }
int (*keep)(int) = small;
int outer(int n) { return small(n) + keep(n); }
int main(int n, char **a) { return outer(n); }
`)
	if out, err := exec.Command("gcc", "-g", "-O2", "-o", exe, text).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := Build(t.Context(), Options{Source: source(t, "int small(int n) { return n; }"), Target: exe, Output: filepath.Join(t.TempDir(), "out.so")})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 1 || r.Findings[0].Code != finding.InlinedCopy || !strings.Contains(r.Findings[0].Message, "outer") {
		t.Errorf("the findings are %v", r.Findings)
	}
}
