package process

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guardJournal is what the guardian must know of a target when this process is
// killed. It lies in memory that both map: a store is all it takes to say
// something, and nothing said is lost.
type guardJournal struct {
	target  atomic.Int64
	tracer  atomic.Int64 // this process
	stopped atomic.Bool  // job control had stopped the target before
	ended   atomic.Bool  // the target was let go by the tracer itself

	// breakpoints tells that there may be some in the target's text.
	breakpoints atomic.Bool
	// before holds where the text had an int3 in place of another instruction before
	// it was traced, as long as there are few of them.
	before      [64]uint64
	beforeCount int

	// catcher is the address of the catcher's pages, 0 if there are none.
	catcher atomic.Uint64
	caught  atomic.Bool // the catcher may be the handler of SIGTRAP

	// entry is where the first bytes of the program were replaced, 0 if they are
	// not.
	entry    atomic.Uint64
	entryOld [4]byte

	// arenaSize is the size of the memory that is being reserved or given back,
	// from arenaAt on; 0 if none is.
	arenaAt, arenaSize atomic.Uint64

	// thread is the one whose registers or signal mask are not its own; 0 if there
	// is none.
	thread atomic.Int64
	gadget atomic.Uint64 // where its system call is done, 0 as long as its registers are its own
	there  atomic.Bool   // its registers are not its own for sure
	mask   uint64
	regs   unix.PtraceRegs
}

// current is the journal of the target that this process traces; nil if it is
// not guarded. A process traces one at a time.
var current atomic.Pointer[guardJournal]

// journalOf returns the journal of a target, nil if there is none.
func journalOf(pid int) *guardJournal {
	if j := current.Load(); j != nil && j.target.Load() == int64(pid) {
		return j
	}
	return nil
}

// lend notes that a thread is about to get another signal mask. regs, its registers,
// are needed if send follows. It may be called on nil.
func (j *guardJournal) lend(tid int, mask uint64, regs *unix.PtraceRegs) {
	if j == nil {
		return
	}
	j.thread.Store(0)
	j.gadget.Store(0)
	j.there.Store(false)
	j.mask = mask
	if regs != nil {
		j.regs = *regs
	}
	j.thread.Store(int64(tid))
}

// send notes that the thread is about to get other registers, to do a system call at
// an address.
func (j *guardJournal) send(gadget uint64) {
	if j != nil {
		j.gadget.Store(gadget)
	}
}

// sent notes that it has them, or that it is about to get its own again.
func (j *guardJournal) sent(there bool) {
	if j != nil {
		j.there.Store(there)
	}
}

// giveBack notes that the thread is itself again.
func (j *guardJournal) giveBack() {
	if j != nil {
		j.thread.Store(0)
	}
}

// bare notes that there are no breakpoints in the text, nor will be.
func (j *guardJournal) bare() {
	if j != nil {
		j.breakpoints.Store(false)
	}
}

// newJournal makes a journal and the file to share it by.
func newJournal() (*guardJournal, *os.File, error) {
	fd, err := unix.MemfdCreate(guardianName, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "journal")
	if err = f.Truncate(int64(unsafe.Sizeof(guardJournal{}))); err == nil {
		var j *guardJournal
		if j, err = mapJournal(fd); err == nil {
			return j, f, nil
		}
	}
	f.Close()
	return nil, nil, err
}

// mapJournal maps the journal in a file, until unmapJournal.
func mapJournal(fd int) (*guardJournal, error) {
	mem, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(guardJournal{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*guardJournal)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

func unmapJournal(j *guardJournal) {
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(j)), unsafe.Sizeof(*j))) // fails for no mapping of ours
}

// The descriptors of a guardian, from firstGuardFile on.
const (
	guardEnd         = iota // the pipe whose other end is closed with the tracer
	guardJournalFile        // the journal
	guardTarget             // the target, as a pidfd
	guardTracer             // the tracer, as a pidfd
	guardMemory             // the target's memory, locked
	guardFiles

	firstGuardFile = 3
)

// What the runtime does before and after a fork. They are the runtime's for others to
// use, as its comments there say.

//go:linkname runtimeBeforeFork syscall.runtime_BeforeFork
func runtimeBeforeFork()

//go:linkname runtimeAfterFork syscall.runtime_AfterFork
func runtimeAfterFork()

//go:linkname runtimeAfterForkInChild syscall.runtime_AfterForkInChild
func runtimeAfterForkInChild()

// guardArgs are what a guardian is executed with.
var guardArgs struct {
	path, name [16]byte
	argv       [2]*byte
	envp       [1]*byte
}

func init() {
	copy(guardArgs.path[:], "/proc/self/exe")
	copy(guardArgs.name[:], guardianName)
	guardArgs.argv[0] = &guardArgs.name[0]
}

// forkGuardian makes a process that waits until the pipe guardEnd has no writer any
// more, and then is a guardian if the journal does not say that all is well. life is
// the end of the pipe that is not for it. It is a child of this process's, so that
// nobody else has to wait for it, and blocks all signals.
func forkGuardian(files [guardFiles]int, life int) (pid int, err error) {
	journal, err := mapJournal(files[guardJournalFile])
	if err != nil {
		return 0, err
	}
	defer unmapJournal(journal)
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	pid, errno := forkWaiter(&files, life, journal)
	if errno != 0 {
		return 0, errno
	}
	return pid, nil
}

// forkWaiter forks. In the new process nothing may be called that needs more stack,
// memory of the heap or another thread: there is none of the runtime's threads but
// this one.
//
//go:norace
//go:noinline
//go:nocheckptr
func forkWaiter(files *[guardFiles]int, life int, journal *guardJournal) (pid int, errno syscall.Errno) {
	// Read as they are: the race detector's atomic loads don't work in the new process.
	ended, stopped := (*uint32)(unsafe.Pointer(&journal.ended)), (*uint32)(unsafe.Pointer(&journal.stopped))
	breakpoints, caught := (*uint32)(unsafe.Pointer(&journal.breakpoints)), (*uint32)(unsafe.Pointer(&journal.caught))
	catcher := (*uint64)(unsafe.Pointer(&journal.catcher))
	runtimeBeforeFork()
	// Without a signal at its end, which is of no interest to anybody.
	n, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	if errno != 0 || n != 0 {
		runtimeAfterFork()
		return int(n), errno
	}
	runtimeAfterForkInChild()
	all := ^uint64(0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&all)), 0, 8, 0, 0)
	// Who kills the tracer's process group does not mean it.
	syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	// The files go out of the way of each other, to where the guardian expects them.
	// What else was open for the tracer is closed: somebody may wait for the end of
	// its output.
	syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(life), 0, 0)
	for i := range files {
		n, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(files[i]), syscall.F_DUPFD, 200)
		files[i] = int(n)
	}
	for i := range files {
		syscall.RawSyscall(syscall.SYS_DUP3, uintptr(files[i]), uintptr(firstGuardFile+i), 0)
	}
	for fd := range uintptr(firstGuardFile) {
		syscall.RawSyscall(syscall.SYS_DUP3, firstGuardFile+guardEnd, fd, 0) // nothing can be written to it
	}
	syscall.RawSyscall(unix.SYS_CLOSE_RANGE, firstGuardFile+guardFiles, uintptr(^uint32(0)), 0)
	syscall.RawSyscall(syscall.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&guardArgs.name)), 0)
	var b byte
	for {
		_, _, errno = syscall.RawSyscall(syscall.SYS_READ, firstGuardFile+guardEnd, uintptr(unsafe.Pointer(&b)), 1)
		if errno != syscall.EINTR {
			break
		}
	}
	if *ended == 0 || *catcher != 0 {
		if *ended == 0 && *breakpoints != 0 && *caught == 0 {
			// Nothing else keeps a thread from a breakpoint that is still there.
			syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, firstGuardFile+guardTarget, uintptr(unix.SIGSTOP), 0, 0, 0, 0)
		}
		syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(&guardArgs.path)), uintptr(unsafe.Pointer(&guardArgs.argv)), uintptr(unsafe.Pointer(&guardArgs.envp)))
		if *stopped == 0 { // the least that it would have done
			syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, firstGuardFile+guardTarget, uintptr(unix.SIGCONT), 0, 0, 0, 0)
		}
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
