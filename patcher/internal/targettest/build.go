package targettest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var built struct {
	sync.Mutex
	dir   string // "" outside of Run
	paths map[string]string
}

// Run runs the tests; call it as os.Exit(targettest.Run(m)) in TestMain. It
// keeps what Build built until the last test has run.
func Run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "darn-targets-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Targets of other users must be able to run what is in it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	built.dir, built.paths = dir, make(map[string]string)
	return m.Run()
}

// Build builds a program and returns its path. source is a folder with a Go
// main package, or a C file, relative to the repository's testdata/targets
// unless it's absolute. flags go to go build or gcc. Under Run a program is
// built once for all tests. Build before attaching: a tracer reaps the compiler.
func Build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	key := strings.Join(append([]string{source}, flags...), "\x00")
	if path, ok := built.paths[key]; ok {
		return path
	}
	dir := built.dir
	if dir == "" {
		dir = t.TempDir()
	}
	hash := sha256.Sum256([]byte(key))
	path := filepath.Join(dir, fmt.Sprintf("%s-%x", strings.TrimSuffix(filepath.Base(source), ".c"), hash[:4]))
	if !filepath.IsAbs(source) {
		source = filepath.Join(Root(t), "testdata", "targets", source)
	}
	var cmd *exec.Cmd
	if strings.HasSuffix(source, ".c") {
		cmd = exec.Command("gcc", append([]string{"-g", "-O1", "-Wall", "-fno-math-errno", "-pthread", "-o", path, source}, flags...)...)
	} else {
		cmd = exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", path}, flags...), ".")...)
		cmd.Dir = source
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", source, err, out)
	}
	if built.paths != nil {
		built.paths[key] = path
	}
	return path
}

// Root returns the repository's root folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("the test does not run inside the repository")
		}
		dir = parent
	}
}
