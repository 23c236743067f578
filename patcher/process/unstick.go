package process

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"
)

// unstickEvery is how often a stop is looked at that does not come to its end.
const unstickEvery = 100 * time.Millisecond

// Unstick looks after a target until done is closed, or the target is no more: it has
// a stop go on for which Delve waits in vain. After the end of a thread Delve waits for
// the next event without asking whether that was the last thread that ran
// (trapWaitInternal of v1.27.2), and threads that all stand still make none. So one that
// does is made to report once more that it stands still: it has a SIGSTOP to take when
// it goes on, and runs no instruction before it does.
//
// Nothing is done unless no thread of the target has run since the last look, and this
// process waits for an event between two more: Delve does not work on a target then,
// and nothing but a SIGKILL can wake it.
func Unstick(t *proc.Target, done <-chan struct{}) { unstickEach(unstickEvery, t, done) }

func unstickEach(interval time.Duration, t *proc.Target, done <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last stand
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now, alive := standOf(t.Pid())
		if !alive {
			return
		}
		if now != nil && maps.Equal(now, last) {
			if again, _ := standOf(t.Pid()); maps.Equal(again, now) && !doomed(t.Pid()) {
				unstick(t, now)
				now = nil
			}
		}
		last = now
	}
}

// stand is how often each thread of a target that stands still has run.
type stand map[int]string

// standOf returns nil if a thread runs, none is there, or nobody waited for an event of
// theirs just before. alive tells whether the process is there.
func standOf(pid int) (now stand, alive bool) {
	leader, err := readStatus(pid)
	if err != nil || leader["State"] == "" {
		return nil, false
	}
	if !strings.ContainsRune("tZ", rune(leader["State"][0])) || !waitsForEvents() {
		return nil, true // as mostly: it runs, or stands still for somebody
	}
	tasks, _ := Tasks(pid)
	for _, dir := range tasks {
		tid := atoi(filepath.Base(dir))
		s, err := readStatus(tid)
		switch {
		case err != nil || s["State"] == "" || strings.ContainsRune("ZX", rune(s["State"][0])):
			continue // it has ended
		case s["State"][0] != 't':
			return nil, true
		}
		if now == nil {
			now = make(stand)
		}
		now[tid] = s["voluntary_ctxt_switches"] + " " + s["nonvoluntary_ctxt_switches"]
	}
	return now, true
}

// unstick has a thread of a target that stands still report that.
func unstick(t *proc.Target, threads stand) {
	tracer, err := tracerOf(t)
	if err != nil {
		return
	}
	defer func() { _ = recover() }() // Delve has no tracer thread any more if the target was killed
	for tid := range threads {
		if unix.Tgkill(t.Pid(), tid, unix.SIGSTOP) == nil {
			tracer.do(func() { _ = unix.PtraceCont(tid, 0) }) // fails if it is killed
		}
		return
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
