package arena

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// What the header begins with. The size of the arena follows.
const (
	magic   = "darnARNA"
	version = 2
)

// name is what the memfd is called in /proc/PID/maps and /proc/PID/fd.
const name = "darn"

// highDescriptor is where the target's descriptor is put, if it may be there: a
// program that closes a descriptor to open another in its place must not find
// it taken.
const highDescriptor = 400

// ErrTaken says that the place of an arena, or of an outpost, was free when it was planned and is
// not any more: another one has to be planned.
var ErrTaken = errors.New("the place of the arena was taken")

// takenError is a refusal that is an ErrTaken.
type takenError struct{ error }

func (takenError) Is(err error) bool { return err == ErrTaken }
func (e takenError) Unwrap() error   { return e.error }

// Reserve makes a planned arena in the halted target, by eight remote
// system calls. It is refused with unsupported-target if the kernel refuses the
// memfd or a mapping, and with out-of-range if the place has been taken since
// it was planned, which is an ErrTaken; then the target is as before, and
// Reserve may be tried again.
func (a *Arena) Reserve(h *process.Halt) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem != nil {
		return errors.New("the arena is reserved already")
	}
	h.Unfinished(a.base, a.size)
	defer h.Finished()
	const inaccessible = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | unix.MAP_FIXED_NOREPLACE
	got, err := h.Syscall(unix.SYS_MMAP, a.base, a.size, unix.PROT_NONE, inaccessible, ^uint64(0), 0)
	if errors.Is(err, unix.EEXIST) || err == nil && got != a.base {
		if err == nil { // a kernel before 4.17 takes the address for a hint
			_, err = h.Syscall(unix.SYS_MUNMAP, got, a.size)
		}
		return errors.Join(takenError{finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("process %d has mapped something at %#x meanwhile", h.Process().Pid(), a.base), "try again")}, ignore(err, unix.EEXIST))
	}
	if err != nil {
		return a.refused("reserve memory", err)
	}
	undo := []func() error{func() error { _, err := h.Syscall(unix.SYS_MUNMAP, a.base, a.size); return err }}
	defer func() {
		if err == nil {
			return
		}
		err = errors.Join(err, a.close())
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()

	// The kernel wants the memfd's name in memory of the target. The first page
	// of the reservation serves, before it becomes the page of the switches.
	if _, err := h.Syscall(unix.SYS_MPROTECT, a.base, pageSize, unix.PROT_READ); err != nil {
		return a.refused("make memory readable", err)
	}
	if err := a.p.WriteMemory(a.base, []byte(name+"\x00")); err != nil {
		return err
	}
	fd, err := h.Syscall(unix.SYS_MEMFD_CREATE, a.base, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC is of Linux 6.3
		fd, err = h.Syscall(unix.SYS_MEMFD_CREATE, a.base, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return a.refused("create a memfd", err)
	}
	undo = append(undo, func() error { _, err := h.Syscall(unix.SYS_CLOSE, a.fd); return err })
	a.fd = fd
	if high, err := h.Syscall(unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, highDescriptor); err == nil {
		a.fd = high
		if _, err := h.Syscall(unix.SYS_CLOSE, fd); err != nil {
			return err
		}
	}
	if err := a.open(); err != nil {
		return err
	}
	if err := unix.Ftruncate(a.file, int64(a.size)); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(a.file), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	if err := a.mapHere(); err != nil {
		return err
	}
	writeHeader(a.mem[headerAt:], a.size)
	return a.mapFile(h, a.base+switchesAt, switchesSize, unix.PROT_READ, unix.MAP_SHARED)
}

// seals keep the file as long as it is.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}

func (a *Arena) refused(what string, err error) error {
	if finding.CodeOf(err) != "" {
		return err
	}
	return finding.Refuse(finding.UnsupportedTarget,
		fmt.Sprintf("the kernel does not let process %d %s: %v", a.pid, what, err),
		"see whether a limit (ulimit -v, a cgroup), a seccomp filter or the security module (sysctl vm.memfd_noexec, SELinux execmem) forbids it")
}

// fileID tells a file from all others: memfds have small inode numbers, as
// /dev/null has.
type fileID struct {
	device string // major:minor, as in /proc/PID/maps
	inode  uint64
}

func identify(st *unix.Stat_t) fileID {
	return fileID{fmt.Sprintf("%02x:%02x", unix.Major(st.Dev), unix.Minor(st.Dev)), st.Ino}
}

// open opens the memfd that is the target's descriptor a.fd. By then that may be a
// device, to open which does something: so it is looked at before it is opened.
func (a *Arena) open() error {
	path := "/proc/" + strconv.Itoa(a.pid) + "/fd/" + strconv.FormatUint(a.fd, 10)
	found, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(found)
	var st unix.Stat_t
	if err := unix.Fstat(found, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unusable(a.pid, "its descriptor is another file")
	}
	file, err := unix.Open("/proc/self/fd/"+strconv.Itoa(found), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	a.file, a.id = file, identify(&st)
	return nil
}

// mapHere makes Darn's own mapping.
func (a *Arena) mapHere() (err error) {
	a.mem, err = unix.Mmap(a.file, 0, int(a.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func writeHeader(header []byte, size uint64) {
	copy(header, magic)
	binary.LittleEndian.PutUint64(header[8:], version)
	binary.LittleEndian.PutUint64(header[16:], size)
}

// mapFile maps a piece of the memfd where it belongs in the target.
func (a *Arena) mapFile(c process.Caller, addr, n uint64, prot, flags int) error {
	if err := a.checkDescriptor(); err != nil {
		return err
	}
	_, err := c.Syscall(unix.SYS_MMAP, addr, n, uint64(prot), uint64(flags|unix.MAP_FIXED), a.fd, addr-a.base)
	if err != nil {
		return a.refused("map the arena", err)
	}
	return nil
}

// checkDescriptor makes sure that the target's descriptor is still the memfd:
// a program may close all descriptors it does not know.
func (a *Arena) checkDescriptor() error {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(a.pid)+"/fd/"+strconv.FormatUint(a.fd, 10), &st)
	if err == nil && identify(&st) == a.id {
		return nil
	}
	return finding.Refuse(finding.UnsupportedTarget,
		fmt.Sprintf("process %d has closed descriptor %d, by which Darn's arena is mapped", a.pid, a.fd),
		"patches that are loaded can still be toggled and unloaded; restart the program to load others")
}

// Map makes [addr, addr+n), whole pages of a range set aside by Alloc,
// accessible to the target. prot is made of unix.PROT_READ, PROT_WRITE and
// PROT_EXEC, never the last two together. What the target writes there is its
// own: neither Darn's View nor a forked child sees it.
func (a *Arena) Map(c process.Caller, addr, n uint64, prot int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = roundUp(n)
	o := a.outpost(addr, n)
	switch {
	case a.mem == nil:
		return errClosed
	case o == nil && !a.allocated(addr, n):
		return fmt.Errorf("[%#x, +%#x) was not set aside in the arena", addr, n)
	case prot&unix.PROT_WRITE != 0 && prot&unix.PROT_EXEC != 0:
		return fmt.Errorf("[%#x, +%#x) would be writable and executable at once", addr, n)
	}
	if o != nil {
		return a.mapOutpost(c, o, prot)
	}
	return a.mapFile(c, addr, n, prot, unix.MAP_PRIVATE)
}

// Unmap makes the range inaccessible in the target and gives its memory back;
// it stays set aside. A child that was forked while it was mapped loses what it
// has not written itself.
func (a *Arena) Unmap(c process.Caller, addr, n uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = roundUp(n)
	o := a.outpost(addr, n)
	switch {
	case a.mem == nil:
		return errClosed
	case o != nil:
		return a.unmapOutpost(c, o)
	case !a.allocated(addr, n):
		return fmt.Errorf("[%#x, +%#x) was not set aside in the arena", addr, n)
	}
	const inaccessible = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | unix.MAP_FIXED
	if _, err := c.Syscall(unix.SYS_MMAP, addr, n, unix.PROT_NONE, inaccessible, ^uint64(0), 0); err != nil {
		return a.refused("unmap a part of the arena", err)
	}
	return a.punch(addr, n)
}

// Release gives everything back: the mappings, those of outposts too that nobody
// knows of any more, and the descriptor, so that the target is as it was before
// Reserve. Nothing in it may run or point there any
// more. Afterwards the Arena is as after Plan.
func (a *Arena) Release(h *process.Halt) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil {
		return errClosed
	}
	if err := a.unmapOutposts(h); err != nil {
		return err
	}
	h.Unfinished(a.base, a.size)
	defer h.Finished()
	if _, err := h.Syscall(unix.SYS_MUNMAP, a.base, a.size); err != nil {
		return a.refused("unmap the arena", err)
	}
	var err error
	if a.checkDescriptor() == nil {
		_, err = h.Syscall(unix.SYS_CLOSE, a.fd)
	}
	return errors.Join(err, a.close())
}
