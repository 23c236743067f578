package arena

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/process"
)

// Identity tells the arena in a process from those in others; it is "" if there
// is none. A forked child has the same one as its parent. The process need not be
// traced and is not touched.
func Identity(pid int) string {
	maps, err := process.ReadMaps(pid)
	if err != nil {
		return ""
	}
	for _, m := range maps {
		if isSwitches(m) {
			return fmt.Sprint(m.Device, ":", m.Inode)
		}
	}
	return ""
}

// Forks returns the other processes that were forked from the arena's and have
// it too: what is mapped there they see as it was at the fork, except for the
// switches, which they share.
func (a *Arena) Forks() []int {
	own := Identity(a.pid)
	program, err := os.Stat(exe(a.pid))
	if own == "" || err != nil {
		return nil
	}
	var pids []int
	for _, pid := range process.Pids() {
		if pid == a.pid || pid == os.Getpid() {
			continue
		}
		// This is asked under a halt too, and maps take long to read. A child that
		// executes another program does not have the arena any more.
		if info, err := os.Stat(exe(pid)); err != nil || !os.SameFile(info, program) {
			continue
		}
		if Identity(pid) == own && !sameMemory(pid, a.pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func exe(pid int) string { return fmt.Sprintf("/proc/%d/exe", pid) }

// sameMemory tells whether two processes run in the same memory, as a child does
// that vfork or posix_spawn has made, until it executes another program.
func sameMemory(a, b int) bool {
	const vm = 1 // KCMP_VM, linux/kcmp.h
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), vm, 0, 0, 0)
	return errno == 0 && r == 0
}

// isSwitches tells whether a mapping is an arena's page of switches.
func isSwitches(m process.Mapping) bool {
	const file = "/memfd:" + name
	return m.Perms == "r--s" && m.Offset == switchesAt && (m.Path == file || m.Path == file+" (deleted)")
}
