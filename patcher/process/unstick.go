package process

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"
)

// UnstickAfter is how long a stop may take before it is looked into.
const UnstickAfter = 50 * time.Millisecond

// Unstick has a stop go on for which Delve waits in vain: after the end of a thread it
// waits for the next event without asking whether that was the last thread that ran
// (trapWaitInternal of v1.27.2), and threads that all stand still make none. So one
// that does is made to report once more that it stands still: it has a SIGSTOP to take
// when it goes on, and runs no instruction before it does.
//
// It does nothing unless this process waits for an event and all threads of the target
// stand still for it, and may be called at any time. It tells whether the target is
// still there.
func Unstick(t *proc.Target) bool {
	pid := t.Pid()
	leader, err := readStatus(pid)
	if err != nil || leader["State"] == "" {
		return false
	}
	if !strings.ContainsRune("tZ", rune(leader["State"][0])) || !waitsForEvents() || doomed(pid) {
		return true
	}
	still := 0
	tasks, _ := Tasks(pid)
	for _, dir := range tasks {
		tid := atoi(filepath.Base(dir))
		switch s, err := readStatus(tid); {
		case err != nil || s["State"] == "" || strings.ContainsRune("ZX", rune(s["State"][0])):
			// It has ended.
		case s["State"][0] != 't':
			return true
		default:
			still = tid
		}
	}
	tracer, err := tracerOf(t)
	if err == nil && still != 0 && unix.Tgkill(pid, still, unix.SIGSTOP) == nil {
		tracer.do(func() { _ = unix.PtraceCont(still, 0) }) // fails if it is killed
	}
	return true
}

// waitsForEvents tells whether a thread of this process is in a wait for any child or
// traced thread.
func waitsForEvents() bool {
	const call = "61 0xffffffffffffffff " // wait4(-1, see proc(5), /proc/pid/syscall
	tasks, _ := Tasks(os.Getpid())
	for _, dir := range tasks {
		if s, err := os.ReadFile(dir + "/syscall"); err == nil && strings.HasPrefix(string(s), call) {
			return true
		}
	}
	return false
}
