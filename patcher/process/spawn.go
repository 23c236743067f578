package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// spawnFlags make a thread of the target's that nobody waits for and that no
// tracer is told of: it goes on while the target is halted.
const spawnFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM |
	unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID | unix.CLONE_UNTRACED

// Spawn makes a thread in the target that runs the code behind the syscall
// instruction at an address, with stack in its stack pointer and tls as thread
// pointer. All signals are blocked for it but those that nobody can block; one
// that its own code raises ends the target. Its id is in the word at tid until it
// has ended: then it is 0. The thread is neither traced nor halted by the Process.
func (h *Halt) Spawn(at, stack, tls, tid uint64) (int, error) {
	if err := h.valid(); err != nil {
		return 0, err
	}
	const restart = unix.Errno(513) // ERESTARTNOINTR, which only a tracer sees
	for range 10 {
		// The new thread gets the mask of the one that makes it.
		n, err := h.syscallAt(at, anySignal, unix.SYS_CLONE, []uint64{spawnFlags, stack, tid, tid, tls})
		if err == nil {
			return int(n), nil
		}
		if !errors.Is(err, restart) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("process %d is sent signals all the time", h.p.pid)
}
