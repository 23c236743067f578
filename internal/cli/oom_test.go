package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// memoryGroup makes a control group of this process's whose processes may use so
// many bytes of memory, or skips the test and says why it can't.
func memoryGroup(t *testing.T, bytes int) (dir string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip(err)
	}
	var limits []string
	const root = "/sys/fs/cgroup"
	if m := regexp.MustCompile(`(?m)^\d+:(?:[^:\n]*,)?memory(?:,[^:\n]*)?:(.*)$`).FindSubmatch(data); m != nil { // version 1
		dir = filepath.Join(root, "memory", string(m[1]))
		limits = []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes"}
	} else {
		// A group that has processes of its own has none with limits of theirs below
		// it, unless it is the root.
		_, own, _ := strings.Cut(string(data), "0::")
		for dir = filepath.Join(root, strings.TrimSpace(own)); ; dir = filepath.Dir(dir) {
			control, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
			if strings.Contains(string(control), "memory") {
				break
			}
			if err != nil || dir == root {
				t.Skip("no control group above this one limits the memory of others")
			}
		}
		limits = []string{"memory.max", "memory.swap.max"}
	}
	if dir, err = os.MkdirTemp(dir, "darn-test-"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		eventually(t, "the control group is removed", func() bool { return os.Remove(dir) == nil })
	})
	for i, name := range limits {
		if name == "memory.swap.max" {
			bytes = 0
		}
		err := os.WriteFile(filepath.Join(dir, name), []byte(fmt.Sprint(bytes)), 0o600)
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			t.Skip(err)
		}
	}
	return dir
}

// outOfMemory is how often the kernel has ended a process of a group for the memory
// that it uses.
func outOfMemory(t *testing.T, dir string) string {
	t.Helper()
	for _, name := range []string{"memory.events", "memory.oom_control"} {
		data, _ := os.ReadFile(filepath.Join(dir, name))
		if m := regexp.MustCompile(`(?m)^oom_kill (\d+)$`).FindSubmatch(data); m != nil {
			return string(m[1])
		}
	}
	t.Skip("the kernel does not count whom it ends for the memory that they use")
	return ""
}

// exhaust has the kernel end a troubled program for want of memory, at once and
// wherever it is: others of its control group take all, and this one is to end first.
// In the end nobody keeps what is left of it.
func exhaust(t *testing.T, pid int) {
	dir := memoryGroup(t, 16<<20)
	outOfMemory(t, dir)
	members := []int{pid}
	var others []*cProgram
	for range 2 { // so that none of them has most
		p := startC(t, fmt.Sprintf("/proc/%d/exe", pid))
		p.mayEnd = true
		p.says(t, "42")
		others, members = append(others, p), append(members, p.cmd.Process.Pid)
	}
	for _, member := range members {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(member)), 0o600); err != nil {
			t.Skip(err)
		}
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "nobody keeps what is left of the process", func() bool {
			var status syscall.WaitStatus
			got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
			return err == nil && got == pid && status.Signaled() && status.Signal() == syscall.SIGKILL
		})
	})
	for _, p := range others {
		if err := p.cmd.Process.Signal(syscall.SIGPROF); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the kernel has ended the process", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return bytes.Contains(stat, []byte(") Z ")) || bytes.Contains(stat, []byte(") X "))
	})
}

// What the kernel ends for want of memory, it may end for that of another: nothing is
// held against the patch, and it is said what became of the process.
func TestAProcessWithoutMemoryIsNotHeldAgainstThePatch(t *testing.T) {
	dir := memoryGroup(t, 16<<20)
	p, s, _ := troubled(t, nil)
	p.mayEnd = true
	module := gcc(t, "-shared", "-fPIC", writeC(t, "leak.c", "#include <stdlib.h>\n#include <string.h>\nint answer(int n) { for (;;) memset(malloc(1 << 20), 1, 1 << 20); }\n"))
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(s.pid)), 0o600); err != nil {
		t.Skip(err)
	}
	darn(t, "load", s.flag(), module).ok(t)
	r := darn(t, "activate", s.flag(), "--watch=20s", module)
	if !strings.Contains(r.stderr, "was ended by SIGKILL") || !strings.Contains(r.stderr, "that is not held against it") || strings.Contains(r.stderr, "what was seen of the end") {
		t.Errorf("exit status %d, stderr %q", r.code, r.stderr)
	}
	if n := outOfMemory(t, dir); n != "1" {
		t.Errorf("the kernel has ended %s processes for want of memory", n)
	}
	_, s, _ = troubled(t, nil)
	darn(t, "load", s.flag(), module).ok(t)
}
