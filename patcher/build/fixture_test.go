package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/exe"
)

func TestMain(m *testing.M) {
	ToolMain()
	os.Exit(m.Run())
}

// isolate gives the test a cache and a folder for temporary files of its own,
// and the latter's path. The go command's cache stays the user's.
func isolate(t testing.TB) string {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("GOCACHE", goEnv(t, "GOCACHE"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("TMPDIR", tmp)
	t.Setenv("GOFLAGS", "")
	return tmp
}

func goEnv(t testing.TB, name string) string {
	return strings.TrimSpace(run(t, ".", "go", "env", name))
}

// run runs a program and returns what it prints.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// write writes files, given as path and content in turn.
func write(t testing.TB, dir string, files ...string) {
	t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// edit replaces text that must be in a file.
func edit(t testing.TB, path, old, new string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%q is not in %s", old, path)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(data), old, new)), 0o666); err != nil {
		t.Fatal(err)
	}
}

// gitInit makes dir a repository with all its files committed.
func gitInit(t testing.TB, dir string) {
	t.Helper()
	run(t, dir, "git", "init", "-q", "-b", "main")
	run(t, dir, "git", "config", "user.name", "nobody")
	run(t, dir, "git", "config", "user.email", "nobody@example.com")
	gitCommit(t, dir)
}

// gitCommit commits all files and returns the commit's name.
func gitCommit(t testing.TB, dir string) string {
	t.Helper()
	run(t, dir, "git", "add", "-A")
	run(t, dir, "git", "commit", "-q", "-m", "as it is")
	return strings.TrimSpace(run(t, dir, "git", "rev-parse", "HEAD"))
}

// server copies testdata/build/server to a new folder.
func server(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.CopyFS(dir, os.DirFS("../../testdata/build/server")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goBuild builds the program in dir and returns the executable.
func goBuild(t testing.TB, dir string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "target")
	verb := []string{"build"}
	if len(flags) > 0 && flags[0] == "test" {
		verb, flags = []string{"test", "-c"}, flags[1:]
	}
	run(t, dir, "go", append(append(verb, "-o", path), flags...)...)
	return path
}

// programOf is what Build makes of an executable built in dir.
func programOf(t testing.TB, dir, executable string) *program {
	t.Helper()
	x, err := exe.OpenAny(executable)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	s, err := settingsOf(x.BuildInfo, isTest(x))
	if err != nil {
		t.Fatal(err)
	}
	p, err := openProgram(context.Background(), &Options{Dir: dir}, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// files lists the regular files under dir with their contents.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// start runs a program until the test ends and returns its process id.
func start(t testing.TB, path string) int {
	t.Helper()
	cmd := exec.Command(path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
