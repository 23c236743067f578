package process

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unstickAfter is how long a stop may take before it is looked into.
const unstickAfter = 50 * time.Millisecond

// unstick has a stop go on for which Delve waits in vain: after the end of a thread it
// waits for the next event without asking whether that was the last thread that ran
// (trapWaitInternal of v1.27.2), and threads that all stand still make none. So one
// that does is made to report once more that it stands still: it has a SIGSTOP to take
// when it goes on, and runs no instruction before it does.
//
// It does nothing unless this process waits for an event and all threads of the target
// stand still for it.
func (t *tracer) unstick() {
	if !waitsForEvents() {
		return
	}
	tasks, err := Tasks(t.pid)
	if err != nil {
		return
	}
	still := 0
	for _, dir := range tasks {
		tid := atoi(dir[strings.LastIndexByte(dir, '/')+1:])
		switch s, err := readStatus(int(tid)); {
		case err != nil || s["State"] == "" || strings.ContainsRune("ZX", rune(s["State"][0])):
			// It has ended.
		case s["State"][0] != 't':
			return
		default:
			still = int(tid)
		}
	}
	ptrace, err := tracerOf(t.group.Selected)
	if err != nil || still == 0 {
		return
	}
	if unix.Tgkill(t.pid, still, unix.SIGSTOP) == nil {
		ptrace.do(func() { _ = unix.PtraceCont(still, 0) }) // fails if it is killed
	}
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
