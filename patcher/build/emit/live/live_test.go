// Package live_test runs what emit makes in a live process, with the garbage
// collector at work all the time.
package live_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

var (
	scratch string // a folder for the run
	base    string // a copy of the program's source
	app     string // another, which the target is built from
)

func TestMain(m *testing.M) {
	build.ToolMain()
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "live-test"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		base, app = filepath.Join(scratch, "base"), filepath.Join(scratch, "app")
		for _, dir := range []string{base, app} {
			if err := os.CopyFS(dir, os.DirFS("../testdata/app")); err != nil {
				panic(err)
			}
		}
		return targettest.Run(m)
	}())
}

// source replaces text in the program's main.go.
func source(t *testing.T, replace ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(base, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the source has no %q", replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return text
}

func file(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../testdata/edits/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// compile builds a module of new source of main.go.
func compile(t *testing.T, target, main string) string {
	t.Helper()
	dir := t.TempDir()
	edited, overlay, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "fix.so")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(app, "main.go"): edited}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{edited: main, overlay: string(list)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := build.Build(t.Context(), build.Options{Dir: app, Base: base, Target: target, Overlay: overlay, Output: out}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPatchedCodeRunsUnderTheCollector(t *testing.T) {
	for _, x := range []struct {
		name  string
		flags []string
		env   []string
		main  string
		want  []string // lines that new code prints, by their beginnings
		inits []string // packages that the patch initialises
	}{
		{name: "new types, closures, goroutines, panics, stacks", main: file(t, "everything.go"),
			want: []string{"runtime error: invalid memory address or nil pointer dereference", "main.stackOf()", "triangle 2 map[a:[1]]"}},
		{name: "the same while freed memory is overwritten", main: file(t, "everything.go"), env: []string{"GODEBUG=clobberfree=1,gccheckmark=1"},
			want: []string{"triangle 2 map[a:[1]]"}},
		{name: "the same not optimised", main: file(t, "everything.go"), flags: []string{"-gcflags=all=-N -l"},
			want: []string{"triangle 2 map[a:[1]]"}},
		{name: "the same position independent", main: file(t, "everything.go"), flags: []string{"-buildmode=pie"},
			want: []string{"triangle 2 map[a:[1]]"}},
		{name: "the same beside C code", main: file(t, "everything.go"), flags: []string{"-tags=withcgo"},
			want: []string{"triangle 2 map[a:[1]]"}},
		{name: "new packages", main: file(t, "packages.go"),
			want: []string{"json circle"}, inits: []string{"encoding/json", "text/template"}},
		{name: "methods that the linker had dropped", main: source(t, "	counts.add(best.name())\n", `	if d, ok := any(time.Duration(n)).(interface {
		Truncate(time.Duration) time.Duration
	}); !ok || d.Truncate(time.Hour) != 0 {
		fmt.Println("BAD truncate", ok)
	}
	if g, ok := any(time.Now()).(interface{ GobEncode() ([]byte, error) }); !ok {
		fmt.Println("BAD gob")
	} else if b, err := g.GobEncode(); err != nil || len(b) == 0 {
		fmt.Println("BAD gob", b, err)
	}
`, `"%s %d", best.name()`, `"dropped %s %d", best.name()`), want: []string{"dropped circle"}},
		{name: "variables and a type whose mask the runtime makes", main: source(t, "	counts.add(best.name())\n", `	b := &big{n: n}
	b.list[len(b.list)-1] = &big{n: n + 1}
	keep[n%len(keep)] = b
	if old := keep[(n+1)%len(keep)]; old != nil && old.list[len(old.list)-1].n != old.n+1 {
		fmt.Println("BAD big", old.n)
	}
	last = best
	seen[best.name()]++
`, "func main() {", `type big struct {
	n    int
	list [5000]*big
}

var (
	keep [3]*big
	last shape
	seen = map[string]int(nil)
)

func init0() { seen = map[string]int{} }

func main() {`, "	label := \"circle\"\n", "	label := \"circle\"\n	if seen == nil {\n		init0()\n	}\n", `"%s %d", best.name()`, `"big %s %d", last.name()`),
			want: []string{"big circle"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			target := targettest.Build(t, app, x.flags...)
			path := compile(t, target, x.main)
			m, err := module.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, pkg := range x.inits {
				if !slices.Contains(m.Manifest.Go.InitPackages, pkg) {
					t.Errorf("%s is not among what is initialised: %v", pkg, m.Manifest.Go.InitPackages)
				}
			}
			g := targettest.Start(t, targettest.Command{Path: target, Env: append(x.env, "GOGC=1")})
			g.Line("circle ")
			patch(t, g, path, x.want, "circle ")
		})
	}
}

// patch has the target run new code, which prints lines that begin as wanted,
// and old code, which prints old, in turn.
func patch(t *testing.T, g *targettest.Target, path string, want []string, old string) {
	t.Helper()
	p, err := process.Attach(g.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	e, err := patcher.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	q, _, err := e.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		from := len(g.Output())
		if _, _, err := e.Activate(t.Context(), q.ID, patcher.ActivateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, line := range want {
			waitFor(t, g, from, line)
		}
		from = len(g.Output())
		if _, _, err := e.Deactivate(t.Context(), q.ID); err != nil {
			t.Fatal(err)
		}
		waitFor(t, g, from, old)
	}
	g.MustLive()
	if i := strings.Index(g.Output(), "BAD"); i >= 0 {
		t.Errorf("the new code found: %.200s", g.Output()[i:])
	}
}

// waitFor waits until the target prints a line that starts so after its first
// bytes of output.
func waitFor(t *testing.T, g *targettest.Target, from int, line string) {
	t.Helper()
	targettest.Eventually(t, "a line "+line, func() bool {
		g.MustLive()
		return strings.Contains(g.Output()[max(from-1, 0):], "\n"+line)
	})
}
