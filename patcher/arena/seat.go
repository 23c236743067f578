package arena

import (
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/process"
)

// Seat is the place in an arena of a thread that is Darn's in the target.
type Seat struct {
	// Control and Code are addresses in the target of a page each: one shared
	// with Darn, which both write, and one of code.
	Control, Code uint64
	// Page is Darn's own view of Control, valid until Close or Release.
	Page []byte
	// File is the target's descriptor of the memfd.
	File uint64
	// Lock is where in that file a Darn holds a lock, of one byte and of its own
	// open file description, as long as it lives.
	Lock uint64
}

// Seat returns the seat, after Reserve or Open, in either state of the target.
func (a *Arena) Seat() (Seat, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil {
		return Seat{}, errClosed
	}
	return Seat{Control: a.base + controlAt, Code: a.base + codeAt, Page: a.mem[controlAt:][:pageSize:pageSize], File: a.fd, Lock: controlAt}, nil
}

// Furnish maps the seat in the target, with the code in it, and takes the lock.
// Nobody may sit there. A forked child does not get it.
func (a *Arena) Furnish(c process.Caller, code []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mem == nil {
		return errClosed
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: controlAt, Len: 1}
	if err := unix.FcntlFlock(uintptr(a.file), unix.F_OFD_SETLK, &lock); err != nil {
		return err
	}
	copy(a.mem[codeAt:][:pageSize], code)
	if err := a.mapFile(c, a.base+controlAt, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	if err := a.mapFile(c, a.base+codeAt, pageSize, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE); err != nil {
		return err
	}
	_, err := c.Syscall(unix.SYS_MADVISE, a.base+controlAt, 2*pageSize, unix.MADV_DONTFORK)
	return err
}
