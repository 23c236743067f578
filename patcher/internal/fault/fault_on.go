//go:build darnfault

package fault

import (
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Environment variables; each holds the number of a step, counted from 1.
const (
	killAt = "DARN_FAULT"      // the process is killed there
	stopAt = "DARN_FAULT_STOP" // it stops itself there, until SIGCONT
)

var (
	count      atomic.Int64
	kill, stop = number(killAt), number(stopAt)
)

func number(name string) int64 {
	n, _ := strconv.ParseInt(os.Getenv(name), 10, 64) // 0 is no step
	return n
}

// Point is a step.
func Point() {
	switch count.Add(1) {
	case kill:
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case stop:
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	}
}
