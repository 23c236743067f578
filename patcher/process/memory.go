package process

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/internal/fault"
)

// /proc/PID/mem, kept open, reads and writes the target while it runs or is
// stopped; it reaches read-only mappings too, as a tracer may (FOLL_FORCE in
// the kernel's mm/gup.c), and private ones get their own copy of the page. A
// write of up to eight aligned bytes was never seen torn by running threads,
// which nobody promises. The descriptor is bound to the address space: after
// an exec it reads nothing, so that no write can reach the new program.

// ReadMemory fills buf from address addr, whether the target runs or not; it
// sees Delve's breakpoints. Any byte that can't be read is an error; an ended
// target is refused with target-exited.
func (p *Process) ReadMemory(buf []byte, addr uint64) error {
	if len(buf) == 0 {
		return nil
	}
	if _, err := p.memory.ReadAt(buf, int64(addr)); err != nil {
		return p.explain(fmt.Errorf("reading %d bytes at %#x of process %d: %w", len(buf), addr, p.pid, err))
	}
	return nil
}

// WriteMemory writes data at address addr, whether the target runs or not,
// also where the target itself may not write. It knows nothing of breakpoints:
// code is written by Halt.WriteText. An ended target is refused with
// target-exited; if part of the range can't be written the part before it may
// have been.
func (p *Process) WriteMemory(addr uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	fault.Point()
	n, err := p.memory.WriteAt(data, int64(addr))
	fault.Point()
	if err != nil {
		return p.explain(fmt.Errorf("writing %d bytes at %#x of process %d, after %d of them: %w", len(data), addr, p.pid, n, err))
	}
	return nil
}

// closeMemory is the end of ReadMemory, WriteMemory and Alive.
func (p *Process) closeMemory() {
	_ = p.memory.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.pidfd)
	p.pidfd = -1
}
