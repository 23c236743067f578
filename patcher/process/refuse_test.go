package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// roleEnv makes the test program another one: "attach PID UID" attaches to the
// process as that user, does a remote system call and says what came of it;
// "trace PID" traces the process until standard input ends.
const roleEnv = "DARN_PROCESS_ROLE"

func init() {
	role := strings.Fields(os.Getenv(roleEnv))
	if len(role) == 0 {
		return
	}
	pid, err := strconv.Atoi(role[1])
	switch role[0] {
	case "attach":
		if err == nil {
			err = attachAs(pid, role[2])
		}
	case "trace":
		runtime.LockOSThread()
		if err == nil {
			err = unix.PtraceAttach(pid)
		}
		if err == nil {
			_, err = unix.Wait4(pid, nil, unix.WALL, nil)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(0)
	}
	fmt.Println("done")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

func attachAs(pid int, user string) error {
	uid, err := strconv.Atoi(user)
	if err != nil {
		return err
	}
	if uid != os.Getuid() {
		if err := syscall.Setgid(uid); err != nil {
			return err
		}
		if err := syscall.Setuid(uid); err != nil {
			return err
		}
		// A process that has changed its user is root's to the kernel's eyes.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	p, err := Attach(pid)
	if err != nil {
		return err
	}
	err = p.Halt(context.Background(), func(h *Halt) error {
		got, err := h.Syscall(unix.SYS_GETUID)
		if err == nil && got != uint64(uid) {
			err = fmt.Errorf("the target is of user %d", got)
		}
		return err
	})
	if cerr := p.Close(); err == nil {
		err = cerr
	}
	return err
}

// play starts the test program in a role and returns the first line it prints.
func play(t *testing.T, role string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// nobody is a user without rights, who exists by number only.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have a process of another user")
	}
}

func TestProcessOfAnotherUserIsRefused(t *testing.T) {
	needRoot(t)
	target := cThreads(t)
	got := play(t, fmt.Sprintf("attach %d %d", target.Pid(), nobody))
	mustSay(t, fmt.Errorf("%s", got), fmt.Sprintf("process %d belongs to user 0, not to you (user %d)", target.Pid(), nobody),
		"run darn as the user who owns the process", string(finding.UnsupportedTarget))
	mustCount(t, target)
}

// TestProcessWithMoreRightsThanItsUserIsRefused: the target is one that has kept
// another user's id as its saved one, as a set-user-ID program has its owner's.
func TestProcessWithMoreRightsThanItsUserIsRefused(t *testing.T) {
	needRoot(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("setpriv is not here")
	}
	target := targettest.Start(t, targettest.Command{
		Path: setpriv, Args: []string{"--euid", strconv.Itoa(nobody), "--clear-groups", targettest.Build(t, "cthreads.c")},
	})
	target.Line("ready")
	got := play(t, fmt.Sprintf("attach %d %d", target.Pid(), nobody))
	mustSay(t, fmt.Errorf("%s", got), fmt.Sprintf("process %d has rights of user 0 besides yours (user %d)", target.Pid(), nobody),
		"run darn as root", string(finding.UnsupportedTarget))
	mustCount(t, target)
}

// TestUndumpableProcessIsRefused: the user owns it, and the kernel says no.
func TestUndumpableProcessIsRefused(t *testing.T) {
	needRoot(t)
	target := targettest.Start(t, targettest.Command{
		Path: targettest.Build(t, "trapper.c"), Args: []string{"--undumpable"}, Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
	})
	target.Line("ready")
	got := play(t, fmt.Sprintf("attach %d %d", target.Pid(), nobody))
	mustSay(t, fmt.Errorf("%s", got), fmt.Sprintf("the kernel does not let process %d be traced", target.Pid()), "run darn as root",
		string(finding.UnsupportedTarget))
	target.MustLive()
}

// TestRootOfAUserNamespaceIsNotTheMachinesRoot: the kernel says no, and Darn why.
func TestRootOfAUserNamespaceIsNotTheMachinesRoot(t *testing.T) {
	needRoot(t)
	target := cThreads(t)
	// Where nobody may read it, who is root in the namespace.
	dir, err := os.MkdirTemp("", "darn-process-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "self")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(self, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=attach %d 0", roleEnv, target.Pid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skip("the kernel makes no user namespaces here:", err)
	}
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	mustSay(t, errors.New(string(out)), fmt.Sprintf("the kernel does not let process %d be traced: you are root in your user namespace only", target.Pid()),
		string(finding.UnsupportedTarget))
	mustCount(t, target)
}

func TestProcessOfAnOrdinaryUserIsAttachedToByThatUser(t *testing.T) {
	needRoot(t)
	target := targettest.Start(t, targettest.Command{
		Path: targettest.Build(t, "goserver"), Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
	})
	target.Line("addr ")
	if got := play(t, fmt.Sprintf("attach %d %d", target.Pid(), nobody)); got != "done" {
		t.Error(got)
	}
	mustGoOn(t, target, "rounds", "passes")
}

func TestTracedProcessIsRefused(t *testing.T) {
	target := cThreads(t)
	if got := play(t, fmt.Sprintf("trace %d", target.Pid())); got != "done" {
		t.Fatal(got)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Attach(target.Pid())
	mustSay(t, err, fmt.Sprintf("process %d is already traced by process ", target.Pid()), "("+strings.TrimSpace(string(comm))+")",
		"Linux allows one at a time", string(finding.Busy))
}

func TestAttachingTwiceIsRefused(t *testing.T) {
	target := cThreads(t)
	attach(t, target)
	_, err := Attach(target.Pid())
	mustSay(t, err, fmt.Sprintf("already traced by process %d", os.Getpid()), string(finding.Busy))
	mustCount(t, target)
}

func TestMissingProcessIsRefused(t *testing.T) {
	for _, pid := range []int{0, -1, 1 << 22} { // the kernel's PID_MAX_LIMIT
		_, err := Attach(pid)
		mustSay(t, err, string(finding.TargetExited), strconv.Itoa(pid), "give the id of a running process")
	}
}

func TestThreadIsRefused(t *testing.T) {
	target := cThreads(t)
	tasks, err := os.ReadDir(procPath(target.Pid(), "task"))
	if err != nil {
		t.Fatal(err)
	}
	tid, err := strconv.Atoi(tasks[len(tasks)-1].Name())
	if err != nil || tid == target.Pid() {
		t.Fatal(tid, err)
	}
	_, err = Attach(tid)
	mustSay(t, err, fmt.Sprintf("%d is a thread of process %d", tid, target.Pid()), "give the id of the process")
}

func TestEndedProcessIsRefused(t *testing.T) {
	target := cThreads(t)
	target.Kill()
	target.Wait()
	_, err := Attach(target.Pid())
	mustSay(t, err, string(finding.TargetExited))
}

func TestProcessStoppedByJobControlIsRefused(t *testing.T) {
	target := cThreads(t)
	if err := unix.Kill(target.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "it is stopped", func() bool {
		s, err := readStatus(target.Pid())
		return err == nil && strings.HasPrefix(s["State"], "T")
	})
	_, err := Attach(target.Pid())
	mustSay(t, err, "is stopped", fmt.Sprintf("kill -CONT %d", target.Pid()), string(finding.WrongState))
	if s, err := readStatus(target.Pid()); err != nil || !strings.HasPrefix(s["State"], "T") {
		t.Errorf("its state is %s, %v", s["State"], err)
	}
	if err := unix.Kill(target.Pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustCount(t, target)
}

func TestProgramOfAnotherArchitectureIsRefused(t *testing.T) {
	path := targettest.Build(t, "pause32.c", "-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector")
	target := targettest.Start(t, targettest.Command{Path: path})
	_, err := Attach(target.Pid())
	mustSay(t, err, "its program is for EM_386 (ELFCLASS32)", "only linux/amd64 programs can be patched", string(finding.UnsupportedTarget))
	target.MustLive()
}

func TestKernelThreadIsRefused(t *testing.T) {
	if comm, err := os.ReadFile("/proc/2/comm"); err != nil || string(comm) != "kthreadd\n" {
		t.Skip("no kernel thread can be seen here")
	}
	needRoot(t)
	_, err := Attach(2)
	mustSay(t, err, "it is a kernel thread", string(finding.UnsupportedTarget))
}

func TestProcessThatBlocksSIGTRAPEverywhereIsRefused(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "trapper.c"), Args: []string{"--block"}})
	target.Line("ready")
	_, err := Attach(target.Pid())
	mustSay(t, err, "blocks SIGTRAP", string(finding.UnsupportedTarget))
	target.MustLive()
}

func TestMapsAreParsed(t *testing.T) {
	got, err := parseMaps("00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a b (deleted)\n" +
		"7ffc0-7ffd0 rw-s 00000000 00:00 0 \n" +
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{0x400000, 0x452000, "r-xp", 0x1000, "08:02", 173521, "/usr/bin/a b (deleted)"},
		{0x7ffc0, 0x7ffd0, "rw-s", 0, "00:00", 0, ""},
		{0xffffffffff600000, 0xffffffffff601000, "--xp", 0, "00:00", 0, "[vsyscall]"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("parsed\n%v\nwant\n%v", got, want)
	}
}

func FuzzMaps(f *testing.F) {
	f.Add("00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a b (deleted)\n")
	f.Add("7ffc0-7ffd0 rw-s 00000000 00:00 0 \nx")
	f.Add("- rrrr    ")
	f.Fuzz(func(t *testing.T, s string) {
		maps, err := parseMaps(s)
		if err == nil && len(maps) != strings.Count(strings.TrimSuffix(s, "\n"), "\n")+1 && s != "" {
			t.Errorf("%d mappings in %q", len(maps), s)
		}
	})
}
