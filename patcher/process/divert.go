package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
)

// A thread that sleeps in a system call can be made to call dlopen, and goes back
// to sleep then. It is diverted by one change of its registers, and finds its way
// back alone (testdata/divert.S): nobody has to be there when the call returns.
//
// The way back is no rt_sigreturn, which makes the kernel forget how to restart a
// system call with a timeout. As the thread is behind a syscall instruction, which
// leaves its return address in %rcx, a jump through %rcx restores all there is.

// Dlopen is a call of dlopen(Path, RTLD_NOW|RTLD_LOCAL).
type Dlopen struct {
	// Dlopen, Dlerror and Errno are the addresses of dlopen, dlerror and
	// __errno_location in the target.
	Dlopen, Dlerror, Errno uint64
	Path                   string
}

// Diversion is a thread on its way through a call.
type Diversion struct {
	// Thread is which.
	Thread int
	p      *Process
	base   uint64
}

// The memory of a diversion: a page that can't be touched, a stack, the page of
// what testdata/divert.S knows, one for the state of the floating point unit, one
// for the path, and its code.
const (
	divertPage  = 4096
	divertStack = 1 << 20
	divertSlot  = divertPage + divertStack
	divertPath  = divertSlot + 2*divertPage
	divertCode  = divertSlot + 3*divertPage
	divertSize  = divertCode + divertPage
)

// What the kernel has as the result of a system call that it will do again, see
// include/linux/errno.h.
const (
	restartSys     = -512 // unless a handler without SA_RESTART runs
	restartNoIntr  = -513 // always
	restartNoHand  = -514 // unless a handler runs
	restartByBlock = -516 // by the system call restart_syscall, unless a handler runs
)

// How a handler of signals interrupts the system call, for testdata/divert.S.
const (
	handlersDoNot      = 0
	handlersDo         = 1
	handlersNotRestart = 2
)

// comesBack computes with what registers a thread goes on that was stopped in a
// system call, as the kernel would have it. ok is false if it is in none that was
// interrupted.
func comesBack(r unix.PtraceRegs) (_ unix.PtraceRegs, handlers uint32, ok bool) {
	if r.Cs != userCode64 || int64(r.Orig_rax) < 0 {
		return r, 0, false
	}
	switch int64(r.Rax) {
	case -int64(unix.EINTR):
		return r, handlersDoNot, true
	case restartSys:
		handlers = handlersNotRestart
	case restartNoIntr:
		handlers = handlersDoNot
	case restartNoHand, restartByBlock:
		handlers = handlersDo
	default:
		return r, 0, false
	}
	if int64(r.Rax) == restartByBlock {
		r.Orig_rax = unix.SYS_RESTART_SYSCALL
	}
	r.Rax = r.Orig_rax
	r.Rip -= uint64(len(syscallInstruction))
	return r, handlers, true
}

// Sleeping returns the threads that were blocked in a system call when they were
// halted, and can be diverted.
func (h *Halt) Sleeping() (map[int]bool, error) {
	if err := h.valid(); err != nil {
		return nil, err
	}
	tids := h.threadIDs()
	found := make(map[int]bool)
	h.tracer.do(func() {
		for _, tid := range tids {
			var r unix.PtraceRegs
			if !interruptible(tid) || unix.PtraceGetRegs(tid, &r) != nil {
				continue
			}
			code := make([]byte, len(syscallInstruction))
			if _, _, ok := comesBack(r); ok && h.p.ReadMemory(code, r.Rip-2) == nil && bytes.Equal(code, syscallInstruction) {
				found[tid] = true
			}
		}
	})
	return found, nil
}

// Divert makes a thread, one of Sleeping, call dlopen when the target goes on. If
// Darn ends before it has, the thread does that and goes on all the same. Who
// calls it knows that the thread holds no lock that dlopen needs. All signals but
// faults, traps and the C library's own wait for the time of the call. An error
// means that the thread was not diverted.
func (h *Halt) Divert(tid int, call Dlopen) (_ *Diversion, err error) {
	if !cpu.X86.HasOSXSAVE {
		return nil, finding.Refuse(finding.UnsupportedTarget, "the processor has no xsave, by which a thread's state is kept", "start the program with the library (LD_PRELOAD)")
	}
	if len(call.Path) >= divertPage {
		return nil, fmt.Errorf("a path of %d bytes", len(call.Path))
	}
	base, err := h.Syscall(unix.SYS_MMAP, 0, divertSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uint64(0), 0)
	if err != nil {
		return nil, fmt.Errorf("memory for the call of dlopen: %w", err)
	}
	defer func() {
		if err != nil {
			_, _ = h.Syscall(unix.SYS_MUNMAP, base, divertSize)
		}
	}()
	for _, m := range []struct{ at, size, prot uint64 }{{0, divertPage, unix.PROT_NONE}, {divertCode, divertPage, unix.PROT_READ | unix.PROT_EXEC}} {
		if _, err := h.Syscall(unix.SYS_MPROTECT, base+m.at, m.size, m.prot); err != nil {
			return nil, fmt.Errorf("memory for the call of dlopen: %w", err)
		}
	}
	if err := h.p.WriteMemory(base+divertPath, append([]byte(call.Path), 0)); err != nil {
		return nil, err
	}
	if err := h.p.WriteMemory(base+divertCode, diverted); err != nil {
		return nil, err
	}
	h.tracer.do(func() { err = h.p.divert(tid, base, call) })
	if err != nil {
		return nil, h.p.explain(fmt.Errorf("diverting thread %d: %w", tid, err))
	}
	h.ClearCaches()
	return &Diversion{Thread: tid, p: h.p, base: base}, nil
}

// divert runs on the tracer thread.
func (p *Process) divert(tid int, base uint64, call Dlopen) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	mask, err := signalMask(tid)
	if err != nil {
		return err
	}
	back, handlers, ok := comesBack(regs)
	if !ok {
		return errors.New("it is in no system call")
	}
	const setxid, singleStep = 33, 0x100 // SIGSETXID of the GNU C library; the flag TF
	blocked := anySignal &^ (faults | sigset(unix.SIGTRAP) | sigset(setxid))
	page := make([]byte, 272)
	for at, v := range map[int]uint64{
		24: call.Dlopen, 32: base + divertPath, 40: call.Dlerror, 48: call.Errno,
		56: blocked, 64: mask, 80: 0x1f80, 88: uint64(handlers), 96: regs.Rip,
		128: back.Rax, 136: back.Rbx, 144: back.Rcx, 152: back.Rdx, 160: back.Rsi, 168: back.Rdi, 176: back.Rbp, 184: back.Rsp,
		192: back.R8, 200: back.R9, 208: back.R10, 216: back.R11, 224: back.R12, 232: back.R13, 240: back.R14, 248: back.R15,
		256: back.Rip, 264: back.Eflags &^ singleStep,
	} {
		binary.LittleEndian.PutUint64(page[at:], v)
	}
	if err := p.WriteMemory(base+divertSlot, page); err != nil {
		return err
	}
	old := regs
	regs.Rip, regs.Rsp, regs.Rbx = base+divertCode, base+divertSlot, base+divertSlot
	regs.Orig_rax = ^uint64(0) // the kernel must not restart the system call
	regs.Rax = 0
	if err := unix.PtraceSetRegs(tid, &regs); err != nil {
		return err
	}
	// The code does the same first of all, if Darn ends in this instant. Signals
	// that are pending must not interrupt that.
	if err := setSignalMask(tid, blocked); err != nil {
		_ = unix.PtraceSetRegs(tid, &old) // fails if the thread has ended
		return err
	}
	return nil
}

// Result returns what dlopen has returned, 0 with the text of dlerror; done is
// false while it has not. The target may run.
func (d *Diversion) Result() (handle uint64, text string, done bool, err error) {
	page := make([]byte, 1024)
	if err := d.p.ReadMemory(page, d.base+divertSlot); err != nil {
		return 0, "", false, err
	}
	handle = binary.LittleEndian.Uint64(page[8:])
	if handle == 0 {
		text, _, _ := bytes.Cut(page[512:], []byte{0})
		return 0, string(text), page[0] != 0, nil
	}
	return handle, "", page[0] != 0, nil
}

// Holds tells whether addr is in the memory of the diversion.
func (d *Diversion) Holds(addr uint64) bool { return addr-d.base < divertSize }

// Free gives the memory back. Who calls it knows that the thread has left it.
func (d *Diversion) Free(h *Halt) error {
	_, err := h.Syscall(unix.SYS_MUNMAP, d.base, divertSize)
	return err
}

// Catches tells whether the target handles a signal, by its number. The target
// may run.
func (p *Process) Catches(signal int) bool {
	status, err := readStatus(p.pid)
	if err != nil {
		return false // has ended, which the next operation says
	}
	caught, err := strconv.ParseUint(status["SigCgt"], 16, 64)
	return err == nil && caught&sigset(unix.Signal(signal)) != 0
}

// Sees tells whether the target finds a file at an absolute path: it may have
// another root. The target may run.
func (p *Process) Sees(path string) bool {
	info, err := os.Stat(procPath(p.pid, "root") + path)
	return err == nil && info.Mode().IsRegular()
}
