package process

import (
	"encoding/binary"
	"errors"

	"github.com/go-delve/delve/service/debugger"
	"golang.org/x/sys/unix"
)

// The catcher is a page of code in the target, as long as Darn traces it. It handles
// SIGTRAP there, and is not called while the tracer lives: that gets the signal. When
// the tracer is killed, a thread that runs into a breakpoint which stands there still,
// or gets the signal by which the target was to be halted, comes to the catcher, and
// does not end the process. At a breakpoint it waits until the guardian (guardian.go)
// has put the old byte back and says so, and runs the instruction then.
//
// On further pages, which are writable, the kernel puts what handled SIGTRAP before,
// and the guardian a table of the breakpoints that there were.

// Offsets in the catcher's pages.
const (
	catcherRestorer = 0
	catcherHandler  = 16
	catcherAction   = 0x800 // the struct sigaction of the handler
	catcherPage     = 4096
	catcherOld      = catcherPage       // the one from before, which is to come back
	catcherNow      = catcherPage + 256 // the one that is found
	// catcherTable holds one more than the number of breakpoints, 0 before it is
	// known, and their addresses.
	catcherTable = catcherPage + 1024
	catcherSize  = 5 * catcherPage
	catcherMost  = (catcherSize-catcherTable)/8 - 1
	sigsetSize   = 8
)

// catcherImage is the first page of a catcher at an address.
func catcherImage(at uint64) []byte {
	const flags = 0x4 | 0x04000000 | 0x08000000 | 0x10000000 // SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_RESTART
	image := make([]byte, catcherAction)
	copy(image, catcherCode())
	for _, word := range []uint64{at + catcherHandler, flags, at + catcherRestorer, anySignal} {
		image = binary.LittleEndian.AppendUint64(image, word)
	}
	return image
}

// protect puts the catcher into a target that is guarded. Where it can't be had, the
// guardian does what it can without.
func (h *Halt) protect() (err error) {
	j := journalOf(h.p.pid)
	if j == nil || j.catcher.Load() != 0 || checkSystemCalls(h.p.pid) != nil {
		return nil
	}
	at, err := h.p.hole(catcherSize)
	if err != nil {
		return err
	}
	// The guardian must know the place before anything is there.
	j.catcher.Store(at)
	got, err := h.Syscall(unix.SYS_MMAP, at, catcherSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	if err != nil || got != at {
		j.catcher.Store(0)
		return errors.Join(err, errors.New("there is no room for the catcher"))
	}
	defer func() {
		if err == nil {
			return
		}
		if _, failed := h.Syscall(unix.SYS_MUNMAP, at, catcherSize); failed == nil {
			j.catcher.Store(0)
		}
	}()
	if err := h.p.WriteMemory(at, catcherImage(at)); err != nil {
		return err
	}
	if _, err := h.Syscall(unix.SYS_MPROTECT, at, catcherPage, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return err
	}
	j.caught.Store(true)
	if _, err := h.Syscall(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), at+catcherAction, at+catcherOld, sigsetSize); err != nil {
		j.caught.Store(false)
		return err
	}
	return nil
}

// Protect puts the catcher into the target of a debugger that the caller owns, if that
// is guarded: to be called for one that the debugger has launched, when it is stopped
// and not under dbg.LockTargetGroup. It does nothing as long as the runtime of a Go
// program has not set its handlers, which would take the catcher for one of the
// program's. What New is called for is protected by that.
func Protect(dbg *debugger.Debugger) error {
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	target := group.Selected
	pid := target.Pid()
	if j := journalOf(pid); j == nil || j.catcher.Load() != 0 {
		return nil
	}
	p, err := identify(target, nil)
	if err != nil {
		return err
	}
	defer p.closeMemory()
	if len(target.BinInfo().LookupFunc()["runtime.sighandler"]) != 0 && !p.Catches(int(unix.SIGTRAP)) {
		return nil
	}
	tracer, err := tracerOf(target)
	if err != nil {
		return err
	}
	halt := p.standing(group, tracer)
	return errors.Join(halt.protect(), halt.end())
}

// unprotect takes the catcher out again. If it fails the guardian does it.
func (h *Halt) unprotect() error {
	j := journalOf(h.p.pid)
	if j == nil || j.catcher.Load() == 0 {
		return nil
	}
	// Nothing may be left that it would have to catch.
	if err := h.park(); err != nil {
		return err
	}
	threads, err := h.Threads()
	if err != nil {
		return err
	}
	at := j.catcher.Load()
	for _, t := range threads {
		if t.PC-at < catcherSize {
			return errors.New("a thread is in the catcher")
		}
	}
	if err := removeCatcher(h.Syscall, h.p.ReadMemory, at, j.caught.Load()); err != nil {
		return err
	}
	j.caught.Store(false)
	j.catcher.Store(0)
	return nil
}

// removeCatcher gives SIGTRAP the handler back that it had, unless the program has
// set another since, and the memory.
func removeCatcher(call func(nr uintptr, args ...uint64) (uint64, error), read func([]byte, uint64) error, at uint64, caught bool) error {
	if caught {
		if _, err := call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), 0, at+catcherNow, sigsetSize); err != nil {
			return err
		}
		var handler [8]byte
		if err := read(handler[:], at+catcherNow); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(handler[:]) == at+catcherHandler {
			if _, err := call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), at+catcherOld, 0, sigsetSize); err != nil {
				return err
			}
		}
	}
	_, err := call(unix.SYS_MUNMAP, at, catcherSize)
	return err
}

// hole returns the start of size bytes of the address space in which nothing is
// mapped, nor soon will be.
func (p *Process) hole(size uint64) (uint64, error) {
	maps, err := p.Maps()
	if err != nil {
		return 0, err
	}
	const top = 1 << 47
	for i := len(maps) - 1; i > 0; i-- {
		low, high := maps[i-1].End, maps[i].Start
		if high < top && high-low > 1<<30 {
			return (low + (high-low)/2) &^ (catcherPage - 1), nil
		}
	}
	return 0, errors.New("the address space is full")
}
