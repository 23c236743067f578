package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process that is traced lives on the life of its tracer: when that is killed,
// the kernel lets it go as it is just then. A signal that was to halt a thread is
// delivered to it, and stops or ends the process. So Darn does not trace alone: a
// small process of its own, the guardian, waits for its end and puts right what it
// has left (guardian.go).
//
// Until then the guardian is no more than a copy of this process that waits at the
// end of a pipe (guard_unsafe.go), which costs a fork. Only when it has something
// to do it runs this program anew.

// Guard is this process's end of the guardian of one target. Its methods may be
// called on nil, and do nothing then: not to be guarded is no reason not to work.
type Guard struct {
	journal *guardJournal
	pid     int      // of the guardian
	life    *os.File // the pipe: closed at the end, by the kernel if need be
	memory  *os.File // of the target; its lock says that there is a guard
}

// guardHooked tells that main called GuardMain.
var guardHooked bool

// StartGuard makes a guardian for a process that this one is about to trace. If a
// guardian of a Darn that was killed is at work on it, it waits for that, for some
// seconds at most. It fails unless main called GuardMain; if the process may not be
// traced, has ended, or has another tracer, which the attempt to trace it will say
// better; and if something is amiss here.
func StartGuard(pid int) (*Guard, error) {
	if !guardHooked {
		return nil, errors.New("main has to call process.GuardMain: the guardian is this program")
	}
	memory, target, err := openMemory(pid)
	if err != nil {
		return nil, err
	}
	defer unix.Close(target)
	if err := lockTarget(pid, memory); err != nil {
		memory.Close()
		return nil, err
	}
	g := &Guard{memory: memory}
	if err := g.start(pid, target); err != nil {
		g.Close()
		return nil, fmt.Errorf("starting the guardian of process %d: %w", pid, err)
	}
	return g, nil
}

func (g *Guard) start(pid, target int) error {
	status, err := readStatus(pid)
	if err != nil {
		return err
	}
	j, file, err := newJournal()
	if err != nil {
		return err
	}
	defer file.Close()
	g.journal = j
	j.target.Store(int64(pid))
	j.tracer.Store(int64(os.Getpid()))
	j.stopped.Store(strings.HasPrefix(status["State"], "T"))
	j.breakpoints.Store(true)
	strays := strayBreakpoints(pid, g.memory, nil)
	if len(strays) > len(j.before) {
		return fmt.Errorf("its text has %d breakpoints of somebody else's", len(strays))
	}
	for i, s := range strays {
		j.before[i] = s.addr
	}
	j.beforeCount = len(strays)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(self)
	end, life, err := os.Pipe()
	if err != nil {
		return err
	}
	defer end.Close()
	g.life = life
	current.Store(j)
	g.pid, err = forkGuardian([guardFiles]int{
		guardEnd: int(end.Fd()), guardJournalFile: int(file.Fd()), guardTarget: target, guardTracer: self, guardMemory: int(g.memory.Fd()),
	}, int(life.Fd()))
	return err
}

// Close ends the guard, and its process, which takes out of the target what is there
// for its sake. To be called after the target was let go.
func (g *Guard) Close() {
	if g == nil {
		return
	}
	if g.life != nil {
		g.journal.ended.Store(true)
		g.life.Close()
	}
	current.CompareAndSwap(g.journal, nil)
	for g.pid != 0 {
		// Something else in this process may wait for all children, and have it.
		if _, err := unix.Wait4(g.pid, nil, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	g.memory.Close()
	if g.journal != nil {
		unmapJournal(g.journal)
	}
}

const (
	// guardPatience is for how long a guardian at work is waited for, and for how
	// long it waits itself for what takes microseconds on a machine that has time.
	guardPatience = 10 * time.Second
	// tracerPatience is how long a tracer that was killed may be seen to trace.
	tracerPatience = 300 * time.Millisecond
)

// lockTarget locks the memory of a process against other guards, and waits for
// those whose Darn was killed. Only who may trace a process can open its memory: the
// lock keeps nobody else busy.
func lockTarget(pid int, memory *os.File) error {
	untraced := time.Now() // when it was last
	for end := time.Now().Add(guardPatience); ; time.Sleep(time.Millisecond) {
		tracer := tracerNow(pid)
		if tracer == "" || tracer == guardianName {
			untraced = time.Now()
		}
		err := unix.Flock(int(memory.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil && tracer == "":
			return nil
		case err != nil && err != unix.EWOULDBLOCK && err != unix.EINTR:
			return fmt.Errorf("locking the memory of process %d: %w", pid, err)
		case time.Since(untraced) > tracerPatience:
			return fmt.Errorf("process %d is traced by %s", pid, tracer)
		case time.Now().After(end):
			return fmt.Errorf("another guardian is at work on process %d", pid)
		}
	}
}

// tracerNow is what the process calls itself that traces a thread of the process
// pid, "" if there is none.
func tracerNow(pid int) string {
	tasks, _ := Tasks(pid)
	for _, task := range tasks {
		data, err := os.ReadFile(task + "/status")
		if err != nil {
			continue // ended
		}
		_, tracer, _ := strings.Cut(string(data), "\nTracerPid:")
		tracer, _, _ = strings.Cut(tracer, "\n")
		tid := atoi(strings.TrimSpace(tracer))
		if tid == 0 {
			continue
		}
		// The kernel tells the thread.
		s, err := readStatus(tid)
		if err != nil {
			return "process " + strings.TrimSpace(tracer)
		}
		comm, _ := os.ReadFile(procPath(atoi(s["Tgid"]), "comm"))
		return strings.TrimSpace(string(comm))
	}
	return ""
}

// Unfinished notes for the guardian that [addr, addr+size) is being reserved for
// Darn, or given back, with the memfd that is mapped there: if this process is killed
// before Finished, both are given back.
func (h *Halt) Unfinished(addr, size uint64) {
	if j := journalOf(h.p.pid); j != nil {
		j.arenaAt.Store(addr)
		j.arenaSize.Store(size)
	}
}

// Finished notes that what Unfinished was called for is done or undone.
func (h *Halt) Finished() {
	if j := journalOf(h.p.pid); j != nil {
		j.arenaSize.Store(0)
	}
}
