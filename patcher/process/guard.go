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
func StartGuard(pid int) (*Guard, error) { return startGuard(pid, false) }

// StartLaunchedGuard makes a guardian for a process that this one has launched, and
// traces already. It is stopped where it begins, with no breakpoint in it but the
// tracer's. It fails as StartGuard does.
func StartLaunchedGuard(pid int) (*Guard, error) { return startGuard(pid, true) }

func startGuard(pid int, launched bool) (*Guard, error) {
	if !guardHooked {
		return nil, errors.New("main has to call process.GuardMain: the guardian is this program")
	}
	memory, target, err := openMemory(pid)
	if err != nil {
		return nil, err
	}
	defer unix.Close(target)
	var before []stray
	if launched {
		err = unix.Flock(int(memory.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	} else if err = lockTarget(pid, memory); err == nil {
		before = strayBreakpoints(pid, memory, nil)
	}
	if err != nil {
		memory.Close()
		return nil, err
	}
	g := &Guard{memory: memory}
	if err := g.start(pid, target, before); err != nil {
		g.Close()
		return nil, fmt.Errorf("starting the guardian of process %d: %w", pid, err)
	}
	return g, nil
}

// start makes the guardian; before is where the text had an int3 before it was traced.
func (g *Guard) start(pid, target int, before []stray) error {
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
	if len(before) > len(j.before) {
		return fmt.Errorf("its text has %d breakpoints of somebody else's", len(before))
	}
	for i, s := range before {
		j.before[i] = s.addr
	}
	j.beforeCount = len(before)
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
		if !processLives(int(g.journal.target.Load())) {
			g.journal.catcher.Store(0) // it ended with the target
		}
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
// those whose Darn was killed: the lock is theirs until no thread of the process is
// traced by them or their Darn any more. Only who may trace a process can open its memory: the
// lock keeps nobody else busy.
func lockTarget(pid int, memory *os.File) error {
	untraced := time.Now() // when it was last
	for end := time.Now().Add(guardPatience); ; time.Sleep(time.Millisecond) {
		tracer, dying := tracerNow(pid)
		if tracer == "" || tracer == guardianName || dying {
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

// tracerNow is what the process calls itself that traces the process pid, "" if there is
// none, and whether it is being killed.
func tracerNow(pid int) (comm string, dying bool) {
	status, err := readStatus(pid)
	if err != nil || status["TracerPid"] == "0" {
		return "", false
	}
	// The kernel tells the thread.
	tid := atoi(status["TracerPid"])
	tracer, err := readStatus(tid)
	if err != nil {
		return "process " + status["TracerPid"], true
	}
	name, _ := os.ReadFile(procPath(atoi(tracer["Tgid"]), "comm"))
	return strings.TrimSpace(string(name)), doomed(tid) || exiting(tid)
}

// exiting tells whether a thread is about to end: one that was killed has much to give
// back before it lets go of what it traces.
func exiting(tid int) bool {
	const flag = 4 // PF_EXITING, see include/linux/sched.h
	stat, err := os.ReadFile(procPath(tid, "stat"))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	const flags = 6
	return len(fields) <= flags || atoi(fields[flags])&flag != 0
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
