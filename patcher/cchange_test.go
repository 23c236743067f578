package patcher_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build/cbuild"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// cEdit is one replacement in a source file of cshop.
type cEdit struct{ file, old, new string }

// changeModule builds a module from an edit of one or more files of cshop. Of one,
// the flags are those that the program's debugging information has; of more, those
// of a compilation database with the flags given.
func changeModule(t *testing.T, exe string, flags []string, edits ...cEdit) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	base := filepath.Join(targettest.Root(t), "testdata", "targets", "cshop")
	now := filepath.Join(t.TempDir(), "new")
	if err := os.CopyFS(now, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		path := filepath.Join(now, e.file)
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), e.old) {
			t.Fatalf("%s has no %q: %v", e.file, e.old, err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), e.old, e.new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := cbuild.ChangeOptions{Base: base, Target: exe, Output: filepath.Join(t.TempDir(), "fix.so")}
	if strings.HasSuffix(edits[0].file, ".h") {
		var entries []string
		for _, f := range []string{"shop.c", "a.c", "b.c"} {
			entries = append(entries, fmt.Sprintf(`{"directory": %q, "file": %q, "command": "gcc -g -O1 -Wall -fno-math-errno -pthread %s -c %s"}`, now, f, strings.Join(flags, " "), f))
		}
		if err := os.WriteFile(filepath.Join(now, "compile_commands.json"), []byte("["+strings.Join(entries, ",")+"]"), 0o644); err != nil {
			t.Fatal(err)
		}
		o.New = now
	} else {
		o.Source, o.Base = filepath.Join(now, edits[0].file), filepath.Join(base, edits[0].file)
	}
	r, err := cbuild.BuildChange(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Path
}

// broadEdit uses what an edit may: new variables and functions, the program's
// static, thread-local and hidden ones, pointers to functions, libraries.
var broadEdit = []cEdit{
	{"shop.c", "NOINLINE int total(int n)\n{", "static int calls, *where = &calls;\nint added = 5;\nNOINLINE const char *greet(void);\nint visit(void);\nstatic NOINLINE int extra(int n) { return n == 0 ? 0 : 1000 + added + (int)strlen(greet()); }\nstatic int (*const table[])(int) = {extra, price, hidden_times};\nNOINLINE int total(int n)\n{\n\t*where = calls + 1;"},
	{"shop.c", "return discount(sum) + rate;", "return discount(sum) + rate + table[0](n) + (greeter == greet) + table[1](0) + (visits > 0) + table[2](2) - (stdout ? 3 : 0) * (calls > 0);"},
}

// TestEditsOfCRun activates modules that were built from edits.
func TestEditsOfCRun(t *testing.T) {
	for _, test := range []struct {
		name  string
		flags string
		edits [][]cEdit
		want  []string
	}{
		{"position independent", "-O2", [][]cEdit{
			broadEdit,
			{{"b.c", "return n + named_state", "return n - named_state"}},
			{{"shop.h", "FEE 0", "FEE 7"}},
			{{"b.c", "named(n) * 3)", "named(n) * 3) + (count > 1 ? 1000 : 0)"}}, // the program has called it already
		}, []string{" total=1037 ", " named=4/-297 ", " named=11/310 ", " named=4/1303 "}},
		{"at a fixed address", "-O2 -fno-pie -no-pie", [][]cEdit{broadEdit}, []string{" total=1037 "}},
		{"of code for libraries", "-O2 -fPIC -fno-plt", [][]cEdit{broadEdit}, []string{" total=1037 "}},
		{"with thread-local variables by calls", "-O2 -fPIC -ftls-model=global-dynamic", [][]cEdit{broadEdit}, []string{" total=1037 "}},
		{"static", "-O2 -static", [][]cEdit{broadEdit}, []string{" total=1037 "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := strings.Fields(test.flags)
			exe := cshop(t, flags...)
			var modules []string
			for _, edits := range test.edits {
				modules = append(modules, changeModule(t, exe, flags, edits...))
			}
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, " total=20 ")
			e, detach := attach(t, target)
			for i, m := range modules {
				p := load(t, e, m)
				activate(t, e, p)
				prints(t, target, test.want[i])
				prints(t, target, " wrong=0")
				deactivate(t, e, p)
				prints(t, target, " total=20 greet=hello/hello ")
				targettest.Eventually(t, "an unload", func() bool {
					_, err := e.Unload(t.Context(), p.ID)
					return err == nil
				})
			}
			detach()
			target.MustLive()
		})
	}
}

// Modules and programs of gcc and clang fit each other.
func TestModulesOfClang(t *testing.T) {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("no clang: .ci/setup installs it")
	}
	dir := filepath.Join(targettest.Root(t), "testdata", "targets", "cshop")
	clang := func(t *testing.T, args ...string) string {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		if text, err := exec.Command("clang", append([]string{"-w", "-g", "-O2", "-pthread", "-o", out}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return out
	}
	source := filepath.Join(t.TempDir(), "fix.c")
	if err := os.WriteFile(source, []byte(everyBinding), 0o644); err != nil {
		t.Fatal(err)
	}
	ofClang := func(t *testing.T) string {
		return clang(t, filepath.Join(dir, "shop.c"), filepath.Join(dir, "a.c"), filepath.Join(dir, "b.c"))
	}
	for _, test := range []struct {
		name string
		exe  func(t *testing.T) string
		m    func(t *testing.T, exe string) string
		want string
	}{
		{"a module of clang for a program of gcc", func(t *testing.T) string { return cshop(t, "-O2") },
			func(t *testing.T, _ string) string { return clang(t, "-shared", "-fPIC", source) }, " total=1069 "},
		{"a module of gcc for a program of clang", ofClang,
			func(t *testing.T, _ string) string { return cModule(t, everyBinding) }, " total=1069 "},
		{"an edit of a program of clang", ofClang,
			func(t *testing.T, exe string) string { return changeModule(t, exe, nil, broadEdit...) }, " total=1037 "},
	} {
		t.Run(test.name, func(t *testing.T) {
			exe := test.exe(t)
			m := test.m(t, exe)
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, " total=20 ")
			e, detach := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			prints(t, target, test.want)
			prints(t, target, " wrong=0")
			deactivate(t, e, p)
			prints(t, target, " total=20 ")
			detach()
			target.MustLive()
		})
	}
}

// TestEditsOfCPlusPlusRun edits methods, virtual functions, templates and what
// throws; the new code has lambdas, static objects and handlers of its own.
func TestEditsOfCPlusPlusRun(t *testing.T) {
	dir := filepath.Join(targettest.Root(t), "testdata", "targets", "cshop")
	exe := filepath.Join(t.TempDir(), "cart")
	if out, err := exec.Command("g++", "-g", "-O2", "-pthread", "-o", exe, filepath.Join(dir, "cart.cc")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := changeModule(t, exe, nil,
		cEdit{"cart.cc", "NOINLINE int Cart::total(int n) const { return n * rate; }",
			`static NOINLINE int extra(int n)
{
	static std::string word("four");
	auto longer = [&](int by) { return (int)word.size() + by; };
	try {
		if (n > 0)
			throw Refused(word);
	} catch (const std::exception &e) {
		return longer(996) + (e.what() == word ? 0 : 1);
	}
	return 0;
}
NOINLINE int Cart::total(int n) const { return n * rate + extra(n); }`},
		cEdit{"cart.cc", "return side * side", "return side * side + Shape::area()"},
		cEdit{"cart.cc", `throw Refused("old")`, `throw Refused("new")`},
		cEdit{"cart.cc", "? x + x :", "? x + x + 1 :"})
	endless := cModule(t, `
int puts(const char *);
static __attribute__((noinline)) void drop(int *x) { ++*(volatile int *)x; }
int twice(int n) __asm__("_ZN4shop5twiceIiEET_S1_");
int twice(int n) { int x __attribute__((cleanup(drop))) = n; puts(""); return x; }`, "-fexceptions", "-nostdlib")
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=6 area=16 twice=42 caught=old")
	e, detach := attach(t, target)
	t.Run("unwind tables without an end are refused", func(t *testing.T) {
		_, _, err := e.Load(t.Context(), endless)
		if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), "they have no end") {
			t.Errorf("load says %v", err)
		}
	})
	p := load(t, e, m)
	for range 2 {
		activate(t, e, p)
		prints(t, target, " total=1006 area=17 twice=43 caught=new")
		deactivate(t, e, p)
		prints(t, target, " total=6 area=16 twice=42 caught=old")
	}
	detach()
	target.MustLive()
}
