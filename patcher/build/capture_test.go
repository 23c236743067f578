package build

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// However the target was built, its object is captured, and nothing is
// compiled for that: the packages of the target's own build are taken from the
// cache, which they would not be if any flag were another.
func TestCaptureReusesTheCompiledPackagesOfTheTarget(t *testing.T) {
	isolate(t)
	_, noCompiler := exec.LookPath("gcc")
	for name, c := range map[string]struct {
		flags []string
		env   []string
		hello string // the symbol of the function hello, if not main.hello
		again string // a package that is compiled again
	}{
		"default":      {},
		"trimpath":     {flags: []string{"-trimpath"}},
		"tags":         {flags: []string{"-tags=loud,other"}},
		"variable":     {flags: []string{"-ldflags=-X main.version=1.2"}},
		"no symbols":   {flags: []string{"-ldflags=-w"}},
		"no cgo":       {env: []string{"CGO_ENABLED", "0"}},
		"cgo":          {env: []string{"CGO_ENABLED", "1"}},
		"cgo flags":    {env: []string{"CGO_ENABLED", "1", "CGO_CFLAGS", "-O1"}},
		"unoptimised":  {flags: []string{"-gcflags=all=-N -l"}},
		"PIE":          {flags: []string{"-buildmode=pie"}},
		"file":         {flags: []string{"main.go"}, again: "example.com/server"},
		"user's flags": {env: []string{"GOFLAGS", "-tags=loud -mod=mod"}},
		"test":         {flags: []string{"test"}, hello: "example.com/server.hello", again: "example.com/server"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := server(t)
			for i := 0; i < len(c.env); i += 2 {
				if c.env[i] == "CGO_ENABLED" && c.env[i+1] == "1" && noCompiler != nil {
					t.Skip("no C compiler")
				}
				t.Setenv(c.env[i], c.env[i+1])
			}
			target := goBuild(t, dir, c.flags...)
			for i := 0; i < len(c.env); i += 2 {
				t.Setenv(c.env[i], "") // it is the target that says how, not the environment
			}
			p, out := programOf(t, dir, target), t.TempDir()
			got, err := p.capture(context.Background(), p.overlay, out, func(pkg string) {
				if pkg != c.again {
					t.Errorf("%s was compiled", pkg)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			f, err := elf.Open(got.object())
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Type != elf.ET_REL || f.Section(".debug_info") == nil {
				t.Errorf("the object is %v, DWARF: %v", f.Type, f.Section(".debug_info") != nil)
			}
			symbols, err := f.Symbols()
			if err != nil {
				t.Fatal(err)
			}
			want := cmp.Or(c.hello, "main.hello")
			if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == want }) {
				t.Errorf("%s is not in the object", want)
			}
			packages, err := got.packages()
			if err != nil {
				t.Fatal(err)
			}
			for _, pkg := range []string{"main", "example.com/server/greet", "net/url", "runtime"} {
				if packages[pkg] == "" {
					t.Errorf("package %s is not among %v", pkg, slices.Sorted(maps.Keys(packages)))
				}
			}
		})
	}
}

// The linker asks the external linker what it can do; there need not be any.
func TestCaptureNeedsNoCompilerForC(t *testing.T) {
	isolate(t)
	t.Setenv("CGO_ENABLED", "0")
	dir := server(t)
	p := programOf(t, dir, goBuild(t, dir))
	bin := t.TempDir()
	for _, name := range []string{"go", "true", "git"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOROOT", goEnv(t, "GOROOT"))
	t.Setenv("PATH", bin)
	if _, err := p.capture(context.Background(), nil, t.TempDir(), func(string) {}); err != nil {
		t.Fatal(err)
	}
}

// A target of another version of Go is built with that version.
func TestCaptureWithTheToolchainOfTheTarget(t *testing.T) {
	const version = "go1.25.1"
	isolate(t)
	t.Setenv("GOTOOLCHAIN", version)
	if out, err := exec.Command("go", "version").CombinedOutput(); err != nil {
		t.Skipf("%s cannot be had: %s", version, out)
	}
	dir := server(t)
	target := goBuild(t, dir)
	t.Setenv("GOTOOLCHAIN", "auto")
	p := programOf(t, dir, target)
	if p.settings.version != version {
		t.Fatalf("the target was built with %s", p.settings.version)
	}
	_, err := p.capture(context.Background(), nil, t.TempDir(), func(pkg string) { t.Errorf("%s was compiled", pkg) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestCaptureTellsWhichPackagesAreNotTheSame(t *testing.T) {
	isolate(t)
	dir := server(t)
	p := programOf(t, dir, goBuild(t, dir))
	capture := func() map[string]string {
		t.Helper()
		c, err := p.capture(context.Background(), nil, t.TempDir(), func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		packages, err := c.packages()
		if err != nil {
			t.Fatal(err)
		}
		return packages
	}
	before := capture()
	edit(t, filepath.Join(dir, "greet/greet.go"), `"world"`, `"moon"`)
	after := capture()
	var differ []string
	for pkg := range after {
		if before[pkg] != after[pkg] {
			differ = append(differ, pkg)
		}
	}
	if !slices.Equal(differ, []string{"example.com/server/greet"}) || len(before) != len(after) {
		t.Errorf("differ: %v", differ)
	}
}

// A source that does not compile gives the compiler's words, with the file and
// the line.
func TestCaptureGivesTheCompilersWords(t *testing.T) {
	isolate(t)
	dir := server(t)
	p := programOf(t, dir, goBuild(t, dir))
	edit(t, filepath.Join(dir, "main.go"), "greet.Greeting(", "greet.Gone(")
	_, err := p.capture(context.Background(), nil, t.TempDir(), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "./main.go:46:22: undefined: greet.Gone") {
		t.Errorf("the error is %v", err)
	}
}

func TestCaptureIntoAPathWithSpaces(t *testing.T) {
	isolate(t)
	dir := filepath.Join(t.TempDir(), "my server")
	if err := os.CopyFS(dir, os.DirFS("../../testdata/build/server")); err != nil {
		t.Fatal(err)
	}
	p := programOf(t, dir, goBuild(t, dir))
	// This program, too, lies in such a path.
	self := filepath.Join(dir, "it's darn")
	if err := copyFile(self, p.self); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(self, 0o755); err != nil {
		t.Fatal(err)
	}
	p.self = self
	out := filepath.Join(dir, "the object")
	if err := os.Mkdir(out, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := p.capture(context.Background(), nil, out, func(string) {}); err != nil {
		t.Fatal(err)
	}
}

// A cancelled capture leaves no process that it started.
func TestCancellingACaptureEndsItsProcesses(t *testing.T) {
	isolate(t)
	dir := server(t)
	p := programOf(t, dir, goBuild(t, dir))
	t.Setenv("GOCACHE", t.TempDir()) // so that there is a lot to compile
	out := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := 0
	_, err := p.capture(ctx, nil, out, func(string) {
		if len(capturing(t, out)) > 0 {
			seen++
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v", err)
	}
	if seen == 0 {
		t.Fatal("no process of the capture was seen while it ran")
	}
	if left := capturing(t, out); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
	if err := os.RemoveAll(out); err != nil {
		t.Errorf("its files cannot be removed: %v", err)
	}
}

// capturing lists the running processes that capture into dir.
func capturing(t *testing.T, dir string) []string {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range environments {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), toolexecVariable+"="+dir+"\x00") {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}
