package cruntime

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/process"
)

// sleepers are functions of the C library in which a thread waits without a lock
// of the library's own. All others may hold one that dlopen needs: that of malloc,
// of the dynamic linker, of a stream.
var sleepers = strings.Fields(`
	nanosleep clock_nanosleep usleep sleep pause sigsuspend sigwait sigwaitinfo sigtimedwait
	select pselect poll ppoll epoll_wait epoll_pwait
	read write readv writev pread pwrite pread64 pwrite64 accept accept4 connect recv recvfrom recvmsg recvmmsg send sendto sendmsg
	wait wait3 wait4 waitpid waitid msgrcv msgsnd semop semtimedop mq_receive mq_timedreceive syscall
	pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait pthread_barrier_wait
	pthread_join pthread_timedjoin_np pthread_clockjoin_np
	__libc_start_main clone`)

// Library is how libraries are loaded into a program.
type Library struct {
	Dlopen, Dlerror, Errno uint64

	libc *loaded.Object
	// allocators are libraries with a malloc of their own.
	allocators []*loaded.Object
}

const (
	preload   = "start the program with the library (LD_PRELOAD), or link the module with its archive (-l:lib.a)"
	cancels   = 32 // SIGCANCEL of the GNU C library
	atSecure  = 23 // AT_SECURE, see getauxval(3)
	auxLength = 16
)

// Library finds dlopen and what the program has that forbids a call of it, for
// which it is refused with unsupported-target. The process may run.
func (r *Runtime) Library() (*Library, error) {
	refuse := func(format string, args ...any) error {
		return finding.Refuse(finding.UnsupportedTarget, "no library can be loaded into the program: "+fmt.Sprintf(format, args...), preload)
	}
	set, err := r.Objects()
	if err != nil {
		return nil, err
	}
	if set.Static {
		return nil, refuse("it is static")
	}
	l := new(Library)
	for _, o := range set.Objects {
		if o.Name() == "libc.so.6" || strings.HasPrefix(o.Name(), "libc-2.") {
			l.libc = o
		}
	}
	if l.libc == nil {
		return nil, refuse("its C library is not the GNU C library: how its threads wait is not known")
	}
	for name, at := range map[string]*uint64{"dlopen": &l.Dlopen, "dlerror": &l.Dlerror, "__errno_location": &l.Errno} {
		found := l.libc.Named(name)
		if len(found) == 0 {
			return nil, refuse("its C library has no %s (the GNU C library has it since 2.34)", name)
		}
		*at = found[0].Addr
	}
	for _, o := range set.Objects {
		if o == l.libc || len(o.Named("malloc")) == 0 || strings.HasPrefix(o.Name(), "ld-") {
			continue
		}
		if o.Program {
			return nil, refuse("it has a malloc of its own, and which functions are that one's is not known")
		}
		l.allocators = append(l.allocators, o)
	}
	if secure, err := isSecure(r.p.Pid()); err != nil {
		return nil, err
	} else if secure {
		return nil, refuse("it has the rights of another user or capabilities (AT_SECURE)")
	}
	// Who is cancelled is unwound from where it waits, and must be there.
	if r.p.Catches(cancels) {
		return nil, refuse("its threads cancel each other (pthread_cancel)")
	}
	return l, nil
}

// isSecure tells whether a process runs with more rights than who started it.
func isSecure(pid int) (bool, error) {
	vector, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	for ; len(vector) >= auxLength; vector = vector[auxLength:] {
		if binary.LittleEndian.Uint64(vector) == atSecure {
			return binary.LittleEndian.Uint64(vector[8:]) != 0, nil
		}
	}
	return false, err
}

// Opener returns a thread that can call dlopen: it sleeps, and holds no lock that
// dlopen may need. retry says why there is none now.
func (r *Runtime) Opener(h *process.Halt, l *Library) (thread int, retry *finding.Refusal, err error) {
	asleep, err := h.Sleeping()
	if err != nil {
		return 0, nil, err
	}
	threads, err := h.Threads()
	if err != nil {
		return 0, nil, err
	}
	why := "none sleeps in a system call"
	exports := l.exports()
	for i := range threads {
		if !asleep[threads[i].ID] {
			continue
		}
		bad := r.unfit(&threads[i], l, exports)
		if bad == "" {
			return threads[i].ID, nil, nil
		}
		why = fmt.Sprintf("thread %d, which sleeps, %s", threads[i].ID, bad)
	}
	return 0, finding.Refuse(finding.Busy, "no thread of the program can load a library now: "+why,
		"try again when a thread waits, for input or for time; or "+preload), nil
}

// exports are where the functions are that the C library exports, and whether they
// are sleepers.
func (l *Library) exports() map[uint64]bool {
	at := make(map[uint64]bool)
	for _, s := range l.libc.Symbols() {
		if s.Dynamic && s.Type == elf.STT_FUNC {
			at[s.Addr] = false
		}
	}
	for _, name := range sleepers {
		for _, s := range l.libc.Named(name) {
			at[s.Addr] = true
		}
	}
	return at
}

// unfit says why a thread that sleeps can't call dlopen, "" if it can. Every frame
// of its stack must be known. What the C library does not export has no name: it
// counts for the exported function that it was called by, or for the library's own
// outermost frames.
func (r *Runtime) unfit(t *process.Thread, l *Library, exports map[uint64]bool) string {
	regs, exact := registers(t), true
	unnamed := "" // the innermost frame of the library that nobody has answered for
	for range maxFrames {
		pc := regs.PC()
		at := pc
		if !exact {
			at--
		}
		o := r.object(at)
		switch {
		case o == nil:
			return fmt.Sprintf("has a frame at %#x, in no code that is known", pc)
		case strings.HasPrefix(o.Name(), "ld-"):
			return "is in the dynamic linker"
		case o == l.libc:
			s, named := o.FunctionAt(at)
			wait, exported := false, false
			if named {
				wait, exported = exports[s.Addr]
			}
			switch {
			case wait:
				unnamed = ""
			case exported:
				return fmt.Sprintf("is in %s of the C library, which may hold a lock", s.Name)
			default:
				unnamed = r.nameAt(pc, exact)
			}
		case unnamed != "":
			return fmt.Sprintf("is in %s of the C library, which may hold a lock", unnamed)
		}
		for _, a := range l.allocators {
			if o == a {
				return fmt.Sprintf("is in %s, which has a malloc", o.Name())
			}
		}
		step, err := r.step(&regs, exact)
		switch {
		case err != nil:
			return fmt.Sprintf("has a frame in %s that can't be walked", r.nameAt(pc, exact))
		case step.Signal:
			return "handles a signal"
		case step.Last:
			return ""
		case step.Caller.SP() <= regs.SP():
			return fmt.Sprintf("has a frame in %s that can't be walked", r.nameAt(pc, exact))
		}
		regs, exact = step.Caller, false
	}
	return "has a stack without end"
}

// Left tells whether the thread of a diversion has left its code, and the
// functions that run before it. The stack of one that was interrupted by a signal
// leads there.
func (r *Runtime) Left(h *process.Halt, d *process.Diversion) (bool, error) {
	threads, err := h.Threads()
	if err != nil {
		return false, err
	}
	for i := range threads {
		t := &threads[i]
		if t.ID != d.Thread {
			continue
		}
		regs, exact := registers(t), true
		for range maxFrames {
			if d.Holds(regs.PC()) || d.Holds(regs.SP()) {
				return false, nil
			}
			step, err := r.step(&regs, exact)
			if err != nil {
				return false, nil
			}
			if step.Last {
				return true, nil
			}
			regs, exact = step.Caller, step.Signal
		}
		return false, nil
	}
	return true, nil // it has ended
}
