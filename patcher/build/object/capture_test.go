package object

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// captureEnv, if set, makes the test binary play go build's -toolexec and the
// linker's -extld, and holds nothing else.
const captureEnv = "DARN_OBJECT_TEST_CAPTURE"

var scratch string // a folder for the run

func TestMain(m *testing.M) {
	if os.Getenv(captureEnv) != "" {
		if err := playTool(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "object-test"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(scratch) }()
		return m.Run()
	}())
}

// playTool runs a tool of the toolchain, as it is but for the linker, which is
// told to leave the linking to us; then, in place of gcc, keeps the object.
func playTool(args []string) error {
	if strings.HasPrefix(args[0], "-") { // called as -extld
		out, object := "", ""
		for i, a := range args {
			if a == "-o" {
				out = args[i+1]
			}
			if filepath.Base(a) == "go.o" {
				object = a
			}
		}
		if object == "" {
			return nil // the linker tries which options there are
		}
		data, err := os.ReadFile(object)
		if err != nil {
			return err
		}
		return os.WriteFile(out, data, 0o644)
	}
	last := len(args) - 1
	if filepath.Base(args[0]) == "link" && !strings.HasPrefix(args[1], "-V") {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		args = append(args[:last:last], "-linkmode=external", "-extld="+self, args[last])
	}
	tool, err := exec.LookPath(args[0]) // the C compiler comes by its name only
	if err != nil {
		return err
	}
	return syscall.Exec(tool, args, os.Environ())
}

// program is a main module in a folder.
type program struct {
	dir   string
	flags []string // of go build
	env   []string
}

// build runs go build with the program's files replaced by edits, and returns
// the output's path.
func (p program) build(t testing.TB, edits map[string]string, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "build")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for name, content := range edits {
		path := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		original, err := filepath.Abs(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		replace[original] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, out := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "out")
	if err := os.WriteFile(overlayFile, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build", "-buildvcs=false", "-overlay=" + overlayFile, "-o", out}, p.flags...)
	cmd := exec.Command("go", append(append(args, flags...), ".")...)
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), captureEnv+"=1"), p.env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, output)
	}
	return out
}

// capture builds the relocatable object of the program with edits.
func (p program) capture(t testing.TB, edits map[string]string) *Object {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(p.build(t, edits, "-toolexec="+self))
	if err != nil {
		t.Fatal(err)
	}
	return o // left open: it may be cached
}

// cached makes f run once in the whole run.
func cached[T any](f func(t testing.TB) T) func(t testing.TB) T {
	var once sync.Once
	var v T
	return func(t testing.TB) T {
		t.Helper()
		once.Do(func() { v = f(t) })
		return v
	}
}
