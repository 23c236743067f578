package patcher_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// ticker is a git repository with the source of a program that says a word over
// and over, which a package of another module makes. It is small, for the sake
// of builds that compile the standard library anew.
type ticker struct{ root, exe string }

var tickerSource = map[string]string{
	"tick/go.mod": "module example.com/tick\n\ngo 1.24\n\nrequire example.com/word v1.0.0\n\nreplace example.com/word => ../word\n",
	"tick/main.go": `package main

import (
	"os"
	"runtime"
	"time"

	"example.com/word"
)

var version = "1"

func main() {
	for i := 0; ; i++ {
		_, _ = os.Stdout.WriteString(line() + "\n")
		if i%50 == 0 {
			runtime.GC()
		}
		time.Sleep(2 * time.Millisecond)
	}
}

//go:noinline
func line() string { return phrase(word.Say(kind + version)) }

// phrase is larger than what is inlined where no profile says that it is worth it.
func phrase(s string) string {
	words := map[string]int{}
	for i, w := range os.Args {
		words[w+s]++
		words[s+w] += i
	}
	for w, n := range words {
		if n < 0 {
			s += w
		}
	}
	return s
}
`,
	"tick/plain.go": "//go:build !fancy\n\npackage main\n\nconst kind = \"plain\"\n",
	"tick/fancy.go": "//go:build fancy\n\npackage main\n\nconst kind = \"fancy\"\n",
	"word/go.mod":   "module example.com/word\n\ngo 1.24\n",
	"word/say.go":   "// Package word makes words.\npackage word\n\n// Say says it.\n//\n//go:noinline\nfunc Say(s string) string { return \"old \" + s }\n",
}

// newTicker writes the source, and files given as path and content: "" for none.
func newTicker(t *testing.T, files ...string) *ticker {
	t.Helper()
	k := &ticker{root: t.TempDir()}
	k.exe = filepath.Join(t.TempDir(), "tick")
	for path, content := range tickerSource {
		k.write(t, path, content)
	}
	for i := 0; i < len(files); i += 2 {
		k.write(t, files[i], files[i+1])
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"-c", "user.name=n", "-c", "user.email=n@example.com", "commit", "-q", "-m", "as it is"}} {
		k.run(t, "", "git", args...)
	}
	return k
}

func (k *ticker) write(t *testing.T, path, content string) {
	t.Helper()
	path = filepath.Join(k.root, path)
	if content == "" {
		_ = os.Remove(path)
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func (k *ticker) run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = filepath.Join(k.root, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func (k *ticker) build(t *testing.T, flags ...string) {
	t.Helper()
	k.run(t, "tick", "go", append([]string{"build", "-o", k.exe}, flags...)...)
}

// edit makes the word a new one, in a file that has Say.
func (k *ticker) edit(t *testing.T, path string) {
	t.Helper()
	old, err := os.ReadFile(filepath.Join(k.root, path))
	if err != nil {
		t.Fatal(err)
	}
	k.write(t, path, strings.Replace(string(old), `"old "`, `"brand " + "new "`, 1))
}

// says waits until the program says a word next.
func says(t *testing.T, target *targettest.Target, word string) {
	t.Helper()
	from := len(target.Output())
	targettest.Eventually(t, "it says "+word, func() bool {
		target.MustLive()
		out := target.Output()[from:]
		return strings.HasSuffix(out, "\n"+word+"\n")
	})
}

// profile is a CPU profile in which caller calls callee often: a message
// of pprof's profile.proto, written by hand.
func profile(caller, callee string) string {
	var p []byte
	field := func(to *[]byte, n int, content ...byte) {
		*to = append(append(*to, byte(n<<3|2), byte(len(content))), content...)
	}
	number := func(to *[]byte, n int, v byte) { *to = append(*to, byte(n<<3), v) }
	strs := []string{"", "samples", "count", "cpu", "nanoseconds", caller, callee}
	valueType := func(n int, typ, unit byte) {
		var v []byte
		number(&v, 1, typ)
		number(&v, 2, unit)
		field(&p, n, v...)
	}
	valueType(1, 1, 2)
	valueType(1, 3, 4)
	var sample []byte
	field(&sample, 1, 1, 2)     // locations, the leaf first
	field(&sample, 2, 100, 100) // values
	field(&p, 2, sample...)
	for id, line := range map[byte]byte{1: 7, 2: 25} { // the call is in the caller's first line
		var location, l, function []byte
		number(&l, 1, id)
		number(&l, 2, line)
		number(&location, 1, id)
		field(&location, 4, l...)
		field(&p, 4, location...)
		number(&function, 1, id)
		number(&function, 2, 7-id)
		number(&function, 3, 7-id)
		number(&function, 5, line)
		field(&p, 5, function...)
	}
	for _, s := range strs {
		field(&p, 6, []byte(s)...)
	}
	valueType(11, 3, 4)
	number(&p, 12, 1)
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(p)
	_ = z.Close()
	return out.String()
}

var hot = profile("main.line", "main.phrase")

// TestBuildsOfManyKinds patches programs whose source is laid out, found or
// compiled in other ways than the usual.
func TestBuildsOfManyKinds(t *testing.T) {
	vendored := []string{
		"tick/go.mod", "module example.com/tick\n\ngo 1.24\n\nrequire example.com/word v1.0.0\n",
		"tick/vendor/modules.txt", "# example.com/word v1.0.0\n## explicit; go 1.24\nexample.com/word\n",
		"tick/vendor/example.com/word/say.go", tickerSource["word/say.go"],
		"word/say.go", "", "word/go.mod", "",
	}
	workspace := []string{
		"tick/go.mod", "module example.com/tick\n\ngo 1.24\n",
		"spaces/go.work", "go 1.24\n\nuse (\n\t../tick\n\t../word\n)\n",
	}
	for _, test := range []struct {
		name  string
		flags []string
		env   []string
		files []string
		word  string
		edit  string // the file; "" is word/say.go
	}{
		{name: "vendor", files: vendored, edit: "tick/vendor/example.com/word/say.go"},
		{name: "workspace", files: workspace, env: []string{"GOWORK=spaces/go.work"}},
		{name: "default.pgo", files: []string{"tick/default.pgo", hot}},
		{name: "pgo file", flags: []string{"-pgo=cpu.prof"}, files: []string{"tick/cpu.prof", hot}},
		{name: "tags, -X", flags: []string{"-tags=fancy", "-ldflags=-X=main.version=2"}, word: "fancy2"},
		{name: "trimpath, -X, pie, stripped", flags: []string{"-trimpath", "-buildmode=pie", "-ldflags=-s -w -X main.version=2"}, word: "plain2", env: []string{"GOFLAGS=-ldflags=-X=main.version=2"}},
		{name: "FIPS module", env: []string{"GOFIPS140=latest"}},
		{name: "Go 1.25, stripped", flags: []string{"-ldflags=-w"}, env: []string{"GOTOOLCHAIN=go1.25.1"}},
		{name: "Go 1.24, stripped", flags: []string{"-ldflags=-s -w"}, env: []string{"GOTOOLCHAIN=go1.24.6"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ownCache(t)
			k := newTicker(t, test.files...)
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				if name == "GOWORK" {
					value = filepath.Join(k.root, value)
				}
				t.Setenv(name, value)
			}
			k.build(t, test.flags...)
			word := test.word
			if word == "" {
				word = "plain1"
			}
			if test.edit == "" {
				test.edit = "word/say.go"
			}
			k.edit(t, test.edit)
			out := filepath.Join(t.TempDir(), "edit.so")
			if err := builder.Build(t.Context(), build.Options{Dir: filepath.Join(k.root, "tick"), Target: k.exe, Output: out}); err != nil {
				t.Fatal(err)
			}
			target := targettest.Start(t, targettest.Command{Path: k.exe, Env: []string{"GOGC=1"}})
			says(t, target, "old "+word)
			e, detach := attach(t, target)
			p := load(t, e, out)
			activate(t, e, p)
			says(t, target, "brand new "+word)
			deactivate(t, e, p)
			says(t, target, "old "+word)
			targettest.Eventually(t, "an unload", func() bool {
				_, err := e.Unload(t.Context(), p.ID)
				return err == nil
			})
			says(t, target, "old "+word)
			detach()
		})
	}
}

// A profile decides what the compiler makes of a program.
func TestAProfileThatIsGoneIsNamed(t *testing.T) {
	ownCache(t)
	k := newTicker(t, "tick/cpu.prof", hot)
	k.build(t, "-pgo=cpu.prof")
	k.edit(t, "word/say.go")
	o := build.Options{Dir: filepath.Join(k.root, "tick"), Target: k.exe, Output: filepath.Join(t.TempDir(), "edit.so")}
	k.write(t, "tick/cpu.prof", "")
	_, err := build.Build(t.Context(), o)
	if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), "cpu.prof, which is not here") {
		t.Error(err)
	}
}

func TestAnEditOfTheFIPSModuleIsRefused(t *testing.T) {
	ownCache(t)
	k := newTicker(t, "tick/main.go", "package main\n\nimport (\n\t\"crypto/sha256\"\n\t\"os\"\n)\n\nfunc main() {\n\th := sha256.New()\n\t_, _ = h.Write([]byte(os.Args[0]))\n\tprintln(h.Sum(nil)[0], kind)\n}\n",
		"tick/go.mod", "module example.com/tick\n\ngo 1.24\n")
	k.build(t)
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(goroot)), "src/crypto/internal/fips140/sha256/sha256.go")
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head := "func (d *Digest) Write(p []byte) (nn int, err error) {\n"
	k.write(t, "sha256.go", strings.Replace(string(source), head, head+"\tprintln(len(p))\n", 1))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: filepath.Join(k.root, "sha256.go")}})
	if err != nil {
		t.Fatal(err)
	}
	k.write(t, "overlay.json", string(overlay))
	_, err = build.Build(t.Context(), build.Options{Dir: filepath.Join(k.root, "tick"), Target: k.exe, Overlay: filepath.Join(k.root, "overlay.json"),
		Output: filepath.Join(t.TempDir(), "edit.so")})
	if finding.CodeOf(err) != finding.UnsupportedBuild || !strings.Contains(err.Error(), "sha256.(*Digest).Write") ||
		!strings.Contains(err.Error(), "it belongs to the FIPS 140 module") {
		t.Error(err)
	}
}

// The line tables of an executable hold the paths of its source.
func TestAStrippedTargetThatWasBuiltElsewhereIsNamed(t *testing.T) {
	ownCache(t)
	k := newTicker(t)
	k.build(t, "-ldflags=-s")
	here := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(here, os.DirFS(k.root)); err != nil {
		t.Fatal(err)
	}
	_, err := build.Build(t.Context(), build.Options{Dir: filepath.Join(here, "tick"), Target: k.exe, Output: filepath.Join(t.TempDir(), "edit.so")})
	if finding.CodeOf(err) != finding.TextMismatch || !strings.Contains(err.Error(), "the target was built in "+filepath.Join(k.root, "tick")) {
		t.Error(err)
	}
}

// ownCache gives the test a cache of darn's own; the go command's stays.
func ownCache(t *testing.T) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(out)))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}
