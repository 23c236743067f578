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

// reapedExit returns with what wait status a process has ended that a descriptor
// refers to, if its parent has taken notice. Kernels before 6.15 don't tell.
func reapedExit(pidfd int) (status unix.WaitStatus, ok bool) {
	info := pidfdInfo{Mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	return unix.WaitStatus(info.ExitCode), errno == 0 && info.Mask&pidfdInfoExit != 0
}
