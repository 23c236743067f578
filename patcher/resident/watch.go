package resident

import (
	"os"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/process"
)

// watchPeriod is how often the thread is compared with the others.
const watchPeriod = 500 * time.Millisecond

// watch ends the thread when it is not as the program's own threads are any more.
// A program that gives up rights, or restricts its system calls, does so in every
// thread that it knows of, and this one it does not know: it must not be what is
// left of the rights. And a program ends with its last thread.
func (r *Resident) watch() {
	for tick := time.NewTicker(watchPeriod); ; {
		select {
		case <-r.stop:
			tick.Stop()
			return
		case <-tick.C:
		}
		if r.alike() {
			continue
		}
		r.mu.Lock()
		if !r.ended {
			r.ended = true
			r.page.state().Store(leaving)
			r.page.wake()
		}
		r.mu.Unlock()
		tick.Stop()
		return
	}
}

// alike tells whether the thread has the rights that another thread of the program
// has, if there is one.
func (r *Resident) alike() bool {
	tasks, err := process.Tasks(r.p.Pid())
	if err != nil {
		return false
	}
	self := r.directory()
	own, ok := rights(self)
	if !ok {
		return false
	}
	for _, task := range tasks {
		if task == self {
			continue
		}
		if other, ok := rights(task); ok {
			return other == own
		}
	}
	return false
}

// rights returns what a thread that lives may do.
func rights(task string) (text string, ok bool) {
	data, err := os.ReadFile(task + "/status")
	if err != nil {
		return "", false
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "State":
			if s := strings.TrimSpace(value); s == "" || s[0] == 'Z' || s[0] == 'X' {
				return "", false
			}
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters":
			b.WriteString(line)
		}
	}
	return b.String(), true
}
