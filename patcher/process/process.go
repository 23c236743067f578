// Package process is a live process, seen and handled through Delve: its
// memory and mappings at any time, its threads, registers and text while it
// is halted, and system calls made in its name.
//
// A thing done to a target is either safe while it runs (memory, mappings) or
// is a method of Halt, which exists only while every thread is stopped. How a
// target is halted is the business of a Halter: Attach brings its own, a debug
// adapter passes one that agrees with its session.
package process

import (
	"debug/elf"
	"fmt"
	"os"
	"sync"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/debugger"
)

// Process is a live process under Delve. Its methods may be called from any
// goroutine.
type Process struct {
	pid    int
	bias   uint64
	memory *os.File // /proc/PID/mem; bound to the address space, not to the pid
	halter Halter
	own    *tracer // nil if the caller of New owns the debugger
	guard  *Guard  // nil if there is none, or the caller of New has it

	attached HaltStats // the halt that Attach was

	entry uint64 // where the program began
	// gadgetOld is what the gadget stands in place of, nil if it does not. It changes
	// under halts only.
	gadgetOld []byte

	mu     sync.Mutex
	pidfd  int  // -1 after Close
	halted bool // a Halt exists
	closed bool
	meters map[*HaltStats]struct{}
}

// New makes a Process of the target of a debugger that the caller owns; the
// caller keeps it, and detaches or kills the target in its own time. It must
// be called while the target is stopped, at best before it has run at all, and
// not under dbg.LockTargetGroup: threads that Delve overlooked while it attached
// are traced from then on.
//
// It is refused with unsupported-target if the program is not an ELF
// executable for linux/amd64, and with target-exited if the target has ended.
func New(dbg *debugger.Debugger, h Halter) (*Process, error) {
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	p, err := newProcess(group.Selected, h)
	if err != nil {
		return nil, err
	}
	tracer, err := tracerOf(group.Selected)
	if err != nil {
		return nil, err
	}
	halt := p.standing(group, tracer)
	defer halt.end()
	_ = halt.protect() // the guardian does what it can without
	return p, nil
}

func newProcess(target *proc.Target, h Halter) (*Process, error) {
	pid := target.Pid()
	if ok, err := target.Valid(); !ok {
		return nil, exited(pid, err)
	}
	tracer, err := tracerOf(target)
	if err != nil {
		return nil, err
	}
	if err := tracer.findThreads(target); err != nil {
		return nil, err
	}
	// A session gets on without it: all it tells is which libraries are Go's.
	for addr, bp := range target.Breakpoints().M {
		if bp.IsSharedLibBreakpoint() {
			if err := clearBreakpoint(target, addr); err != nil {
				return nil, err
			}
		}
	}
	return identify(target, h)
}

// identify makes a Process of a stopped target, in which it changes nothing.
func identify(target *proc.Target, h Halter) (*Process, error) {
	pid := target.Pid()
	program, err := readProgram(pid)
	if err != nil {
		return nil, err
	}
	p := &Process{pid: pid, halter: h, meters: make(map[*HaltStats]struct{})}
	if program.Type == elf.ET_DYN {
		if p.bias, err = loadBias(pid, program.Entry); err != nil {
			return nil, err
		}
	}
	p.entry = program.Entry + p.bias
	if p.memory, p.pidfd, err = openMemory(pid); err != nil {
		return nil, err
	}
	return p, nil
}

// CheckSystemCalls refuses what Halt.Syscall would refuse because the target's
// system calls are restricted. The target may run.
func (p *Process) CheckSystemCalls() error { return checkSystemCalls(p.pid) }

// Pid returns the process id.
func (p *Process) Pid() int { return p.pid }

// ExePath returns a path at which the program's file can be read, even if it
// was renamed or deleted since it was started.
func (p *Process) ExePath() string { return procPath(p.pid, "exe") }

// LoadBias returns what must be added to an address of the executable file to
// get the address in the process: 0 unless the program is position
// independent.
func (p *Process) LoadBias() uint64 { return p.bias }

// Detach lets go of a process that was attached to by Attach, as Close does, which is
// still to be called. Until then its memory can be read and written, and it can't
// be halted any more.
func (p *Process) Detach() error {
	if p.own == nil {
		return fmt.Errorf("process %d is not ours to detach from", p.pid)
	}
	if err := p.own.detach(); err != nil {
		return err
	}
	p.unguard()
	return nil
}

// unguard ends the guard: the process was let go.
func (p *Process) unguard() {
	p.mu.Lock()
	guard := p.guard
	p.guard = nil
	p.mu.Unlock()
	guard.Close()
}

// Close lets go of the process. A process that was attached to by Attach is
// halted, detached and goes on; its text is as it was found, but for what was
// patched. Close may be called more than once.
func (p *Process) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	var err error
	if p.own != nil {
		if err = p.own.detach(); err == nil {
			p.unguard()
		}
	}
	p.closeMemory()
	return err
}
