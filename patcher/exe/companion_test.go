package exe

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// tool runs a program of the binutils on a copy of path and returns that.
func tool(t *testing.T, path, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip("no " + name)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if output, err := exec.Command(name, append(args, path, out)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return out
}

// ownCache gives the test a cache without companions.
func ownCache(t *testing.T) { t.Setenv("XDG_CACHE_HOME", t.TempDir()) }

func refused(t *testing.T, err error, code finding.Code, words ...string) {
	t.Helper()
	for _, w := range append(words, "; ") { // there is an advice
		if finding.CodeOf(err) != code || !strings.Contains(err.Error(), w) {
			t.Errorf("got %v; want %s and %q", err, code, w)
		}
	}
}

func TestStrippedExecutablesAreRefusedWithoutSymbols(t *testing.T) {
	ownCache(t)
	for _, c := range []struct{ name, path, words string }{
		{"-s", build(t, "-ldflags=-s"), "it has no symbol table, and its symbols are not in"},
		{"-w", build(t, "-ldflags=-w"), "no debugging information (DWARF), and its symbols are not in"},
		{"strip", tool(t, hello(), "objcopy", "--strip-all"), "it has no symbol table"},
		{"no build id", build(t, "-ldflags=-s -B=none"), "and no GNU build id by which its symbols could be found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.path)
			refused(t, err, finding.UnsupportedTarget, c.words, c.path)
			x, err := OpenAny(c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if !x.Stripped() || x.BuildInfo == nil || !strings.HasSuffix(x.FileOf("main.main"), "/hello/main.go") {
				t.Errorf("stripped: %v, built from %v, main.main in %q", x.Stripped(), x.BuildInfo, x.FileOf("main.main"))
			}
		})
	}
}

var pie = sync.OnceValue(func() string { return build(noTest{}, "-buildmode=pie") })

func TestASymbolCompanionCompletesAStrippedExecutable(t *testing.T) {
	for name, whole := range map[string]string{"exe": hello(), "pie": pie()} {
		stripped := tool(t, whole, "objcopy", "--strip-all")
		for form, companion := range map[string]string{"whole": whole, "only debug": tool(t, whole, "objcopy", "--only-keep-debug")} {
			t.Run(name+" "+form, func(t *testing.T) {
				ownCache(t)
				x, err := OpenAny(stripped)
				if err != nil {
					t.Fatal(err)
				}
				defer x.Close()
				if err := x.KeepCompanion(companion); err != nil {
					t.Fatal(err)
				}
				want := open(t, whole)
				for _, got := range []*Executable{x, open(t, stripped)} { // now, and from the cache
					s, ok, _ := got.Symbol("main.main")
					w, _, _ := want.Symbol("main.main")
					if !ok || s.Addr != w.Addr || got.Sections[s.Section].Name != ".text" ||
						got.TextEnd != want.TextEnd || got.TypesStart != want.TypesStart || got.TLSOffset != want.TLSOffset {
						t.Errorf("main.main is %+v, want %+v", s, w)
					}
					if _, err := got.DWARF(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

func TestFilesThatAreNoCompanionAreRefused(t *testing.T) {
	ownCache(t)
	stripped := tool(t, hello(), "objcopy", "--strip-all")
	changed, err := os.ReadFile(hello())
	if err != nil {
		t.Fatal(err)
	}
	changed = bytes.Replace(changed, []byte("hello"), []byte("jello"), 1)
	for _, c := range []struct {
		name, words string
		data        []byte
	}{
		{"another build", "its GNU build id is", content(t, pie())},
		{"stripped itself", "it has no symbol table", content(t, stripped)},
		{"other content", "differs at", changed},
		{"no ELF file", "bad magic number", []byte("text, and more of it, so that there is a header's worth of it: sixty-four bytes")},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "symbols")
			if err := os.WriteFile(path, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			x, err := OpenAny(stripped)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			refused(t, x.KeepCompanion(path), finding.UnsupportedTarget, c.words, path)
			if _, err := Open(stripped); finding.CodeOf(err) != finding.UnsupportedTarget {
				t.Errorf("it was kept: %v", err)
			}
		})
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTheCacheOfCompanionsIsBounded(t *testing.T) {
	ownCache(t)
	dir := filepath.Join(CompanionDir(), ".build-id", "00")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * keptCompanions {
		if err := os.WriteFile(filepath.Join(dir, string(rune('a'+i))+".debug"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := KeepSymbols(hello()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(CompanionDir(), ".build-id", "*", "*"))
	if err != nil || len(files) != keptCompanions {
		t.Errorf("%d files are kept (%v)", len(files), err)
	}
	x, err := Open(tool(t, hello(), "objcopy", "--strip-all"))
	if err != nil {
		t.Fatalf("the newest is not kept: %v", err)
	}
	x.Close()
}
