package process

import (
	"os"
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
	leader, err := readStatus(p.pid)
	if err != nil {
		return
	}
	// The kernel tells the thread that traces.
	if _, err := os.Stat("/proc/self/task/" + leader["TracerPid"]); err != nil {
		return
	}
	_ = unix.Tgkill(p.pid, tid, unix.SIGCONT) // fails if it has ended
}
