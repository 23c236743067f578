package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// guardianName is what a guardian is called, in its arguments and by ps.
const guardianName = "darn-guardian"

// GuardMain must be called by main, or TestMain, before anything else that looks
// at the arguments, for StartGuard to work. It returns at once, unless the program
// was executed to be a guardian; then it is one, and exits.
func GuardMain() {
	guardHooked = true
	if len(os.Args) != 1 || os.Args[0] != guardianName {
		return
	}
	journal, err := mapJournal(firstGuardFile + guardJournalFile)
	if err != nil {
		os.Exit(1)
	}
	o := &orphan{guardJournal: journal, pidfd: firstGuardFile + guardTarget}
	o.putRight()
	os.Exit(0)
}

// orphan is the target of a tracer that was killed.
type orphan struct {
	*guardJournal
	pidfd int
}

// putRight takes from the target what the tracer has left to it.
func (o *orphan) putRight() {
	// A process that is killed lets go of its pipes before it lets go of what it
	// traces. Its pidfd tells when the last of its threads has.
	await(firstGuardFile + guardTracer)
	o.letGoOn()
}

// letGoOn ends a stop of the target that is not of its user's. The kernel forgets
// every SIGSTOP that is pending when a SIGCONT is sent, and those that a thread was
// stopped for when its tracer died; it is lost on a process that is not stopped,
// unless that handles it.
func (o *orphan) letGoOn() {
	if !o.stopped.Load() {
		_ = unix.PidfdSendSignal(o.pidfd, unix.SIGCONT, nil, 0) // fails if it has ended
	}
}

// await waits until a process has ended, by its pidfd.
func await(pidfd int) {
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, -1); err != unix.EINTR && (err != nil || n != 0) {
			return
		}
	}
}
