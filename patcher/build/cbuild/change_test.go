package cbuild

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

const shopSource = "../../../testdata/targets/cshop/"

// base is the C program of the tests, built once, and a copy of its source.
var base = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "darn-cbuild-test-")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(dir, "base"), os.DirFS(shopSource)); err != nil {
		return "", err
	}
	cmd := exec.Command("gcc", "-g", "-O2", "-pthread", "-o", "../shop", "shop.c", "a.c", "b.c")
	cmd.Dir = filepath.Join(dir, "base")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	cache, err := os.MkdirTemp("", "darn-cbuild-cache-") // what is kept is not for the user's
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CACHE_HOME", cache)
	code := m.Run()
	if dir, err := base(); err == nil {
		os.RemoveAll(dir)
	}
	os.RemoveAll(cache)
	os.Exit(code)
}

// edited is a copy of the program's tree with replacements in its files, and
// options that build the edit.
func edited(t *testing.T, replace ...[3]string) ChangeOptions {
	t.Helper()
	dir, err := base()
	if err != nil {
		t.Fatal(err)
	}
	now := filepath.Join(t.TempDir(), "new")
	if err := os.CopyFS(now, os.DirFS(filepath.Join(dir, "base"))); err != nil {
		t.Fatal(err)
	}
	for _, r := range replace {
		path := filepath.Join(now, r[0])
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), r[1]) {
			t.Fatalf("%s has no %q: %v", r[0], r[1], err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), r[1], r[2], 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	type entry struct {
		Directory string   `json:"directory"`
		File      string   `json:"file"`
		Arguments []string `json:"arguments"`
	}
	var entries []entry
	for _, f := range []string{"shop.c", "a.c", "b.c"} {
		entries = append(entries, entry{now, f, []string{"gcc", "-g", "-O2", "-pthread", "-MMD", "-c", "-o", f + ".o", f}})
	}
	data, err := json.Marshal(entries)
	if err == nil {
		err = os.WriteFile(filepath.Join(now, "compile_commands.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ChangeOptions{Target: filepath.Join(dir, "shop"), Base: filepath.Join(dir, "base"), New: now, Output: filepath.Join(t.TempDir(), "out.so")}
}

// TestEditsOfTrees shows which functions an edit replaces.
func TestEditsOfTrees(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits [][3]string
		want  []string
		words []string // of the verdicts and findings
	}{
		{"one function", [][3]string{{"shop.c", "+ rate;", "+ rate + 1;"}}, []string{"total"}, []string{"/new/shop.c:", "total: replaced: its code changed"}},
		{"a static function of a name that is there twice", [][3]string{{"b.c", "return n + named_state", "return n - named_state"}}, []string{"b.c:named"}, nil},
		{"a header that two sources use, whose function is inlined", [][3]string{{"shop.h", "FEE 0", "FEE 7"}}, []string{"named_a", "named_b"}, nil},
		{"a string", [][3]string{{"shop.c", `"hello"`, `"good day"`}}, []string{"greet"}, []string{"a constant that it uses changed"}},
		{"a new function and a new variable in a new file", [][3]string{{"shop.c", "NOINLINE int visit(void) { return ++visits; }", "static int seen;\nstatic NOINLINE int see(void) { return ++seen; }\nNOINLINE int visit(void) { return ++visits + see(); }"}},
			[]string{"visit"}, []string{"see: new"}},
		{"main", [][3]string{{"shop.c", "return ms + keep", "return ms - keep"}, {"shop.c", `"ready\n"`, `"begun\n"`}}, []string{"slow"}, []string{"main changed, and it runs"}},
		{"a type under another name, and a new enumeration", [][3]string{{"shop.c", "static int sold;", "enum kind { NONE };\nstruct other { int x; };\nstatic int sold;"}, {"shop.c", "n * hidden_factor", "n * hidden_factor + NONE + 1"}}, []string{"hidden_times"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := BuildChange(t.Context(), edited(t, c.edits...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range r.Functions {
				got = append(got, f.Symbol)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("it replaces %q, not %q", got, c.want)
			}
			said := fmt.Sprint(r.Verdicts, r.Findings)
			if c.name == "main" && (len(r.Findings) != 1 || r.Findings[0].Code != finding.NeverReturns) {
				t.Errorf("the findings are %v", r.Findings)
			}
			for _, w := range c.words {
				if !strings.Contains(said, w) {
					t.Errorf("nothing says %q in %s", w, said)
				}
			}
			if m, err := module.Open(r.Path); err != nil || m.Manifest.Target.GNUBuildID == "" {
				t.Errorf("the module: %v", err)
			}
		})
	}
}

// TestEditsThatAreRefused shows what new code can't do in a program that runs.
func TestEditsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		edits  [][3]string
		code   finding.Code
		source string
		words  string
	}{
		{"a member of a structure is new", [][3]string{{"shop.h", "int price;", "int price, weight;\n\tlong tax;"}}, finding.TypeLayoutChanged, "/shop.h:3", "struct item: the layout of the type changed (24 bytes, and 16 before)"},
		{"members of a structure change places", [][3]string{{"shop.h", "const char *name;\n\tint price;", "int price;\n\tconst char *name;"}, {"shop.c", `{{"tea", 2}, {"cake", 5}, {"milk", 1}}`, `{{2, "tea"}}`}}, finding.TypeLayoutChanged, "/shop.h:3", "name is at 8, and was at 0"},
		{"bits of a structure change places", [][3]string{{"shop.h", "int price;", "int price : 16, rest : 16;"}}, finding.TypeLayoutChanged, "/shop.h:3", "struct item: the layout of the type changed (price is at bit 64 (16 bits), and was at 8)"},
		{"the type of a member changes", [][3]string{{"shop.h", "int price;", "float price;"}}, finding.TypeLayoutChanged, "/shop.h:3", "price has the type float:4, and had int:4"},
		{"a signature changes", [][3]string{{"shop.c", "NOINLINE int price(int n) { return items[n % 3].price; }", "NOINLINE long price(long n) { return items[n % 3].price; }"}}, finding.SignatureChanged, "/shop.c:21", "price: the function is long int:8(long int:8), and was int:4(int:4)"},
		{"an initial value changes", [][3]string{{"shop.c", "int rate = 10;", "int rate = 11;"}}, finding.GlobalChanged, "/shop.c:14", "rate: the variable's initial value changed"},
		{"initial values with addresses change", [][3]string{{"shop.c", `{"tea", 2}`, `{"coffee", 2}`}}, finding.GlobalChanged, "/shop.c:17", "items: the variable's initial value changed"},
		{"a variable grows", [][3]string{{"shop.c", "static int sold;", "static long sold;"}}, finding.GlobalChanged, "/shop.c:15", "sold: the variable has 8 bytes, and 4"},
		{"a variable has another type", [][3]string{{"shop.c", "static int sold;", "static float sold;"}}, finding.GlobalChanged, "/shop.c:15", "sold: the variable is float:4, and int:4"},
		{"a thread-local variable is new", [][3]string{{"shop.c", "NOINLINE int visit(void) { return ++visits; }", "static __thread int mine;\nNOINLINE int visit(void) { return ++visits + mine++; }"}}, finding.UnsupportedBuild, "/shop.c:39", "mine: the thread-local variable is new"},
		{"a constructor is new", [][3]string{{"shop.c", "static int sold;", "static int sold;\n__attribute__((constructor)) static void begin(void) { sold = 1; }"}}, finding.InitChanged, "/shop.c:16", "begin: what runs before main changed"},
		{"nothing changes", [][3]string{{"shop.c", "// global", "// for all"}}, finding.NoChange, "", "the edit changes no function"},
		{"no file differs", nil, finding.NoChange, "", "no source file of the program differs"},
		{"only main changes", [][3]string{{"shop.c", `"ready\n"`, `"begun\n"`}}, finding.NoChange, "", "no function of the running program changes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := edited(t, c.edits...)
			_, err := BuildChange(t.Context(), o)
			refuses(t, err, o, c.code, c.source, c.words)
		})
	}
}

func refuses(t *testing.T, err error, o ChangeOptions, code finding.Code, source, words string) {
	t.Helper()
	if finding.CodeOf(err) != code || !strings.Contains(err.Error(), words) || !strings.Contains(finding.As(err).Findings[0].Source, source) || finding.As(err).Findings[0].Advice == "" {
		t.Errorf("build says %v", err)
	}
	if _, err := os.Stat(o.Output); err == nil {
		t.Error("a module was written")
	}
}

// What of an edit a module does not bring is said.
func TestFilesThatStayOutAreNamed(t *testing.T) {
	t.Run("a header that other sources include", func(t *testing.T) {
		o := edited(t, [3]string{"shop.h", "FEE 0", "FEE 7"})
		o.Source = filepath.Join(o.New, "a.c")
		r, err := BuildChange(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Functions) != 1 || len(r.Findings) != 1 || r.Findings[0].Source != filepath.Join(o.New, "shop.h") || !strings.Contains(r.Findings[0].Message, "other sources that include it") {
			t.Errorf("it replaces %v: %v", r.Functions, r.Findings)
		}
	})
	t.Run("a source that no command compiles", func(t *testing.T) {
		o := edited(t, [3]string{"shop.h", "FEE 0", "FEE 7"}, [3]string{"cart.cc", "return 1", "return 2"})
		r, err := BuildChange(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Functions) != 2 || len(r.Findings) != 1 || r.Findings[0].Source != filepath.Join(o.New, "cart.cc") || !strings.Contains(r.Findings[0].Message, "nothing says how it is compiled") {
			t.Errorf("it replaces %v: %v", r.Functions, r.Findings)
		}
	})
}

// Without optimisation too a string concerns only the function that uses it.
func TestAStringWithoutOptimisation(t *testing.T) {
	o := edited(t, [3]string{"shop.c", `"hello"`, `"good day to you"`})
	o.Target = filepath.Join(t.TempDir(), "shop")
	cmd := exec.Command("gcc", "-g", "-O0", "-pthread", "-fno-pie", "-no-pie", "-o", o.Target, "shop.c", "a.c", "b.c")
	cmd.Dir = o.Base
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o.Flags = []string{"-O0", "-fno-pie"}
	r, err := BuildChange(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Functions) != 1 || r.Functions[0].Symbol != "greet" || len(r.Findings) > 0 {
		t.Errorf("it replaces %v: %v", r.Functions, r.Findings)
	}
}

// The same for C++: the sources are compared before they are with the program.
func TestEditsOfCPlusPlusThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name          string
		edit          [3]string
		code          finding.Code
		source, words string
	}{
		{"a virtual function is new", [3]string{"cart.h", "virtual int area() const;", "virtual int area() const;\n\tvirtual int edges() const { return 4; }"}, finding.MethodSetChanged, "", "vtable for shop::S"},
		{"a member is new", [3]string{"cart.h", "int rate;", "int rate, tax;"}, finding.TypeLayoutChanged, "/cart.h:17", "struct shop::Cart: the layout of the type changed (8 bytes, and 4 before)"},
		{"an object is initialised at the start", [3]string{"cart.cc", "namespace shop {", "static std::string word(std::getenv(\"HOME\"));\nnamespace shop {"}, finding.InitChanged, "", "what runs before main changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := edited(t, c.edit)
			o.Source, o.Base, o.New = filepath.Join(o.New, "cart.cc"), filepath.Join(o.Base, "cart.cc"), ""
			_, err := BuildChange(t.Context(), o)
			refuses(t, err, o, c.code, c.source, c.words)
		})
	}
}

// The base is compared with the code that runs.
func TestABaseThatIsNotWhatRunsIsRefused(t *testing.T) {
	o := edited(t, [3]string{"shop.c", "+ rate;", "+ rate + 1;"})
	other := edited(t, [3]string{"shop.c", "sold++;", "sold += 2;"})
	o.Base = other.New
	_, err := BuildChange(t.Context(), o)
	refuses(t, err, o, finding.TextMismatch, "/shop.c:28", "total: the base is not what the program was built from")
	if want := "11 of 12 functions of the file are the program's"; !strings.Contains(err.Error(), want) {
		t.Errorf("nothing says %q in %v", want, err)
	}

	o = edited(t, [3]string{"shop.c", "+ rate;", "+ rate + 1;"})
	o.Flags = []string{"-O0"}
	_, err = BuildChange(t.Context(), o)
	refuses(t, err, o, finding.TextMismatch, "/shop.c:28", "not compiled so")
}

// TestFlagsOfASingleFile shows where the flags come from, and what may be the
// base.
func TestFlagsOfASingleFile(t *testing.T) {
	dir, err := base()
	if err != nil {
		t.Fatal(err)
	}
	edit := [3]string{"b.c", "* 3", "* 4"}
	old := filepath.Join(dir, "base", "b.c")
	remove := func(t *testing.T, o *ChangeOptions) {
		if err := os.Remove(filepath.Join(o.New, "compile_commands.json")); err != nil {
			t.Fatal(err)
		}
		o.New = ""
	}
	git := func(t *testing.T, dir string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, c := range []struct {
		name  string
		set   func(t *testing.T, o *ChangeOptions)
		words string
	}{
		{"of compile_commands.json beside it", func(t *testing.T, o *ChangeOptions) { o.Base, o.New = old, "" }, "flags are those of "},
		{"of the program's debugging information", func(t *testing.T, o *ChangeOptions) { remove(t, o); o.Base = old }, "debugging information has for b.c: cc -std=gnu17"},
		{"of a copy of the tree", func(t *testing.T, o *ChangeOptions) { remove(t, o) }, "debugging information has for b.c"},
		{"that nobody knows", func(t *testing.T, o *ChangeOptions) {
			remove(t, o)
			o.Base = old
			bare := filepath.Join(t.TempDir(), "bare")
			if out, err := exec.Command("objcopy", "--strip-debug", o.Target, bare).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			o.Target = bare
		}, "are not known: cc -O2 -g are taken"},
		{"and a git revision, with a file that git ignores", func(t *testing.T, o *ChangeOptions) {
			text, err := os.ReadFile(o.Source)
			text = append([]byte("#include \"generated.h\"\n"), text...)
			for name, content := range map[string]string{"generated.h": "#define GENERATED 1\n", ".gitignore": "generated.h\n"} {
				if err == nil {
					err = os.WriteFile(filepath.Join(o.New, name), []byte(content), 0o644)
				}
			}
			if err == nil {
				err = os.WriteFile(o.Source, []byte(strings.Replace(string(text), edit[2], edit[1], 1)), 0o644)
			}
			git(t, o.New, "init", "-q")
			git(t, o.New, "add", ".")
			git(t, o.New, "commit", "-q", "-m", "x")
			if err == nil {
				err = os.WriteFile(o.Source, text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			o.Base, o.New = "HEAD", ""
		}, "flags are those of "},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := edited(t, edit)
			o.Source = filepath.Join(o.New, "b.c")
			c.set(t, &o)
			r, err := BuildChange(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Functions) != 1 || r.Functions[0].Symbol != "named_b" || !strings.Contains(fmt.Sprint(r.Notes), c.words) {
				t.Errorf("it replaces %v; the notes are %q", r.Functions, r.Notes)
			}
		})
	}
}

// Commands of a compilation database are for the tree that they were made in;
// the other is compiled alike.
func TestCommandsAreReadAsAShellDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "compile_commands.json")
	if err := os.WriteFile(path, []byte(`[{"directory": "/src/build", "file": "../x y.c", "command": "ccache gcc -DNAME=\\\"a\\ b\\\" '-DX=1 2' -I../include -isystem /usr/x -Werror=all -flto=auto -MD -MF x.d -o x.o -c '../x y.c'"}]`), 0o644); err != nil {
		t.Fatal(err)
	}
	commands, err := readCommands(path)
	if err != nil {
		t.Fatal(err)
	}
	c := commands[0]
	want := []string{`-DNAME="a b"`, "-DX=1 2", "-I../include", "-isystem", "/usr/x"}
	if c.compiler != "gcc" || c.file != "/src/x y.c" || c.spelled != "../x y.c" || !slices.Equal(c.flags, want) {
		t.Errorf("it is %+v", c)
	}
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, "include"), 0o755); err != nil {
		t.Fatal(err)
	}
	if moved := c.in("/src", tree); !slices.Contains(moved.flags, "-I"+tree+"/include") || moved.dir != "/src/build" {
		t.Errorf("in a copy it is %+v", moved)
	}
}
