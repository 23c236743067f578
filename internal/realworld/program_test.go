package realworld

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// project is a program whose module the Go proxy has.
type project struct {
	name    string // for people
	module  string // with its major version
	licence string
	pkg     string // the main package, seen from the module's root
	// files are added to the tree: what a release builds before it compiles.
	files map[string]string
	// serve prepares what the program reads in dir, and returns how it is
	// started and where it then answers.
	serve func(t *testing.T, dir string) (args []string, s site)
}

// site is where a program answers.
type site struct {
	address string // of what it is for
	admin   string // of its administration, if it has one
	steady  string // a URL that always gives the same answer, with status 200
	dir     string // what it serves or reads
}

// program is a project's program, built from the source of one version.
type program struct {
	*project
	source string // the tree that it was built in; a test may edit it, and must undo that
	base   string // a copy of the tree, as built
	exe    string
}

// programs holds what was built, by module and version.
var programs = map[string]*program{}

// built fetches a version of a project through the module proxy and builds its
// program, as its users do. Tests that need the same share it.
func built(t *testing.T, p *project, version string) *program {
	t.Helper()
	if b := programs[p.module+version]; b != nil {
		return b
	}
	dir, err := os.MkdirTemp(scratch, p.name+"-")
	if err != nil {
		t.Fatal(err)
	}
	b := &program{project: p, source: filepath.Join(dir, "source"), base: filepath.Join(dir, "as-built"), exe: filepath.Join(dir, p.name)}
	copyTree(t, b.source, download(t, dir, p.module+"@"+version))
	for path, content := range p.files {
		write(t, filepath.Join(b.source, path), content)
	}
	copyTree(t, b.base, b.source)
	command(t, b.source, "go", "build", "-o", b.exe, p.pkg)
	programs[p.module+version] = b
	return b
}

// start starts the program and waits until it answers.
func (b *program) start(t *testing.T) (pid int, s site) {
	t.Helper()
	dir := t.TempDir()
	args, s := b.serve(t, dir)
	server := exec.Command(b.exe, args...)
	server.Dir = dir
	server.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return startServer(t, server, s.steady), s
}

// download fetches a module into the module cache and returns where it is.
func download(t *testing.T, dir, module string) string {
	t.Helper()
	var m struct{ Dir string }
	out := command(t, dir, "go", "mod", "download", "-json", module)
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	return m.Dir
}

// write writes a file and the folders above it.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}
