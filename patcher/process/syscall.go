package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/internal/fault"
)

// Caller does system calls in the name of a target: a Halt, or a thread of Darn's
// own in the target while the others run.
type Caller interface {
	// Syscall returns the result, or the unix.Errno the kernel gave. Arguments
	// that are addresses are the target's.
	Syscall(nr uintptr, args ...uint64) (uint64, error)
}

// Syscall does a system call in the name of the target, on one of its threads,
// and returns the result, or the unix.Errno the kernel gave. Arguments that are
// addresses are the target's. The thread's registers and signal mask are
// restored whatever happens; a system call the thread was blocked in is
// restarted by the kernel as after any stop; signals that arrive meanwhile stay
// pending until the target runs.
//
// It isn't for calls that make or end threads, change the program or block.
// An ended target is refused with target-exited, one whose system calls are
// restricted with unsupported-target.
//
// It follows rr's AutoRemoteSyscalls in what it promises.
func (h *Halt) Syscall(nr uintptr, args ...uint64) (uint64, error) {
	if err := h.valid(); err != nil {
		return 0, err
	}
	at, err := h.putGadget()
	if err != nil {
		if ended := h.p.Ended(); ended != nil {
			err = ended
		}
		return 0, err
	}
	// No signal may come in between, but those by which the kernel says that
	// the call itself went wrong: blocked, they would reset their handlers.
	return h.syscallAt(at, anySignal&^faults, nr, args)
}

// syscallAt is Syscall by the syscall instruction at an address, behind which the
// thread stays if Darn is killed, with the signals in blocked kept from it.
func (h *Halt) syscallAt(at, blocked uint64, nr uintptr, args []uint64) (uint64, error) {
	if len(args) > 6 {
		return 0, fmt.Errorf("system call %d with %d arguments", nr, len(args))
	}
	if err := checkSystemCalls(h.p.pid); err != nil {
		return 0, err
	}
	tids := h.threadIDs()
	var err error
	var result uint64
	h.tracer.do(func() {
		var tid int
		if tid, err = h.vehicle(tids); err != nil {
			return
		}
		result, err = remoteSyscall(h.p.pid, tid, at, blocked, nr, args)
		if err != nil {
			h.tid = 0
		}
	})
	if err != nil {
		return 0, h.p.explain(fmt.Errorf("system call %d in process %d: %w", nr, h.p.pid, err))
	}
	if errno := -int64(result); errno > 0 && errno < 4096 {
		return 0, unix.Errno(errno)
	}
	return result, nil
}

// syscallSize is the length of the syscall instruction.
const syscallSize = 2

var syscallInstruction = gadget[:syscallSize]

// vehicle returns a thread that is fit to do a system call. One that is in a
// system call of its own is preferred: it is in nobody's critical section. It
// runs on the tracer thread.
func (h *Halt) vehicle(tids []int) (int, error) {
	if h.tid != 0 && interruptible(h.tid) {
		return h.tid, nil
	}
	second := 0
	for _, tid := range slices.Backward(tids) { // the leader last: waiting for it is slower
		var regs unix.PtraceRegs
		if !interruptible(tid) || unix.PtraceGetRegs(tid, &regs) != nil || regs.Cs != userCode64 {
			continue
		}
		if int64(regs.Orig_rax) >= 0 {
			h.tid = tid
			return tid, nil
		}
		if second == 0 && !h.p.inRestartable(tid) {
			second = tid
		}
	}
	if second == 0 && !slices.ContainsFunc(tids, func(tid int) bool { _, err := signalMask(tid); return err == nil }) {
		return 0, unix.ESRCH // being killed
	}
	if second == 0 {
		return 0, errors.New("no thread is in a state to do it; try again")
	}
	h.tid = second
	return second, nil
}

// userCode64 is the code segment of 64-bit user code, arch/x86/include/asm/segment.h.
const userCode64 = 0x33

// inRestartable tells whether the thread may be inside a restartable sequence
// (rseq(2)): the kernel would take it for left when it sees the thread elsewhere.
// It runs on the tracer thread.
func (p *Process) inRestartable(tid int) bool {
	const getRseqConfiguration = 0x420f // PTRACE_GET_RSEQ_CONFIGURATION, Linux 5.13
	var conf struct {
		abi              uint64 // address of the thread's struct rseq
		size, sig, flags uint32
		_                uint32
	}
	if err := ptrace(getRseqConfiguration, tid, unsafe.Sizeof(conf), unsafe.Pointer(&conf)); err != nil || conf.abi == 0 {
		return false
	}
	const sequence = 8 // offset of rseq_cs
	var b [8]byte
	err := p.ReadMemory(b[:], conf.abi+sequence)
	return err != nil || binary.LittleEndian.Uint64(b[:]) != 0
}

// remoteSyscall makes the stopped thread execute the syscall instruction at
// address at, and restores it. It runs on the tracer thread.
func remoteSyscall(pid, tid int, at, blocked uint64, nr uintptr, args []uint64) (result uint64, err error) {
	var saved unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &saved); err != nil {
		return 0, err
	}
	mask, err := signalMask(tid)
	if err != nil {
		return 0, err
	}
	var swallowed []unix.Signal
	defer func() {
		if err == unix.ESRCH {
			return // the thread is no more
		}
		failed := restoreThread(pid, tid, &saved, mask, &swallowed)
		if failed == nil {
			journalOf(pid).giveBack()
		}
		err = errors.Join(err, failed)
		for _, s := range swallowed {
			_ = unix.Tgkill(pid, tid, s)
		}
	}()

	journalOf(pid).lend(tid, mask, &saved)
	fault.Point()
	regs := saved
	regs.Rip = at
	regs.Rax = uint64(nr)
	// Not in a system call: the kernel must not restart the interrupted one.
	regs.Orig_rax = ^uint64(0)
	for i, r := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9} {
		if i < len(args) {
			*r = args[i]
		}
	}
	// The signals are blocked when it is away from the program's code, and not a moment
	// longer: a breakpoint or a fault there would end the program if they were, should
	// Darn be killed.
	journalOf(pid).send(at)
	if err := unix.PtraceSetRegs(tid, &regs); err != nil {
		return 0, err
	}
	journalOf(pid).sent(true)
	fault.Point()
	if err := setSignalMask(tid, blocked); err != nil {
		return 0, err
	}
	fault.Point()
	// The thread stops on entering the system call and on leaving it. Unlike a
	// single step this needs no signal.
	for entered := false; ; {
		if err := unix.PtraceSyscall(tid, 0); err != nil {
			return 0, err
		}
		status, err := waitStop(pid, tid)
		if err != nil {
			return 0, err
		}
		if !status.Stopped() {
			return 0, fmt.Errorf("thread %d: unexpected wait status %#x", tid, status)
		}
		if status.StopSignal() == unix.SIGTRAP && status.TrapCause() > 0 {
			continue // an event, such as a clone
		}
		info, err := stopInfo(tid)
		if err == unix.EINVAL {
			continue // stopped by job control
		}
		if err != nil {
			return 0, err
		}
		if !atSyscallStop(info) {
			if info.code > 0 && info.signo != int32(unix.SIGSTOP) {
				return 0, fmt.Errorf("thread %d got %v", tid, unix.Signal(info.signo))
			}
			if !info.fromUs() {
				swallowed = append(swallowed, unix.Signal(info.signo))
			}
			continue
		}
		if err := unix.PtraceGetRegs(tid, &regs); err != nil {
			return 0, err
		}
		if regs.Rip != at+uint64(syscallSize) || regs.Orig_rax != uint64(nr) {
			return 0, fmt.Errorf("thread %d is at %#x in system call %d", tid, regs.Rip, int64(regs.Orig_rax))
		}
		fault.Point()
		if entered {
			return regs.Rax, nil
		}
		entered = true
	}
}

// faults are the signals the kernel raises for what a thread does itself.
var faults = sigset(unix.SIGSEGV) | sigset(unix.SIGBUS) | sigset(unix.SIGILL) | sigset(unix.SIGFPE) | sigset(unix.SIGSYS)

func atSyscallStop(info siginfo) bool {
	return info.signo == int32(unix.SIGTRAP) && (info.code == int32(unix.SIGTRAP) || info.code == int32(unix.SIGTRAP)|0x80)
}

// restoreThread puts registers and mask back and leaves the thread where it
// was: stopped by a signal, in the kernel's get_signal. Only there will the
// kernel restart the system call that the thread was in; a thread that goes on
// from the stop at the end of a system call would see the kernel's own
// -ERESTARTSYS. So the thread is first sent a signal, which stops it there before it
// runs any code: one that does nothing to a program that does not ask for it, should
// Darn be killed before the signal was taken away again.
func restoreThread(pid, tid int, saved *unix.PtraceRegs, mask uint64, swallowed *[]unix.Signal) error {
	if err := setSignalMask(tid, parkMask); err != nil {
		return err
	}
	if err := unix.Tgkill(pid, tid, parkSignal); err != nil {
		return err
	}
	fault.Point()
	for {
		if err := unix.PtraceCont(tid, 0); err != nil {
			return err
		}
		if _, err := waitStop(pid, tid); err != nil {
			return err
		}
		info, err := stopInfo(tid)
		if err == unix.EINVAL {
			continue // stopped by job control
		}
		if err != nil {
			return err
		}
		if info.event() {
			continue
		}
		if !info.fromUs() {
			*swallowed = append(*swallowed, unix.Signal(info.signo))
		}
		if info.signo == int32(parkSignal) {
			break
		}
	}
	fault.Point()
	if err := setSignalMask(tid, mask); err != nil {
		return err
	}
	journalOf(pid).sent(false)
	fault.Point()
	err := unix.PtraceSetRegs(tid, saved)
	fault.Point()
	return err
}

// parkSignal stops a thread for its tracer. Hardly a program handles it, and none
// needs it; SIGURG, say, is what Go interrupts its threads by.
const parkSignal = unix.SIGWINCH

// parkMask and trapMask are what a thread blocks while it is about to stop.
const (
	parkMask = anySignal &^ (1 << (parkSignal - 1))
	trapMask = anySignal &^ (1 << (unix.SIGTRAP - 1))
)

// park has every thread that a SIGTRAP of this process's has stopped be stopped by
// something that does not matter instead: the kernel would deliver the SIGTRAP if
// this process were killed.
func (h *Halt) park() error {
	if err := h.valid(); err != nil {
		return err
	}
	var err error
	h.tracer.do(func() {
		for _, tid := range h.threadIDs() {
			info, failed := stopInfo(tid)
			if failed != nil || info.signo != int32(unix.SIGTRAP) || !info.fromUs() {
				continue
			}
			var regs unix.PtraceRegs
			var mask uint64
			var swallowed []unix.Signal
			if failed = unix.PtraceGetRegs(tid, &regs); failed == nil {
				if mask, failed = signalMask(tid); failed == nil {
					journalOf(h.p.pid).lend(tid, mask, &regs)
					if failed = restoreThread(h.p.pid, tid, &regs, mask, &swallowed); failed == nil {
						journalOf(h.p.pid).giveBack()
					}
				}
			}
			for _, s := range swallowed {
				_ = unix.Tgkill(h.p.pid, tid, s)
			}
			if failed != nil && failed != unix.ESRCH {
				err = errors.Join(err, failed)
			}
		}
	})
	return err
}
