package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// faultAddress returns the address that a thread could not access, which has
// stopped for the signal that says so.
func faultAddress(tid int) uint64 {
	var info [128]byte // siginfo_t; si_addr is at 16
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(tid), 0, uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return 0
	}
	return *(*uint64)(unsafe.Pointer(&info[16]))
}

// pidfdInfo is what the kernel says of a process by its descriptor, the first
// version of struct pidfd_info in <linux/pidfd.h>.
type pidfdInfo struct {
	Mask, Cgroup                                                      uint64
	Pid, Tgid, Ppid, Ruid, Rgid, Euid, Egid, Suid, Sgid, Fsuid, Fsgid uint32
	ExitCode                                                          int32
}

const (
	pidfdInfoExit = 1 << 3
	pidfdGetInfo  = 0xc000ff0b | unsafe.Sizeof(pidfdInfo{})<<16 // _IOWR(0xff, 11, struct pidfd_info)
)

// exitOf returns how a process ended that a descriptor refers to, whoever its
// parent is. ok is false on kernels before 6.15, which don't tell.
func exitOf(pidfd int) (signal unix.Signal, status int, ok bool) {
	info := pidfdInfo{Mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.Mask&pidfdInfoExit == 0 {
		return 0, 0, false
	}
	w := unix.WaitStatus(info.ExitCode)
	if w.Signaled() {
		return w.Signal(), 0, true
	}
	return 0, w.ExitStatus(), true
}
