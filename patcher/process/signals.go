package process

import (
	"fmt"
	"unsafe"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"
)

// DrainTraps takes the signals away by which Delve stopped the target and
// which are still pending: a SIGTRAP for the process, if it stopped for another
// reason at the same time, and a SIGSTOP of a thread that did. The first kills
// a program that nobody traces, the second stops it, and both make a stop of
// their own if it is only resumed. Call it with the group locked and every
// thread stopped, before detaching at the latest. The threads run none of
// their own instructions. It returns an error only if the target is no more.
func DrainTraps(group *proc.TargetGroup) error {
	it := proc.ValidTargets{Group: group}
	for it.Next() {
		tracer, err := tracerOf(it.Target)
		if err != nil {
			return err
		}
		threads := it.ThreadList()
		tracer.do(func() { drain(tracer.pid, threads) })
	}
	if ok, err := group.Valid(); !ok {
		return err
	}
	return nil
}

// drain must run on the tracer thread.
func drain(pid int, threads []proc.Thread) {
	for _, th := range threads {
		tid := th.ThreadID()
		// A thread that was being made when Delve stopped the others stops by
		// itself before it runs. Delve takes it for stopped already, and would
		// later take that stop for a SIGSTOP of somebody's.
		for {
			if _, err := stopInfo(tid); err != unix.ESRCH || !threadLives(tid) {
				break
			}
			if _, err := waitStop(pid, tid); err != nil {
				break
			}
		}
		for range 8 { // the signals, a group stop, and a few that arrive meanwhile
			if !pendingTrap(tid) || takeSignal(pid, tid) != nil {
				break
			}
		}
	}
}

// pendingTrap tells whether a SIGTRAP or SIGSTOP sent by this process is pending
// for the stopped thread, or the SIGTRAP of a breakpoint that it has run into:
// a group stop comes first, and one begins when Delve finds a SIGSTOP of its
// own late and passes it on.
func pendingTrap(tid int) bool {
	const shared = 1 // PTRACE_PEEKSIGINFO_SHARED
	for _, flags := range []uint32{0, shared} {
		var infos [32]siginfo
		args := struct {
			off   uint64
			flags uint32
			nr    int32
		}{0, flags, int32(len(infos))}
		n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKSIGINFO, uintptr(tid),
			uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&infos)), 0, 0)
		if errno != 0 {
			return false
		}
		for _, info := range infos[:n] {
			if info.fromUs() && (info.signo == int32(unix.SIGTRAP) || info.signo == int32(unix.SIGSTOP) && flags == 0) || info.breakpoint() {
				return true
			}
		}
	}
	return false
}

// takeSignal makes a thread, for which one is pending, stop for a SIGTRAP or a
// SIGSTOP, and drops that signal. The thread is in the kernel, about to run its
// own code, and finds the signal before it does; all others wait, blocked.
func takeSignal(pid, tid int) error {
	if !interruptible(tid) {
		return fmt.Errorf("thread %d is stopped at an event", tid)
	}
	mask, err := signalMask(tid)
	if err != nil {
		return err
	}
	journalOf(pid).lend(tid, mask, nil)
	defer journalOf(pid).giveBack()
	if err := setSignalMask(tid, trapMask); err != nil {
		return err
	}
	if err := unix.PtraceCont(tid, 0); err != nil {
		return err
	}
	if _, err := waitStop(pid, tid); err != nil {
		return err
	}
	if err := setSignalMask(tid, mask); err != nil {
		return err
	}
	if info, err := stopInfo(tid); err == nil && info.breakpoint() {
		return stepBack(tid)
	}
	return nil
}

// breakpoint tells whether the signal comes from an int3 instruction: the
// kernel sends no other SIGTRAP with this code on amd64.
func (i *siginfo) breakpoint() bool {
	const siKernel = 0x80
	return i.signo == int32(unix.SIGTRAP) && i.code == siKernel
}

// stepBack lets a thread that has run an int3 run it again, or what is there
// by then: the hit is found anew, and is none if the breakpoint is gone.
func stepBack(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rip--
	return unix.PtraceSetRegs(tid, &regs)
}

// interruptible tells whether the stopped thread is where a signal stops it:
// there its registers are its own. Elsewhere, at the event of a clone, the
// kernel still has a result to store into them.
func interruptible(tid int) bool {
	info, err := stopInfo(tid)
	if err == unix.EINVAL {
		return true // stopped by job control, see signal delivery in ptrace(2)
	}
	if err != nil {
		return false // gone
	}
	// PTRACE_INTERRUPT stops it at the same place.
	return !info.event() || info.code>>8 == unix.PTRACE_EVENT_STOP
}

// event tells whether the stop is no signal's. Then SIGTRAP is in the low byte of the
// code, see ptrace(2), PTRACE_GETSIGINFO.
func (i *siginfo) event() bool {
	return i.signo == int32(unix.SIGTRAP) && i.code > 0 && i.code&0x7f == int32(unix.SIGTRAP)
}

// returnSignals sends the signals again that Delve took away from threads
// while it attached to them: it expects its SIGSTOP and drops whatever else a
// thread stops for first.
func (t ptracer) returnSignals(threads []proc.Thread) {
	for _, th := range threads {
		var info siginfo
		var err error
		t.do(func() { info, err = stopInfo(th.ThreadID()) })
		switch signal := unix.Signal(info.signo); {
		case err != nil, signal == unix.SIGSTOP, signal == unix.SIGTRAP:
		case info.code > 0: // a fault: the instruction will raise it again
		default:
			_ = unix.Tgkill(t.pid, th.ThreadID(), signal)
		}
	}
}
