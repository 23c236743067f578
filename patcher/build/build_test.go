package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// built is a program that was built from a commit and then edited.
type built struct {
	dir, target string
	stages      []string // of the last build
}

// buildServer builds testdata/build/server in a repository of its own.
func buildServer(t testing.TB, flags ...string) *built {
	t.Helper()
	dir := server(t)
	gitInit(t, dir)
	return &built{dir: dir, target: goBuild(t, dir, flags...)}
}

// editGreeting is an edit of one function.
func (b *built) editGreeting(t testing.TB) {
	t.Helper()
	edit(t, filepath.Join(b.dir, "greet/greet.go"), `"world"`, `"moon"`)
}

func (b *built) options(t testing.TB) Options {
	b.stages = nil
	return Options{
		Dir: b.dir, Target: b.target, Output: filepath.Join(t.TempDir(), "fix.so"),
		Progress: func(stage string, done, total int) {
			if total > 0 {
				b.stages = append(b.stages, stage)
			}
		},
	}
}

func TestAProgramThatDoesNotPlayTheToolsBuildsNothing(t *testing.T) {
	hooked = false
	defer func() { hooked = true }()
	if _, err := Build(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "has to call build.ToolMain first") {
		t.Errorf("it says %v", err)
	}
}

// replaces fails the test unless the build gave a sound module that replaces
// exactly these functions.
func replaces(t testing.TB, r *Result, err error, want ...string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m, err := module.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	var got, listed []string
	for _, f := range m.Manifest.Functions {
		got = append(got, f.Symbol)
	}
	for _, f := range r.Functions {
		listed = append(listed, f.Name)
		if f.Why == "" {
			t.Errorf("the result does not say why %s is replaced", f.Name)
		}
	}
	slices.Sort(got)
	slices.Sort(listed)
	if !slices.Equal(got, want) || !slices.Equal(listed, want) {
		t.Errorf("the module replaces %v, the result says %v", got, listed)
	}
	if m.ID() != r.ID {
		t.Errorf("the module is %s, the result says %s", m.ID(), r.ID)
	}
}

const greeting = "example.com/server/greet.Greeting"

func TestBuildForEveryKindOfTarget(t *testing.T) {
	for name, c := range map[string]struct{ flags, env []string }{
		"default":     {},
		"trimpath":    {flags: []string{"-trimpath"}},
		"tags":        {flags: []string{"-tags=loud"}},
		"variable":    {flags: []string{"-ldflags=-X main.version=1.2"}},
		"no cgo":      {env: []string{"CGO_ENABLED", "0"}},
		"unoptimised": {flags: []string{"-gcflags=all=-N -l"}},
		"PIE":         {flags: []string{"-buildmode=pie"}},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			for i := 0; i < len(c.env); i += 2 {
				t.Setenv(c.env[i], c.env[i+1])
			}
			b := buildServer(t, c.flags...)
			for i := 0; i < len(c.env); i += 2 {
				t.Setenv(c.env[i], "")
			}
			b.editGreeting(t)
			r, err := Build(context.Background(), b.options(t))
			replaces(t, r, err, greeting)
			x, err := exe.Open(b.target)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			m, err := module.Open(r.Path)
			if err != nil {
				t.Fatal(err)
			}
			if m.Manifest.Target.GoBuildID != x.GoBuildID || m.Manifest.Name != "fix" {
				t.Errorf("the module is %q for %q", m.Manifest.Name, m.Manifest.Target.GoBuildID)
			}
		})
	}
}

func TestBuildTakesTheRevisionThatTheTargetNames(t *testing.T) {
	isolate(t)
	b := buildServer(t, "-buildvcs=true")
	head := gitHead(t, b.dir)
	b.editGreeting(t)
	gitCommit(t, b.dir) // HEAD is not what the target was built from
	r, err := Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	if want := "git revision " + head[:12] + " (which the target's build information names)"; r.Base != want {
		t.Errorf("the base is %s", r.Base)
	}
}

func TestBuildWarnsOfATargetFromAModifiedTree(t *testing.T) {
	isolate(t)
	dir := server(t)
	gitInit(t, dir)
	write(t, dir, "README", "new\n")
	b := &built{dir: dir, target: goBuild(t, dir, "-buildvcs=true")}
	b.editGreeting(t)
	r, err := Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	if len(r.Findings) == 0 || r.Findings[0].Code != finding.TextMismatch || r.Findings[0].Severity != finding.Warning {
		t.Errorf("findings: %v", r.Findings)
	}
}

func TestABaseThatIsNotWhatRunsIsRefused(t *testing.T) {
	isolate(t)
	dir := server(t)
	gitInit(t, dir)
	edit(t, filepath.Join(dir, "greet/greet.go"), `if name == ""`, `if len(name) < 3`)
	b := &built{dir: dir, target: goBuild(t, dir)}
	b.editGreeting(t)
	_, err := Build(context.Background(), b.options(t))
	refused(t, err, finding.TextMismatch, greeting,
		"; the base was git revision "+gitHead(t, dir)[:12]+" (HEAD, because the target's build information names no revision)",
		"give the source that the target was built from with --base REV or --base DIR")
}

func TestABaseThatDoesNotCompileIsNamed(t *testing.T) {
	isolate(t)
	dir := server(t)
	target := goBuild(t, dir)
	edit(t, filepath.Join(dir, "main.go"), "func main() {", "func main() { broken")
	gitInit(t, dir)
	edit(t, filepath.Join(dir, "main.go"), " broken", "")
	b := &built{dir: dir, target: target}
	b.editGreeting(t)
	_, err := Build(context.Background(), b.options(t))
	if err == nil || !strings.Contains(err.Error(), "the base does not compile: it is git revision "+gitHead(t, dir)[:12]) ||
		!strings.Contains(err.Error(), "undefined: broken") {
		t.Errorf("the error is %v", err)
	}
}

func TestAnEditThatChangesNothingIsRefused(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	edit(t, filepath.Join(b.dir, "main.go"), "// version is", "// Comment.\n\n// version is")
	o := b.options(t)
	_, err := Build(context.Background(), o)
	refused(t, err, finding.NoChange, "no function of the running program changes")
	if _, err := os.Stat(o.Output); !os.IsNotExist(err) {
		t.Error("a module was written")
	}
}

// Each function that changed and has no effect is named, with its place.
func TestAnEditWithoutEffectSaysSoOfEachFunction(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	for _, f := range []struct{ file, old, new, says string }{
		{"main.go", `greet.Greeting(r.Get("name"))`, `greet.Greeting((r.Get("name")))`,
			"main.go:45: info: main.hello: the source of the function changed and its code did not"},
		{"greet/mark_loud.go", `return "!"`, `return "?"`, "greet/mark_loud.go:1: info: this file differs and is not part of the program"},
	} {
		edit(t, filepath.Join(b.dir, f.file), f.old, f.new)
		_, err := Build(t.Context(), b.options(t))
		refused(t, err, finding.NoChange, "no function of the running program changes")
		if !strings.Contains(err.Error(), f.says) {
			t.Errorf("%q does not say %q", err, f.says)
		}
		run(t, b.dir, "git", "checkout", "-q", ".")
	}
	edit(t, filepath.Join(b.dir, "greet/mark.go"), `return "."`, `return ";"`)
	r, err := Build(t.Context(), b.options(t))
	replaces(t, r, err, greeting)
	if len(r.Findings) != 1 || !strings.Contains(r.Findings[0].String(), "greet.mark: the program has the function only inlined: it changes with example.com/server/greet.Greeting") {
		t.Errorf("findings: %v", r.Findings)
	}
}

func TestTheEditMayBeAnOverlay(t *testing.T) {
	isolate(t)
	dir := server(t) // in no repository: the base is the tree itself
	b := &built{dir: dir, target: goBuild(t, dir)}
	write(t, dir, "unsaved/greet.go", strings.Replace(files(t, dir)["greet/greet.go"], `"world"`, `"moon"`, 1))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{"greet/greet.go": "unsaved/greet.go"}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "unsaved/overlay.json", string(overlay))
	o := b.options(t)
	o.Overlay = "unsaved/overlay.json"
	r, err := Build(context.Background(), o)
	replaces(t, r, err, greeting)
}

// A copy of a released module, as the module cache has it: read-only, and in no
// repository.
func TestTheBaseMayBeAReadOnlyCopy(t *testing.T) {
	isolate(t)
	dir, copied := server(t), server(t)
	for path := range files(t, copied) {
		if err := os.Chmod(filepath.Join(copied, path), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	b := &built{dir: dir, target: goBuild(t, copied)}
	b.editGreeting(t)
	o := b.options(t)
	o.Base = copied
	r, err := Build(context.Background(), o)
	replaces(t, r, err, greeting)
}

// The edit may be in a module that the program depends on.
func TestTheEditMayBeInADependency(t *testing.T) {
	const (
		mod  = "module app\n\ngo 1.24\n\nrequire example.com/lib v1.0.0\n"
		main = "package main\n\nimport \"example.com/lib\"\n\nfunc main() { println(lib.Word(len(lib.Name))) }\n"
		lib  = "package lib\n\nvar Name = \"lib\"\n\n//go:noinline\nfunc Word(n int) string {\n\tif n > 3 {\n\t\treturn \"long\"\n\t}\n\treturn \"short\"\n}\n"
	)
	for name, c := range map[string]struct {
		files []string
		dir   string // to build in
		lib   string
	}{
		"in a monorepo": {[]string{"app/go.mod", mod + "\nreplace example.com/lib => ../lib\n", "app/main.go", main,
			"lib/go.mod", "module example.com/lib\n\ngo 1.24\n", "lib/lib.go", lib}, "app", "lib/lib.go"},
		"vendored": {[]string{"go.mod", mod, "main.go", main, "vendor/example.com/lib/lib.go", lib,
			"vendor/modules.txt", "# example.com/lib v1.0.0\n## explicit; go 1.24\nexample.com/lib\n"}, ".", "vendor/example.com/lib/lib.go"},
		"in a workspace": {[]string{"go.work", "go 1.24\n\nuse (\n\t./app\n\t./lib\n)\n", "app/go.mod", mod, "app/main.go", main,
			"lib/go.mod", "module example.com/lib\n\ngo 1.24\n", "lib/lib.go", lib}, "app", "lib/lib.go"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv("GOPROXY", "off")
			top := t.TempDir()
			write(t, top, c.files...)
			gitInit(t, top)
			b := &built{dir: filepath.Join(top, c.dir)}
			b.target = goBuild(t, b.dir)
			edit(t, filepath.Join(top, c.lib), "n > 3", "n > 2")
			r, err := Build(context.Background(), b.options(t))
			replaces(t, r, err, "example.com/lib.Word")
		})
	}
}

func TestAnEditMayBringNewPackages(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	path := filepath.Join(b.dir, "greet/greet.go")
	edit(t, path, `import _ "embed"`, "import (\n\t_ \"embed\"\n\t\"encoding/json\"\n)")
	edit(t, path, `return word + ", " + name + mark()`, "out, _ := json.Marshal([]string{word, name})\n\treturn string(out) + mark()")
	r, err := Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	m, err := module.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.Manifest.Go.InitPackages, "encoding/json") {
		t.Errorf("it initialises %v", m.Manifest.Go.InitPackages)
	}
}

// The base of a target is compiled once.
func TestTheBaseIsKept(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	compiled := func() bool { return slices.Contains(b.stages, "compiling the base") }
	b.editGreeting(t)
	r, err := Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	if !compiled() {
		t.Fatalf("the stages were %v", b.stages)
	}
	edit(t, filepath.Join(b.dir, "greet/greet.go"), `"moon"`, `"sun"`)
	r, err = Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	if compiled() {
		t.Error("it was compiled again")
	}

	kept, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "darn/base/*/"+objectFile))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v, %v", kept, err)
	}
	if err := os.Truncate(kept[0], 1000); err != nil {
		t.Fatal(err)
	}
	r, err = Build(context.Background(), b.options(t))
	replaces(t, r, err, greeting)
	if !compiled() {
		t.Error("a damaged one was used")
	}
	if st, err := os.Stat(kept[0]); err != nil || st.Size() == 1000 {
		t.Error("the damaged one is still there")
	}
}

func TestTheCacheOfBasesIsBounded(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	write(t, dir, objectFile, "object", packagesFile, "main id\n")
	for i := range keptBases + 3 {
		openBaseCache("build", "main", fmt.Sprint(i)).put(&captured{dir})
	}
	kept, err := os.ReadDir(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "darn/base"))
	if err != nil || len(kept) != keptBases {
		t.Errorf("%d are kept, %v", len(kept), err)
	}
	if _, ok := openBaseCache("build", "main", fmt.Sprint(keptBases+2)).get(); !ok {
		t.Error("the last one is gone")
	}
}

// However a build ends, it leaves the source, the repository and the folder for
// temporary files as they were.
func TestABuildLeavesNothingBehind(t *testing.T) {
	tmp := isolate(t)
	b := buildServer(t)
	b.editGreeting(t)
	was := files(t, b.dir)
	unchanged := func(t *testing.T) {
		t.Helper()
		left, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range left {
			if !strings.HasPrefix(entry.Name(), "Test") { // of the testing package
				t.Errorf("left behind: %s", entry.Name())
			}
		}
		if !maps.Equal(files(t, b.dir), was) {
			t.Error("the source or the repository was altered")
		}
	}
	for _, stage := range []string{"compiling the edit", "compiling the base"} {
		t.Run("cancelled when "+stage, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o := b.options(t)
			o.Progress = func(s string, _, _ int) {
				if s == stage {
					cancel()
				}
			}
			if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("the error is %v", err)
			}
			unchanged(t)
		})
	}
	t.Run("done", func(t *testing.T) {
		r, err := Build(context.Background(), b.options(t))
		replaces(t, r, err, greeting)
		unchanged(t)
	})
	t.Run("refused", func(t *testing.T) {
		o := b.options(t)
		o.Base = "nowhere"
		_, err := Build(context.Background(), o)
		refused(t, err, finding.TextMismatch, `--base "nowhere"`)
		unchanged(t)
	})
}

func TestBuildForAProcess(t *testing.T) {
	isolate(t)
	b := buildServer(t)
	b.editGreeting(t)
	pid := start(t, b.target)
	o := b.options(t)
	o.Target, o.Pid = "", pid
	if err := os.Remove(b.target); err != nil { // as after an upgrade
		t.Fatal(err)
	}
	r, err := Build(context.Background(), o)
	replaces(t, r, err, greeting)
}

// BenchmarkBuildWarm is a build of a one-function edit in a program of a hundred
// packages (and net/http with its own), with the base and the compiled packages
// in their caches, as in the second and each later build.
func BenchmarkBuildWarm(b *testing.B) {
	isolate(b)
	dir := b.TempDir()
	write(b, dir, "go.mod", "module example.com/many\n\ngo 1.24\n")
	var imports, calls strings.Builder
	for i := range 99 {
		name := fmt.Sprintf("p%02d", i)
		write(b, dir, name+"/p.go", fmt.Sprintf(`package %s

import (
	"fmt"
	"strings"
)

type T struct{ Name string; N int }

//go:noinline
func (t *T) Say(n int) string { return fmt.Sprint(strings.Repeat(t.Name, n), t.N) }

//go:noinline
func Work(n int) string {
	t := &T{Name: %[1]q, N: n}
	if n > 100 {
		return t.Name
	}
	return t.Say(n + 1)
}
`, name))
		fmt.Fprintf(&imports, "\t%q\n", "example.com/many/"+name)
		fmt.Fprintf(&calls, "\t\tfmt.Fprintln(w, %s.Work(%d))\n", name, i)
	}
	write(b, dir, "main.go", fmt.Sprintf(`package main

import (
	"fmt"
	"net/http"

%s)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
%s	})
	http.ListenAndServe("127.0.0.1:0", nil)
}
`, imports.String(), calls.String()))
	gitInit(b, dir)
	p := &built{dir: dir, target: goBuild(b, dir)}
	path := filepath.Join(dir, "p50/p.go")
	build := func(i int) {
		b.Helper()
		edit(b, path, fmt.Sprint("n > ", 100+i), fmt.Sprint("n > ", 101+i))
		r, err := Build(context.Background(), p.options(b))
		replaces(b, r, err, "example.com/many/p50.Work")
	}
	build(0)
	for i := 1; b.Loop(); i++ {
		build(i)
	}
}
