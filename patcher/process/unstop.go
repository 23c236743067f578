package process

import (
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Unstop has an untraced thread of the target, by its directory in /proc, run
// again if a signal has stopped it: a stop of job control stops all threads, and
// the tracer, which is this process, lets go on those that it knows. The target may
// run or be halted. Nothing is done if this process does not trace the target: then
// it is stopped because its user wants it to be.
//
// The kernel ends the stop when SIGCONT is sent, whatever becomes of the signal
// (signal(7)); the thread blocks it, so that no handler runs.
func (p *Process) Unstop(task string) {
	tid, err := strconv.Atoi(filepath.Base(task))
	if err != nil {
		return
	}
	thread, err := readStatus(tid)
	if err != nil || thread["State"] == "" || thread["State"][0] != 'T' {
		return
	}
	if !tracedByUs(p.pid) {
		return
	}
	_ = unix.Tgkill(p.pid, tid, unix.SIGCONT) // fails if it has ended
}
