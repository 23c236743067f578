package process

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
)

// patience is for how long a thread that can't be stopped is waited for before
// the others are stopped.
const patience = 2 * time.Second

// awaitStoppable waits until no thread is in a system call that no signal
// interrupts, such as vfork, and refuses with busy if that takes too long. Delve
// stops one thread after the other and waits for each: all would stand still for
// as long as the one does not stop.
func awaitStoppable(ctx context.Context, pid int) error {
	for end := time.Now().Add(patience); ; {
		tid := unstoppable(pid)
		if tid == 0 {
			return nil
		}
		if time.Now().After(end) {
			return finding.Refuse(finding.Busy,
				fmt.Sprintf("thread %d of process %d is in a system call that can't be interrupted, such as vfork while its child runs; the process can't be halted meanwhile", tid, pid),
				"try again when the call has returned")
		}
		select {
		case <-ctx.Done():
			return finding.Refuse(finding.Busy, fmt.Sprintf("process %d could not be halted in time: %v", pid, ctx.Err()), "try again")
		case <-time.After(time.Millisecond):
		}
	}
}

// unstoppable returns a thread in an uninterruptible wait, 0 if there is none.
func unstoppable(pid int) int {
	tasks, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return 0 // has ended
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(procPath(pid, "task/"+task.Name()+"/stat"))
		if err != nil {
			continue
		}
		if i := strings.LastIndexByte(string(stat), ')'); i >= 0 && strings.HasPrefix(string(stat[i+1:]), " D") {
			tid, _ := strconv.Atoi(task.Name())
			return tid
		}
	}
	return 0
}

// checkSystemCalls refuses with unsupported-target a process that has forbidden
// itself system calls, in some thread: what Darn does in its name may end it.
// Restrictions that Darn is under as well, such as a container's, do not count.
func checkSystemCalls(pid int) error {
	own, err := readStatus(os.Getpid())
	if err != nil {
		return err
	}
	tasks, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return exited(pid, nil)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		s, err := readStatus(tid)
		if err != nil || s["Seccomp"] == "" || s["Seccomp"] == "0" {
			continue
		}
		theirs, err := strconv.Atoi(s["Seccomp_filters"])
		ours, oerr := strconv.Atoi(own["Seccomp_filters"])
		if s["Seccomp"] == own["Seccomp"] && err == nil && oerr == nil && theirs <= ours {
			continue
		}
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("thread %d of process %d may do certain system calls only (seccomp): those that patches take might end it", tid, pid),
			"start the program without its seccomp filters to patch it; if they are a container's, run darn in the container")
	}
	return nil
}
