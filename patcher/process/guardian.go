package process

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guardianName is what a guardian is called, in its arguments and by ps.
const guardianName = "darn-guardian"

// GuardMain must be called by main, or TestMain, before anything else that looks
// at the arguments, for StartGuard to work. It returns at once, unless the program
// was executed to be a guardian; then it is one, and exits. known tells what Darn
// has put into the text of a process by design, and evict ends what threads it has made
// there; both may be nil.
func GuardMain(known func(pid int) Known, evict func(*Process)) {
	guardHooked = true
	if len(os.Args) != 1 || os.Args[0] != guardianName {
		return
	}
	journal, err := mapJournal(firstGuardFile + guardJournalFile)
	if err != nil {
		os.Exit(1)
	}
	_ = os.WriteFile("/proc/self/comm", []byte(guardianName), 0) // it is that of a file now
	pid := int(journal.target.Load())
	predecessor = int(journal.tracer.Load())
	current.Store(journal) // its own system calls are in it too
	o := &orphan{
		guardJournal: journal, known: known, evict: evict,
		p: &Process{pid: pid, memory: os.NewFile(firstGuardFile+guardMemory, "memory"), pidfd: firstGuardFile + guardTarget},
	}
	if err := o.putRight(); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// orphan is the target of a tracer that was killed, or has left its catcher there.
type orphan struct {
	*guardJournal
	p     *Process
	known func(pid int) Known
	evict func(*Process)
	// removed is where there were breakpoints.
	removed map[uint64]bool
}

// putRight takes from the target what the tracer has left to it.
func (o *orphan) putRight() error {
	if !o.ended.Load() {
		// A process that is killed lets go of its files before it lets go of what it
		// traces. Its pidfd tells when the last of its threads has.
		await(firstGuardFile + guardTracer)
		o.removeBreakpoints()
		o.letGoOn()
		if o.evict != nil {
			o.evict(o.p)
		}
	}
	o.restoreEntry()
	if o.thread.Load() == 0 && o.catcher.Load() == 0 && o.arenaSize.Load() == 0 && !o.breakpoints.Load() {
		return nil // no thread need be stopped
	}
	runtime.LockOSThread()
	// A thread that is left where the program began is never given up.
	for try := 0; ; try++ {
		err := o.settle()
		if err == nil || !o.p.Alive() || try >= settleTries && o.thread.Load() == 0 {
			return err
		}
		time.Sleep(min(5*time.Millisecond<<min(try, settleTries), time.Second)) // it runs, out of what was in the way
	}
}

// settleTries is how often it is tried to stop the target for the little things.
const settleTries = 10

// letGoOn ends a stop of the target that is not of its user's. The kernel forgets
// every SIGSTOP that is pending when a SIGCONT is sent, and those that a thread was
// stopped for when its tracer died; it is lost on a process that is not stopped,
// unless that handles it.
func (o *orphan) letGoOn() {
	if !o.stopped.Load() {
		_ = unix.PidfdSendSignal(o.p.pidfd, unix.SIGCONT, nil, 0) // fails if it has ended
	}
}

// restoreEntry takes the gadget from where the program began, unless a thread may be
// there.
func (o *orphan) restoreEntry() {
	if at := o.entry.Load(); at != 0 && o.thread.Load() == 0 {
		if _, err := o.p.memory.WriteAt(o.entryOld[:], int64(at)); err == nil {
			o.entry.Store(0)
		}
	}
}

// settle stops all threads for a moment, and does what takes that.
func (o *orphan) settle() (err error) {
	if tid := unstoppable(o.p.pid); tid != 0 {
		return fmt.Errorf("thread %d can't be stopped", tid)
	}
	threads, err := o.seize()
	defer func() {
		for _, t := range threads {
			_ = detachWith(t.tid, t.signal)
		}
	}()
	if err != nil {
		return err
	}
	if o.replaced() {
		return nil
	}
	for _, t := range threads {
		if err := t.settle(o); err != nil {
			return err
		}
	}
	o.restoreEntry()
	return o.undo(threads)
}

// replaced tells whether the program that was traced has made way for another.
func (o *orphan) replaced() bool {
	maps, err := ReadMaps(o.p.pid)
	if err != nil || len(maps) == 0 {
		return true
	}
	_, err = o.p.memory.ReadAt(make([]byte, 1), int64(maps[0].Start))
	return err != nil
}

// undo takes out of the target what system calls take out: memory that was not
// finished, and the catcher.
func (o *orphan) undo(threads map[int]*seized) error {
	maps, err := ReadMaps(o.p.pid)
	if err != nil {
		return err
	}
	catcher, err := o.foundCatcher(maps)
	if err != nil || catcher == 0 && o.arenaSize.Load() == 0 {
		return err
	}
	if catcher != 0 {
		if err := o.emptyCatcher(threads, catcher); err != nil {
			return err
		}
	}
	vehicle := o.vehicle(threads)
	if vehicle == nil {
		return errors.New("no thread is in a state to do a system call")
	}
	program, err := readProgram(o.p.pid)
	if err != nil {
		return err
	}
	entry := program.Entry
	if program.Type == elf.ET_DYN {
		bias, err := loadBias(o.p.pid, program.Entry)
		if err != nil {
			return err
		}
		entry += bias
	}
	if _, err := o.p.memory.ReadAt(o.entryOld[:], int64(entry)); err != nil {
		return err
	}
	o.entry.Store(entry)
	defer o.restoreEntry()
	if _, err := o.p.memory.WriteAt(gadget, int64(entry)); err != nil {
		return err
	}
	call := func(nr uintptr, args ...uint64) (uint64, error) {
		r, err := remoteSyscall(o.p.pid, vehicle.tid, entry, anySignal&^faults, nr, args)
		if err == nil && int64(r) < 0 && int64(r) > -4096 {
			err = unix.Errno(-int64(r))
		}
		return r, err
	}
	if o.arenaSize.Load() != 0 {
		if err := o.removeArena(call, maps); err != nil {
			return err
		}
		o.arenaSize.Store(0)
	}
	if catcher == 0 {
		return nil
	}
	read := func(buf []byte, addr uint64) error {
		_, err := o.p.memory.ReadAt(buf, int64(addr))
		return err
	}
	if err := removeCatcher(call, read, catcher, o.caught.Load()); err != nil {
		return err
	}
	o.caught.Store(false)
	o.catcher.Store(0)
	return nil
}

// foundCatcher returns where the catcher's pages are mapped, 0 if they are not.
func (o *orphan) foundCatcher(maps []Mapping) (uint64, error) {
	at := o.catcher.Load()
	for _, m := range maps {
		if m.Start >= at+catcherSize || m.End <= at {
			continue
		}
		if at == 0 || m.Inode != 0 || m.Path != "" {
			return 0, fmt.Errorf("at %#x is something else than the catcher", at)
		}
		return at, nil
	}
	return 0, nil
}

// removeArena gives memory back that was being reserved or given back. What the
// program has mapped there meanwhile is not touched.
func (o *orphan) removeArena(call func(uintptr, ...uint64) (uint64, error), maps []Mapping) (err error) {
	at, size := o.arenaAt.Load(), o.arenaSize.Load()
	const file = "/memfd:darn"
	for _, m := range maps {
		start, end := max(m.Start, at), min(m.End, at+size)
		own := strings.HasPrefix(m.Path, file) || m.Path == "" && (m.Perms == "---p" || m.Start == at && m.Perms == "r--p")
		if start < end && own {
			_, failed := call(unix.SYS_MUNMAP, start, end-start)
			err = errors.Join(err, failed)
		}
	}
	fds, failed := os.ReadDir(procPath(o.p.pid, "fd"))
	err = errors.Join(err, failed)
	for _, fd := range fds {
		n, failed := strconv.ParseUint(fd.Name(), 10, 32)
		if to, _ := os.Readlink(procPath(o.p.pid, "fd/"+fd.Name())); failed == nil && strings.HasPrefix(to, file+" ") {
			_, failed := call(unix.SYS_CLOSE, n)
			err = errors.Join(err, failed)
		}
	}
	return err
}

// emptyCatcher lets those leave the catcher that are in it, now that there is
// nothing to wait for.
func (o *orphan) emptyCatcher(threads map[int]*seized, at uint64) error {
	// On a busy machine it takes a while until a thread comes to run.
	for d := 50 * time.Microsecond; d < time.Second; d *= 2 {
		busy := false
		for _, t := range threads {
			var regs unix.PtraceRegs
			if unix.PtraceGetRegs(t.tid, &regs) == nil && regs.Rip-at < catcherPage {
				busy = true
				if err := t.run(o.p.pid, d); err != nil {
					return err
				}
			}
		}
		if !busy {
			return nil
		}
	}
	return errors.New("a thread stays in the catcher")
}

// vehicle returns a thread that is fit to do a system call.
func (o *orphan) vehicle(threads map[int]*seized) (v *seized) {
	for _, t := range threads {
		var regs unix.PtraceRegs
		if t.signal != 0 || t.gone || !interruptible(t.tid) || unix.PtraceGetRegs(t.tid, &regs) != nil || regs.Cs != userCode64 {
			continue
		}
		if int64(regs.Orig_rax) >= 0 {
			return t
		}
		if v == nil && !o.p.inRestartable(t.tid) {
			v = t
		}
	}
	return v
}

// seized is a thread that the guardian holds.
type seized struct {
	o      *orphan
	tid    int
	signal unix.Signal // that it was about to get, and gets when it is let go
	gone   bool        // it has ended
}

// stopPatience is for how long threads may be kept from running, or may not run that
// should, because one does not stop.
const stopPatience = 2 * time.Second

// seize stops every thread of a process.
func (o *orphan) seize() (map[int]*seized, error) {
	pid := o.p.pid
	threads := make(map[int]*seized)
	end := time.Now().Add(stopPatience)
	for {
		tasks, err := os.ReadDir(procPath(pid, "task"))
		if err != nil {
			return threads, err
		}
		complete := true
		var stopping []*seized
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || threads[tid] != nil || !threadLives(tid) {
				continue
			}
			complete = false
			switch err = unix.PtraceSeize(tid); {
			case err == nil:
				t := &seized{tid: tid, o: o}
				threads[tid] = t
				if unix.PtraceInterrupt(tid) == nil {
					stopping = append(stopping, t)
				}
			case err != unix.ESRCH && time.Now().After(end):
				return threads, err
			default:
				time.Sleep(100 * time.Microsecond) // it is ending
			}
		}
		for _, t := range stopping {
			if err := t.await(pid, end); err != nil {
				return threads, err
			}
		}
		if complete {
			return threads, nil
		}
	}
}

// await waits until the thread has stopped. One that waits in the kernel for a
// child of vfork does not until that is over.
func (t *seized) await(pid int, end time.Time) error {
	for try := 0; unstopped(t.tid); try++ {
		if time.Now().After(end) {
			return fmt.Errorf("thread %d does not stop", t.tid)
		}
		if try > 100 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	status, err := waitStop(pid, t.tid)
	if err == unix.ESRCH {
		t.gone = true
		return nil
	}
	if err != nil {
		return err
	}
	if status.Stopped() && int(status)>>16 == 0 {
		t.signal = status.StopSignal()
		if t.signal == unix.SIGTRAP || t.signal == unix.SIGSTOP {
			t.drop()
		}
	}
	return nil
}

// unstopped tells whether there is nothing to be heard of a thread yet.
func unstopped(tid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, tid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WALL|unix.WNOHANG, nil)
	return err == unix.EINTR || err == nil && info.Signo == 0 && threadLives(tid)
}

// drop takes the signal that the thread has stopped for, if it is the tracer's
// doing.
func (t *seized) drop() {
	info, err := stopInfo(t.tid)
	if err != nil || !info.fromUs() && !info.fromTrap() {
		return
	}
	t.signal = 0
	var regs unix.PtraceRegs
	if info.breakpoint() && unix.PtraceGetRegs(t.tid, &regs) == nil && t.o.removed[regs.Rip-1] {
		_ = stepBack(t.tid) // else the tracer did it
	}
}

// fromTrap tells whether the kernel has sent the SIGTRAP, for a breakpoint, a
// watchpoint or a step.
func (i *siginfo) fromTrap() bool { return i.signo == int32(unix.SIGTRAP) && i.code > 0 }

// run lets the thread run for a time, with the signal that it was about to get.
func (t *seized) run(pid int, d time.Duration) error {
	if t.gone {
		return nil
	}
	if err := unix.PtraceCont(t.tid, int(t.signal)); err != nil {
		t.gone = err == unix.ESRCH
		return nil
	}
	t.signal = 0
	time.Sleep(d)
	if err := unix.PtraceInterrupt(t.tid); err != nil {
		t.gone = err == unix.ESRCH
		return nil
	}
	return t.await(pid, time.Now().Add(stopPatience))
}

// settle takes from a thread what a tracer has left to it.
func (t *seized) settle(o *orphan) error {
	if t.gone {
		return nil
	}
	const debugControl = 848 + 7*8 // struct user: u_debugreg[7]
	_ = ptrace(unix.PTRACE_POKEUSR, t.tid, debugControl, nil)
	if int(o.thread.Load()) == t.tid {
		if err := t.comeBack(o); err != nil {
			return err
		}
		o.thread.Store(0)
	}
	// The signals that the tracer has left come to the catcher before it is taken
	// out.
	for range 32 {
		if t.gone || !pendingTrap(t.tid) && t.signal != unix.SIGTRAP {
			break
		}
		if err := t.run(o.p.pid, 100*time.Microsecond); err != nil {
			return err
		}
	}
	return nil
}

// comeBack gives a thread that served the tracer its own registers and signal
// mask again.
func (t *seized) comeBack(o *orphan) error {
	for d := 50 * time.Microsecond; d < time.Second; d *= 2 {
		var regs unix.PtraceRegs
		if unix.PtraceGetRegs(t.tid, &regs) != nil {
			return nil // it has ended
		}
		mask, err := signalMask(t.tid)
		if err != nil {
			return nil
		}
		at := o.gadget.Load()
		switch {
		case at != 0 && regs.Rip-at < gadgetReach:
			if err := unix.PtraceSetRegs(t.tid, &o.regs); err != nil {
				return err
			}
			return setSignalMask(t.tid, o.mask)
		case o.there.Load():
			// It is in the handler of a signal, and comes back.
		case mask == o.mask:
			return nil
		case at == 0 && lent(mask):
			return setSignalMask(t.tid, o.mask)
		}
		if err := t.run(o.p.pid, d); err != nil {
			return err
		}
	}
	if o.there.Load() {
		return fmt.Errorf("thread %d does not come back from the handler of a signal", t.tid)
	}
	return nil // it blocks what it likes by now
}

// never are the signals that can't be blocked: the kernel leaves them out of a mask.
const never = 1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1)

// lent tells whether a thread has such a mask because it serves Darn.
func lent(mask uint64) bool {
	switch mask | never {
	case anySignal, anySignal &^ faults, parkMask, trapMask:
		return true
	}
	return false
}

// detachWith lets a stopped thread go; it gets the signal, if that is not 0.
func detachWith(tid int, signal unix.Signal) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(signal), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// await waits until a process has ended, by its pidfd.
func await(pidfd int) {
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, -1); err != unix.EINTR && (err != nil || n != 0) {
			return
		}
	}
}
