// Package resident is a thread of Darn's in the target, which does there on
// request what otherwise takes a halt: it maps memory, protects it and stores
// into code, while the program's own threads run and take no notice.
//
// The thread is made under a halt, out of one of the program's, and then sleeps
// until it is asked. It is untraced: neither Delve nor a halt stops it. Every
// signal is blocked in it; nobody waits for it, and it waits for nobody. What it
// does is in code_amd64.s: a list of system calls and compare-and-exchanges.
//
// Its life is bound to Darn's. It ends when it is told to, and by itself about a
// second after Darn has ended, however that came: Darn holds a lock on the memfd,
// which the kernel then drops. And Darn ends it as soon as it is not like the
// program's other threads any more (watch.go).
package resident

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/process"
)

// ErrGone says that the thread has ended or does not answer and was told to: what
// was asked for was not done, and can be done under a halt.
var ErrGone = errors.New("there is no resident thread in the target any more")

// Resident is the thread. Its methods may be called from any goroutine, whether
// the target runs, is halted or has ended.
type Resident struct {
	p    *process.Process
	tid  int
	page page
	task atomic.Pointer[string] // its directory in /proc, once it was looked for
	stop chan struct{}          // closed when watch is to end
	once sync.Once              // for that
	over sync.WaitGroup

	mu    sync.Mutex
	ended bool // it is no more asked
}

// Start makes the thread in a halted target that has an arena. What it fails for
// leaves the target as it was, but for a part of the arena: without the thread all
// goes on under halts.
func Start(h *process.Halt, a *arena.Arena) (*Resident, error) {
	if data, err := os.ReadFile("/sys/fs/selinux/enforce"); err == nil && string(data) == "1" {
		// It may forbid to make code executable again that was written to, when
		// that is the case already.
		return nil, errors.New("SELinux is enforcing")
	}
	if err := h.Process().CheckSystemCalls(); err != nil {
		return nil, err
	}
	seat, err := a.Seat()
	if err != nil {
		return nil, err
	}
	r := &Resident{p: h.Process(), page: seat.Page, stop: make(chan struct{})}
	if err := r.vacant(); err != nil {
		return nil, err
	}
	if err := a.Furnish(h, code()); err != nil {
		return nil, err
	}
	// So that every core that the program runs on has seen what was stored.
	if _, err := h.Syscall(unix.SYS_MEMBARRIER, registerSyncCore, 0, 0); err != nil {
		return nil, fmt.Errorf("membarrier: %w", err)
	}
	r.page.clear(r.p.Pid(), seat.File, seat.Lock)
	if r.tid, err = h.Spawn(seat.Code, seat.Control, seat.Control+tlsAt, seat.Control+tidAt); err != nil {
		return nil, err
	}
	r.over.Go(r.watch)
	return r, nil
}

// Commands of membarrier(2).
const (
	syncCore         = 1 << 5
	registerSyncCore = 1 << 6
)

// ErrOccupied says that another Darn's thread sits where the new one would.
var ErrOccupied = errors.New("the resident thread of another Darn is still there")

// vacant returns ErrOccupied if there is a thread already that lives.
func (r *Resident) vacant() error {
	tid := r.page.tid()
	if tid == 0 {
		return nil
	}
	// It may be of a process that this one was forked from, and lives there.
	if process.FindTask(int(r.page.word(pidAt).Load()), tid) == "" {
		return nil
	}
	return ErrOccupied
}

// Evict ends the thread that a Darn that was killed has left in the process with
// the arena, if there is one, and waits for that a moment. A thread that is traced
// ends when the target runs. An error says that it is still there.
func Evict(p *process.Process, a *arena.Arena) error {
	seat, err := a.Seat()
	if err != nil {
		return err
	}
	r := &Resident{p: p, page: seat.Page}
	if r.vacant() == nil || int(r.page.word(pidAt).Load()) != p.Pid() {
		return nil
	}
	r.tid = r.page.tid()
	return r.leave(evictPatience)
}

// Fit tells whether the thread can be asked: it has not ended, and it has the
// rights that the program has.
func (r *Resident) Fit() bool {
	r.mu.Lock()
	fit := !r.ended && r.page.tid() != 0
	r.mu.Unlock()
	return fit && r.alike()
}

// End ends the thread and returns when it has ended, or the target has. An error
// says that it has not in good time: then its place must stay as it is, and End
// may be called again. After that the Resident can't be used.
func (r *Resident) End() error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.once.Do(func() { close(r.stop) })
	r.over.Wait()
	return r.leave(endPatience)
}

// endPatience is for how long the end of a thread is waited for, which takes
// microseconds unless the target is frozen.
const endPatience = 5 * time.Second

// evictPatience is for a thread that may be stopped by a tracer.
const evictPatience = 200 * time.Millisecond

// leave tells the thread to go, and waits for it.
func (r *Resident) leave(patience time.Duration) error {
	p, begun := r.page, time.Now()
	for ; p.tid() != 0; time.Sleep(50 * time.Microsecond) {
		// It may have been at work for a Darn that was killed, and answer that.
		if p.state().Swap(leaving) != leaving {
			p.wake()
		}
		if !r.p.Alive() {
			return nil
		}
		passed := time.Since(begun)
		if passed > promptly {
			r.unstop()
		}
		if passed > patience {
			return fmt.Errorf("thread %d in process %d does not end", r.tid, r.p.Pid())
		}
	}
	return nil
}

// promptly is within what time a thread that runs does what it is told to, mostly: it
// is looked at after that only.
const promptly = 10 * time.Millisecond

// unstop has the thread run if a signal has stopped the process while a tracer, which
// is this process, lets all other threads go on: nobody else would.
func (r *Resident) unstop() {
	if task := r.directory(); task != "" {
		r.p.Unstop(task)
	}
}

// directory returns the thread's directory in /proc, "" if it has ended. It is looked
// for once: a program may have thousands of threads to look through.
func (r *Resident) directory() string {
	if known := r.task.Load(); known != nil {
		return *known
	}
	dir := process.FindTask(r.p.Pid(), r.tid)
	if dir != "" {
		r.task.Store(&dir)
	}
	return dir
}

const (
	// askPatience is for how long it is waited until the thread takes up what it
	// is asked: it does not while job control has stopped the program.
	askPatience = 2 * time.Second
	// workPatience is for how long it may take over that.
	workPatience = time.Minute
)

// ask has requests made. It returns ErrGone if none was.
func (r *Resident) ask(requests []request) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.page
	if r.ended || p.tid() == 0 || !r.p.Alive() {
		return ErrGone
	}
	if len(requests) > maxRequests {
		return fmt.Errorf("%d requests at once", len(requests))
	}
	p.put(requests)
	if !p.state().CompareAndSwap(idle, asked) {
		return ErrGone
	}
	p.wake()
	begun := time.Now()
	for {
		state := p.state().Load()
		if state == answered {
			break
		}
		p.await(state, promptly)
		passed := time.Since(begun)
		if passed > promptly {
			r.unstop()
		}
		switch {
		case !r.p.Alive() || p.tid() == 0:
			return ErrGone // the target has ended, or executes another program
		case state == asked && passed > askPatience && p.state().CompareAndSwap(asked, idle):
			return ErrGone
		case passed > workPatience:
			return fmt.Errorf("thread %d in process %d does not answer", r.tid, r.p.Pid())
		}
	}
	p.take(requests)
	p.state().Store(idle)
	return nil
}

// Syscall implements process.Caller. It may block for as long as the system call
// does. It returns ErrGone if the call was not made.
func (r *Resident) Syscall(nr uintptr, args ...uint64) (uint64, error) {
	q := []request{{number: uint32(nr)}}
	if n := copy(q[0].args[:], args); n < len(args) {
		return 0, fmt.Errorf("system call %d with %d arguments", nr, len(args))
	}
	if err := r.ask(q); err != nil {
		return 0, err
	}
	return uint64(q[0].result), q[0].err()
}

// err returns why a request has failed, nil if it has not.
func (q *request) err() error {
	if q.result < 0 && q.result >= -4095 {
		return unix.Errno(-q.result)
	}
	return nil
}
