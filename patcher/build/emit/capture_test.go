package emit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/exe"
)

var scratch string // a folder for the run

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "emit-test"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		for name, script := range map[string]string{"toolexec": toolexec, "extld": extld} {
			if err := os.WriteFile(filepath.Join(scratch, name), []byte(strings.ReplaceAll(script, "DIR", scratch)), 0o755); err != nil {
				panic(err)
			}
		}
		return m.Run()
	}())
}

// toolexec runs a tool of the toolchain, as it is but for the linker, which is
// told to leave the linking to extld; that keeps the object. They are scripts
// because they run often, and a test binary that looks for races starts slowly.
const (
	toolexec = `#!/bin/sh
case "$1 $2" in
*/link\ -V*) ;;
*/link\ *)
	n=$# i=0
	for a; do
		i=$((i + 1))
		[ $i = 1 ] && set --
		[ $i = $n ] && set -- "$@" -linkmode=external -extld=DIR/extld
		set -- "$@" "$a"
	done
	;;
esac
exec "$@"
`
	extld = `#!/bin/sh
out= object= last=
for a; do
	[ "$last" = -o ] && out=$a
	case $a in */go.o) object=$a ;; esac
	last=$a
done
[ -z "$object" ] || cp "$object" "$out"
`
)

// edit replaces text in a file of the program.
type edit struct{ file, old, new string }

// program is testdata/app built in some way.
type program struct {
	flags []string

	once     sync.Once
	target   string
	base     string
	captured map[string]string // objects, by the edits
}

var (
	plain    = &program{}
	noInline = &program{flags: []string{"-gcflags=all=-N -l"}}
	pie      = &program{flags: []string{"-buildmode=pie"}}
	withC    = &program{flags: []string{"-tags=withcgo"}}
)

const appDir = "testdata/app"

// build runs go build with edits and returns the output's path.
func (p *program) build(t testing.TB, edits []edit, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "build")
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, e := range edits {
		path, err := filepath.Abs(filepath.Join(appDir, e.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := content[path]; !ok {
			data, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			content[path] = string(data)
		}
		if !strings.Contains(content[path], e.old) {
			t.Fatalf("%s does not contain %q", e.file, e.old)
		}
		if e.old == "" {
			content[path] += e.new
		} else {
			content[path] = strings.Replace(content[path], e.old, e.new, 1)
		}
	}
	replace := map[string]string{}
	for path, text := range content {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d_%s", len(replace), filepath.Base(path)))
		if err := os.WriteFile(replace[path], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "app")
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build", "-buildvcs=false", "-overlay=" + overlayFile, "-o", out}, p.flags...)
	cmd := exec.Command("go", append(append(args, flags...), ".")...)
	cmd.Dir = appDir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, output)
	}
	return out
}

// capture builds the program with edits and returns the object's path.
func (p *program) capture(t testing.TB, edits []edit) string {
	t.Helper()
	return p.build(t, edits, "-toolexec="+filepath.Join(scratch, "toolexec"))
}

// input makes what Emit takes for an edit.
func (p *program) input(t testing.TB, edits ...edit) Input {
	t.Helper()
	p.once.Do(func() { p.target, p.base, p.captured = p.build(t, nil), p.capture(t, nil), map[string]string{} })
	key := fmt.Sprint(edits)
	if p.captured[key] == "" {
		p.captured[key] = p.capture(t, edits)
	}
	open := func(path string) *object.Object {
		o, err := object.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = o.Close() })
		return o
	}
	x, err := exe.Open(p.target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	in := Input{Base: open(p.base), New: open(p.captured[key]), Exe: x, Name: "test"}
	if in.Match, err = object.MatchTarget(in.Base, x); err != nil {
		t.Fatal(err)
	}
	if in.Diff, err = object.Compare(in.Base, in.New, object.Options{Differs: func(pkg string) bool {
		return pkg == "main" || strings.HasPrefix(pkg, "app/")
	}}); err != nil {
		t.Fatal(err)
	}
	return in
}
