package cli

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
)

// cProgram is a running program whose lines are kept.
type cProgram struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	// mayEnd tells that its end is no failure of the test.
	mayEnd bool
}

func startC(t *testing.T, path string, args ...string) *cProgram {
	t.Helper()
	return startCIn(t, nil, path, args...)
}

// startCIn starts a program with attributes of its process, which may be nil.
func startCIn(t *testing.T, attr *syscall.SysProcAttr, path string, args ...string) *cProgram {
	t.Helper()
	p := &cProgram{cmd: exec.Command(path, args...)}
	p.cmd.SysProcAttr = attr
	if attr == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.cmd.SysProcAttr.Setpgid = true
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !p.mayEnd {
			t.Error("the target has ended:", err)
		}
		_ = p.cmd.Wait()
	})
	return p
}

func (p *cProgram) flag() string { return fmt.Sprint("--pid=", p.cmd.Process.Pid) }

// says waits until each of the lines is among those that come from now on.
func (p *cProgram) says(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	p.lines = nil
	p.mu.Unlock()
	eventually(t, fmt.Sprintf("the program says %q", want), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, w := range want {
			if !slices.Contains(p.lines, w) {
				return false
			}
		}
		return true
	})
}

// writeC writes a source file and returns its path.
func writeC(t *testing.T, name, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// gcc compiles and returns the path of the result.
func gcc(t *testing.T, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if output, err := exec.Command("gcc", append([]string{"-g", "-O2", "-o", out}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return out
}

// TestChildren goes through the commands with a master and its workers: those
// that there are when the patch is loaded, and one that is forked later.
func TestChildren(t *testing.T) {
	exe := gcc(t, "../../testdata/targets/prefork.c")
	module := filepath.Join(t.TempDir(), "fix.so")
	built := darn(t, "build", "--target", exe, "-o", module, writeC(t, "fix.c", "int answer(int n) { return n + ADD; }\n"), "--", "-DADD=100").ok(t)
	if !strings.Contains(built.stdout, "replaces 1 function:\n  answer  ") {
		t.Errorf("build says %q", built.stdout)
	}
	other := gcc(t, "-shared", "-fPIC", writeC(t, "other.c", "int answer(int n) { return n; }\n"))
	p := startC(t, exe)
	p.says(t, "worker 0 says 42", "worker 1 says 42", "master says 42")
	darn(t, "inspect", p.flag(), module).ok(t)
	darn(t, "load", "--children", p.flag(), module).ok(t)
	darn(t, "activate", "--children", p.flag(), module).ok(t)
	p.says(t, "worker 0 says 141", "worker 1 says 141", "master says 141")
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p.says(t, "worker 2 says 141")
	listed := darn(t, "list", "--children", p.flag()).ok(t)
	if n := strings.Count(listed.stdout, "is active"); n != 3 {
		t.Errorf("%d processes list it as active:\n%s", n, listed.stdout)
	}
	for _, pid := range workers(t, p.cmd.Process.Pid) {
		if !strings.Contains(listed.stdout, fmt.Sprintf("process %d", pid)) {
			t.Errorf("process %d is not named:\n%s", pid, listed.stdout)
		}
	}
	darn(t, "deactivate", "--children", p.flag(), module).ok(t)
	p.says(t, "worker 0 says 42", "worker 1 says 42", "worker 2 says 42", "master says 42")
	darn(t, "load", p.flag(), other).mustRefuse(t, finding.InUse, "to load patch 2 takes writing to the code or memory of each")
	darn(t, "unload", p.flag(), module).mustRefuse(t, finding.InUse, "and this one were forked from each other and have the same patches")
	p.says(t, "worker 0 says 42", "worker 2 says 42", "master says 42")
}

// An edited source file is built against what it was, and its patch is activated;
// the output is for people and for programs.
func TestAnEditOfCIsBuiltAndActivated(t *testing.T) {
	const source = "../../testdata/targets/prefork.c"
	text, err := os.ReadFile(source)
	if err != nil || !strings.Contains(string(text), "return n + one") {
		t.Fatalf("%s is not what it was: %v", source, err)
	}
	edited := writeC(t, "prefork.c", strings.Replace(string(text), "return n + one", "return n + one + 100", 1))
	p := startC(t, gcc(t, source))
	p.says(t, "master says 42")
	module := filepath.Join(t.TempDir(), "fix.so")
	built := darn(t, "build", p.flag(), "--base", source, "-o", module, edited).ok(t)
	if !strings.Contains(built.stdout, "replaces 1 function:\n"+edited+":") || !strings.Contains(built.stdout, "answer: replaced: its code changed") || !strings.Contains(built.stderr, "debugging information has for prefork.c") {
		t.Errorf("build says %q, %q", built.stdout, built.stderr)
	}
	var r struct {
		Base     string
		Notes    []string
		Verdicts []struct{ Function, Source, Outcome string }
	}
	asJSON := darn(t, "build", p.flag(), "--base", source, "-o", module, "--json", "--progress", edited).ok(t)
	asJSON.decode(t, &r)
	if len(r.Verdicts) != 1 || r.Verdicts[0].Function != "answer" || r.Verdicts[0].Outcome != "replaced" || !strings.Contains(r.Base, "prefork.c") || len(r.Notes) != 1 {
		t.Errorf("as JSON it is %+v", r)
	}
	if !strings.Contains(asJSON.stderr, `{"stage":"comparing the base with the target","done":4,"total":7}`) {
		t.Errorf("the progress is %q", asJSON.stderr)
	}
	if texts := darn(t, "sources", module).ok(t); !strings.HasPrefix(texts.stdout, edited+"\n  old ") {
		t.Errorf("its sources are %q", texts.stdout)
	}
	inspected := darn(t, "inspect", p.flag(), module).ok(t)
	if !strings.Contains(inspected.stdout, "answer") {
		t.Errorf("inspect says %q", inspected.stdout)
	}
	darn(t, "load", p.flag(), module).ok(t)
	darn(t, "activate", p.flag(), module).ok(t)
	p.says(t, "master says 142")
	darn(t, "deactivate", p.flag(), module).ok(t)
	darn(t, "unload", p.flag(), module).ok(t)
	p.says(t, "master says 42")
}

// workers returns a master and its workers.
func workers(t *testing.T, master int) []int {
	t.Helper()
	pids, err := family(master, true)
	if err != nil || len(pids) < 3 {
		t.Fatalf("the master and its workers are %d: %v", pids, err)
	}
	return pids
}

// A function of the C library, in a program that was not made for this.
func TestAFunctionOfTheCLibrary(t *testing.T) {
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		t.Skip("no /usr/bin/python3")
	}
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", `
unsigned long wcsftime(int *s, unsigned long max, const int *format, const void *tm)
{
	if (max < 8)
		return 0;
	for (int i = 0; i < 8; i++)
		s[i] = L"patched"[i];
	return 7;
}
`))
	p := startC(t, python, "-c", "import time\nwhile True: print(time.strftime('year %%'), flush=True); time.sleep(0.02)")
	p.says(t, "year %")
	loaded := darn(t, "load", p.flag(), module).ok(t)
	if !strings.Contains(loaded.stderr, "[library-function]") {
		t.Errorf("load does not say whose function it is: %s", loaded.stderr)
	}
	darn(t, "activate", p.flag(), module).ok(t)
	p.says(t, "patched")
	darn(t, "deactivate", p.flag(), module).ok(t)
	p.says(t, "year %")
	darn(t, "unload", p.flag(), module).ok(t)
	p.says(t, "year %")
}

// A module with a library that the program, which was not made for this, has not
// loaded.
func TestALibraryThatAProgramIsMadeToLoad(t *testing.T) {
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil {
		t.Skip("no /usr/bin/python3")
	}
	library := gcc(t, "-shared", "-fPIC", "-Wl,-soname,libextra.so.1", writeC(t, "extra.c", "const int *extra(void) { return L\"patched\"; }\n"))
	if err := os.Rename(library, filepath.Join(filepath.Dir(library), "libextra.so.1")); err != nil {
		t.Fatal(err)
	}
	library = filepath.Join(filepath.Dir(library), "libextra.so.1")
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", `
const int *extra(void);
unsigned long wcsftime(int *s, unsigned long max, const int *format, const void *tm)
{
	if (max < 8)
		return 0;
	for (int i = 0; i < 8; i++)
		s[i] = extra()[i];
	return 7;
}
`), library, "-Wl,-rpath,"+filepath.Dir(library))
	p := startC(t, python, "-c", "import time\nwhile True: print(time.strftime('year %%'), flush=True); time.sleep(0.02)")
	p.says(t, "year %")
	darn(t, "load", p.flag(), module).mustRefuse(t, finding.SymbolUnresolved, "libextra.so.1, which the program has not loaded")
	loaded := darn(t, "load", "--dlopen", p.flag(), module).ok(t)
	if !strings.Contains(loaded.stderr, "libextra.so.1 was loaded into the program by its own dlopen, and stays there when the patch is unloaded [library-loaded]") {
		t.Errorf("load does not say that the library stays: %s", loaded.stderr)
	}
	darn(t, "activate", p.flag(), module).ok(t)
	p.says(t, "patched")
	darn(t, "deactivate", p.flag(), module).ok(t)
	p.says(t, "year %")
	darn(t, "unload", p.flag(), module).ok(t)
	p.says(t, "year %")
}

func TestModuleOfCForAGoProgram(t *testing.T) {
	s := buildTeahouse(t).start(t)
	module := gcc(t, "-shared", "-fPIC", writeC(t, "fix.c", "int total(void) { return 1; }\n"))
	darn(t, "load", s.flag(), module).mustRefuse(t, finding.UnsupportedBuild, "is a module for c programs")
	s.mustEqual(s.snapshot())
}

// A module that was linked with musl needs what a program with the GNU C library
// does not have.
func TestModuleOfMuslForAProgramOfGlibc(t *testing.T) {
	musl, err := exec.LookPath("musl-gcc")
	if err != nil {
		t.Skip("no musl-gcc: .ci/setup installs it")
	}
	module := filepath.Join(t.TempDir(), "fix.so")
	source := writeC(t, "fix.c", "#include <stdio.h>\nint answer(int n) { return printf(\"\") + n; }\n")
	if out, err := exec.Command(musl, "-shared", "-fPIC", "-o", module, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := startC(t, gcc(t, "../../testdata/targets/prefork.c"))
	p.says(t, "master says 42")
	darn(t, "load", p.flag(), module).mustRefuse(t, finding.SymbolUnresolved, "libc.so, which the program has not loaded: it is for another C library")
	p.says(t, "master says 42")
}

// musl is another C library, with another dynamic linker.
func TestProgramsWithMusl(t *testing.T) {
	musl, err := exec.LookPath("musl-gcc")
	if err != nil {
		t.Skip("no musl-gcc: .ci/setup installs it")
	}
	for name, flag := range map[string]string{"dynamic": "-fPIE", "static": "-static"} {
		t.Run(name, func(t *testing.T) {
			exe := filepath.Join(t.TempDir(), "exe")
			if out, err := exec.Command(musl, "-g", "-O2", flag, "-o", exe, "../../testdata/targets/prefork.c").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			source := writeC(t, "fix.c", "int usleep(unsigned); extern int one; int answer(int n) { return n + one + 3 + usleep(0); }\n")
			module := gcc(t, "-shared", "-fPIC", "-fno-builtin", "-nostdlib", source)
			other := gcc(t, "-shared", "-fPIC", "-fno-builtin", source)
			p := startC(t, exe)
			p.says(t, "master says 42")
			if name == "dynamic" {
				darn(t, "load", p.flag(), other).mustRefuse(t, finding.SymbolUnresolved, "libc.so.6, which the program has not loaded: it is for another C library")
			}
			darn(t, "load", p.flag(), module).ok(t)
			darn(t, "activate", p.flag(), module).ok(t)
			p.says(t, "master says 45", "worker 0 says 42")
			darn(t, "deactivate", p.flag(), module).ok(t)
			darn(t, "unload", p.flag(), module).ok(t)
			p.says(t, "master says 42")
		})
	}
}
