package loaded

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// A stripped program has the symbols that its separate debugging information
// has, wherever debuggers look for that; without, those that it exports.
func TestSeparateDebuggingInformationIsFound(t *testing.T) {
	dir := t.TempDir()
	source, exe, debug := filepath.Join(dir, "x.c"), filepath.Join(dir, "x"), filepath.Join(dir, "x.debug")
	if err := os.WriteFile(source, []byte("static __attribute__((noinline)) int hidden(int n) { return n + 1; }\nint shown(int n) { return hidden(n); }\nint main(int n, char **a) { return shown(n); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "gcc", "-g", "-O1", "-rdynamic", "-Wl,--build-id", "-o", exe, source)
	tool(t, "objcopy", "--only-keep-debug", exe, debug)
	whole, err := Files(exe, 0)
	if err != nil {
		t.Fatal(err)
	}
	id := whole.Objects[0].BuildID
	for _, c := range []struct {
		name, at string // where the debugging information is
		link     bool   // there is a .gnu_debuglink
		found    bool
	}{
		{"beside it", "x.debug", true, true},
		{"in .debug", ".debug/x.debug", true, true},
		{"by build id", "cache/darn/symbols/.build-id/" + id[:2] + "/" + id[2:] + ".debug", false, true},
		{"fetched by debuginfod", "cache/debuginfod_client/" + id + "/debuginfo", false, true},
		{"nowhere", "elsewhere", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
			t.Setenv("DEBUGINFOD_CACHE_PATH", "")
			stripped, at := filepath.Join(dir, "x"), filepath.Join(dir, c.at)
			if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
				t.Fatal(err)
			}
			tool(t, "cp", debug, at)
			tool(t, "objcopy", "--strip-all", exe, stripped)
			if c.link {
				tool(t, "objcopy", "--add-gnu-debuglink="+debug, stripped)
			}
			set, err := Files(stripped, 0)
			if err != nil {
				t.Fatal(err)
			}
			x := set.Objects[0]
			hidden := x.Named("hidden")
			if c.found != (len(hidden) == 1) || c.found == x.Stripped() {
				t.Errorf("hidden: %+v, stripped: %v", hidden, x.Stripped())
			}
			if c.found && (hidden[0].File != "x.c" || !hidden[0].Local || hidden[0].Size == 0) {
				t.Errorf("hidden is %+v", hidden[0])
			}
			if shown := x.Named("shown"); len(shown) == 0 || !shown[0].Dynamic {
				t.Errorf("shown: %+v", shown)
			}
		})
	}
}

// A file that only .gnu_debuglink names, of a program without a build id, is taken
// if its checksum is right; what is no file is not waited for.
func TestDebugLinksAreChecked(t *testing.T) {
	dir := t.TempDir()
	source, exe := filepath.Join(dir, "x.c"), filepath.Join(dir, "x")
	debug, stripped := filepath.Join(dir, "x.debug"), filepath.Join(dir, "stripped")
	if err := os.WriteFile(source, []byte("static __attribute__((noinline)) int hidden(int n) { return n + 1; }\nint main(int n, char **a) { return hidden(n); }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "gcc", "-g", "-O1", "-Wl,--build-id=none", "-o", exe, source)
	tool(t, "objcopy", "--only-keep-debug", exe, debug)
	tool(t, "objcopy", "--strip-all", "--add-gnu-debuglink="+debug, exe, stripped)
	known := func(t *testing.T) bool {
		t.Helper()
		set, err := Files(stripped, 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(set.Objects[0].Named("hidden")) == 1
	}
	if !known(t) {
		t.Error("the file with the right checksum is not taken")
	}
	f, err := os.OpenFile(debug, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if known(t) {
		t.Error("a file with another checksum is taken")
	}
	if err := errors.Join(os.Remove(debug), syscall.Mkfifo(debug, 0o600)); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 1)
	go func() { done <- known(t) }()
	select {
	case found := <-done:
		if found {
			t.Error("symbols come from a FIFO")
		}
	case <-time.After(30 * time.Second):
		t.Error("a FIFO is waited for")
	}
}
