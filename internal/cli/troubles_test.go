package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
)

// troubled is a program that makes trouble, and a patch of it.
func troubled(t *testing.T, attr *syscall.SysProcAttr) (*cProgram, *server, string) {
	t.Helper()
	buildMu.Lock()
	exe, module := filepath.Join(shared, "troubled"), filepath.Join(shared, "troubled.so")
	if _, err := os.Stat(module); err != nil {
		for _, args := range [][]string{
			{"-g", "-O2", "-o", exe, "../../testdata/targets/troubled.c"},
			{"-g", "-O2", "-shared", "-fPIC", "-o", module, writeC(t, "troubled.c", "int answer(int n) { return n + 43; }\n")},
		} {
			if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	buildMu.Unlock()
	p := startCIn(t, attr, exe)
	p.says(t, "42")
	return p, &server{t: t, pid: p.cmd.Process.Pid}, module
}

// stopAt starts a command that stops itself at a step, does the trouble then,
// lets it go on and returns what comes of it. reached is false if the command
// has fewer steps.
func stopAt(t *testing.T, step int, trouble func(), args ...string) (r result, reached bool) {
	t.Helper()
	cmd := command(args...)
	cmd.Env = append(os.Environ(), fmt.Sprint("DARN_FAULT_STOP=", step))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	defer func() { _ = cmd.Process.Kill() }() // if the trouble can't be made
	for ended := false; !ended && !reached; time.Sleep(time.Millisecond) {
		select {
		case <-done:
			ended = true
		default:
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
			reached = bytes.Contains(stat, []byte(") T "))
		}
	}
	if reached {
		trouble()
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("%v hangs", args)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, reached
}

// TestTroublesInTheMiddle has something happen to the target in the middle of
// each operation: it is done, or refused with a code; and Darn's own state is
// right afterwards.
func TestTroublesInTheMiddle(t *testing.T) {
	operations := []struct {
		command string
		before  []string
		steps   []int // early and late
	}{
		{"load", nil, []int{20, 30, 40}},
		{"activate", []string{"load"}, []int{10, 15}},
		{"deactivate", []string{"load", "activate"}, []int{10}},
		{"unload", []string{"load", "activate", "deactivate"}, []int{5, 10}},
	}
	signal := func(s syscall.Signal) func(*testing.T, int) {
		return func(t *testing.T, pid int) {
			if err := syscall.Kill(pid, s); err != nil {
				t.Error(err)
			}
		}
	}
	limit := func(what int) func(*testing.T, int) {
		return func(t *testing.T, pid int) {
			limitTo(t, pid, what, 0)
		}
	}
	for _, trouble := range []struct {
		name  string
		cause func(*testing.T, int)
		codes []finding.Code // that it may be refused with
		ends  bool           // the target is no more, or is another
	}{
		{"killed", signal(syscall.SIGKILL), []finding.Code{finding.TargetExited}, true},
		{"out of memory", exhaust, []finding.Code{finding.TargetExited}, true},
		{"stopped", signal(syscall.SIGSTOP), []finding.Code{finding.Busy, finding.WrongState}, false},
		{"forks", signal(syscall.SIGUSR1), []finding.Code{finding.InUse, finding.Busy}, false},
		{"is replaced", signal(syscall.SIGUSR2), []finding.Code{finding.TargetExited, finding.NotLoaded}, true},
		{"exits", signal(syscall.SIGALRM), []finding.Code{finding.TargetExited}, true},
		{"may not map", signal(syscall.SIGHUP), []finding.Code{finding.UnsupportedTarget}, false},
		{"no memory", limit(unix.RLIMIT_AS), []finding.Code{finding.UnsupportedTarget}, false},
		{"no descriptors", limit(unix.RLIMIT_NOFILE), []finding.Code{finding.UnsupportedTarget}, false},
	} {
		for _, op := range operations {
			t.Run(trouble.name+" "+op.command, func(t *testing.T) {
				for _, step := range op.steps {
					p, s, module := troubled(t, nil)
					p.mayEnd = trouble.ends
					for _, c := range op.before {
						darn(t, c, s.flag(), module).ok(t)
					}
					r, reached := stopAt(t, step, func() { trouble.cause(t, s.pid) }, op.command, s.flag(), module)
					if !reached {
						t.Errorf("%s has no step %d", op.command, step)
					}
					refused := slices.ContainsFunc(trouble.codes, func(c finding.Code) bool { return strings.Contains(r.stderr, "["+string(c)+"]") })
					if r.code != exitDone && (r.code != exitRefused || !refused) {
						t.Errorf("step %d: exit status %d: %s", step, r.code, r.stderr)
					}
					if trouble.ends {
						continue
					}
					_ = syscall.Kill(s.pid, syscall.SIGCONT)
					state := s.state(t, module)
					if done := r.code == exitDone; done && state != after[op.command] || !done && state != before[op.command] {
						t.Errorf("step %d: exit status %d (%s), and the patch is %s", step, r.code, r.stderr, state)
					}
					p.says(t, map[bool]string{true: "43", false: "42"}[state == patcher.Active])
				}
			})
		}
	}
}

// state returns the state of the only patch.
func (s *server) state(t *testing.T, module string) patcher.State {
	t.Helper()
	var l patcher.Listing
	darn(t, "list", "--json", s.flag()).ok(t).decode(t, &l)
	if len(l.Patches) > 1 || len(l.Patches) == 1 && l.Patches[0].Path != module {
		t.Fatalf("the list is %+v", l.Patches)
	}
	if len(l.Patches) == 0 {
		return patcher.Unloaded
	}
	return l.Patches[0].State
}

// limitTo sets a soft limit of a process, and returns what it was.
func limitTo(t *testing.T, pid, what int, n uint64) uint64 {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, what, nil, &limit); err != nil {
		t.Fatal(err)
	}
	old := limit.Cur
	limit.Cur = n
	if err := unix.Prlimit(pid, what, &limit, nil); err != nil {
		t.Fatal(err)
	}
	return old
}

// before and after are the states that an operation leads from and to.
var (
	before = map[string]patcher.State{"load": patcher.Unloaded, "activate": patcher.Loaded, "deactivate": patcher.Active, "unload": patcher.Loaded}
	after  = map[string]patcher.State{"load": patcher.Loaded, "activate": patcher.Active, "deactivate": patcher.Loaded, "unload": patcher.Unloaded}
)

// A program in a container has numbers and paths of its own.
func TestProgramInNamespacesOfItsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root to make them")
	}
	p, s, module := troubled(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET})
	before := s.snapshot()
	darn(t, "load", s.flag(), module).ok(t)
	darn(t, "activate", s.flag(), module).ok(t)
	p.says(t, "43")
	for step := range 3 { // it is stopped with Delve's breakpoints, without them, and runs
		if r := killedAt(t, step+1, "list", s.flag()); r.code >= 0 {
			t.Errorf("a list ends with status %d and not by SIGKILL: %s", r.code, r.stderr)
		}
	}
	darn(t, "deactivate", s.flag(), module).ok(t)
	darn(t, "unload", s.flag(), module).ok(t)
	p.says(t, "42")
	s.mustEqual(before)
}

// Neither a patch nor a program suffers if nothing can be written.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root to make one")
	}
	full := t.TempDir()
	if err := unix.Mount("none", full, "tmpfs", 0, "size=4k,nr_inodes=3"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(full, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(full, "it"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	p, s, module := troubled(t, nil)
	before := s.snapshot()
	on := func(args ...string) result {
		cmd := command(args...)
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+full, "TMPDIR="+full)
		return run(t, cmd)
	}
	if r := on("build", "--target", filepath.Join(shared, "troubled"), "-o", filepath.Join(full, "m.so"), writeC(t, "m.c", "int answer(int n) { return n; }\n")); r.code != exitRefused || !strings.Contains(strings.ToLower(r.stderr), "no space left") {
		t.Errorf("a build says %q", r.stderr)
	}
	on("load", s.flag(), module).ok(t)
	on("activate", s.flag(), module).ok(t)
	p.says(t, "43")
	on("deactivate", s.flag(), module).ok(t)
	on("unload", s.flag(), module).ok(t)
	s.mustEqual(before)
}
