package process

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"github.com/go-delve/delve/pkg/proc"
	_ "github.com/go-delve/delve/pkg/proc/native" // the backend that execPtraceFunc is part of
	"golang.org/x/sys/unix"
)

// Linux takes ptrace requests only from the thread that attached, and Delve
// keeps that thread to itself. What Delve exports can't do a system call in
// the target without risk: its single step keeps one signal of all that arrive
// and drops the others. And it overlooks threads that are made while it
// attaches, which then run on untraced and die of the next SIGTRAP. And it reads
// memory by the thread that reported the last stop, when it stops the target
// again too, when that thread may have ended. So this file, and no other, reaches in
// for two methods and a field. If Delve renames a method the link fails, and tracerOf
// refuses a backend that is not the native one or has no such field.

//go:linkname execPtraceFunc github.com/go-delve/delve/pkg/proc/native.(*nativeProcess).execPtraceFunc
func execPtraceFunc(dbp unsafe.Pointer, fn func())

//go:linkname updateThreadList github.com/go-delve/delve/pkg/proc/native.(*nativeProcess).updateThreadList
func updateThreadList(dbp unsafe.Pointer) error

// ptracer runs ptrace requests for one stopped target.
type ptracer struct {
	native unsafe.Pointer // *native.nativeProcess
	pid    int
}

func tracerOf(t *proc.Target) (ptracer, error) {
	v := reflect.ValueOf(t.Process)
	if name := v.Type().String(); name != "*native.nativeProcess" {
		return ptracer{}, fmt.Errorf("the debugger's backend is %s, not the native one", name)
	}
	if f := memthread(t); !f.IsValid() || f.Type().String() != "*native.nativeThread" {
		return ptracer{}, errors.New("the debugger's backend has no field memthread")
	}
	return ptracer{v.UnsafePointer(), t.Pid()}, nil
}

// memthread is the field of the native backend that holds the thread by which it reads
// the target's memory.
func memthread(t *proc.Target) reflect.Value {
	return reflect.ValueOf(t.Process).Elem().FieldByName("memthread")
}

// ReadByLeader has Delve read the target's memory by its first thread, which ends last
// as a rule, until the next stop is reported. The target must be stopped; for one that has ended
// nothing is done.
func ReadByLeader(t *proc.Target) {
	valid, _ := t.Valid()
	leader, ok := t.FindThread(t.Pid())
	if !valid || !ok || !threadLives(t.Pid()) {
		return
	}
	f := memthread(t)
	if !f.IsValid() || f.Type() != reflect.TypeOf(leader) {
		return // tracerOf says so
	}
	reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem().Set(reflect.ValueOf(leader))
}

// do runs fn on the tracer thread. The target must be valid and stopped.
func (t ptracer) do(fn func()) { execPtraceFunc(t.native, fn) }

// findThreads makes Delve trace the threads that it overlooked. The target must
// be stopped as far as Delve knows.
func (t ptracer) findThreads(target *proc.Target) error {
	const tries = 100 // a thread that runs may make others
	var err error
	for range tries {
		tasks, rerr := os.ReadDir(procPath(t.pid, "task"))
		if rerr != nil {
			return exited(t.pid, rerr)
		}
		if !slices.ContainsFunc(tasks, func(e os.DirEntry) bool {
			tid, err := strconv.Atoi(e.Name())
			_, known := target.FindThread(tid)
			return err == nil && !known && threadLives(tid)
		}) {
			return nil
		}
		err = updateThreadList(t.native) // fails for a thread that ends meanwhile
	}
	return fmt.Errorf("process %d makes threads faster than they can be attached to: %w", t.pid, err)
}

// The requests below must run inside do.

// anySignal is a signal set with every signal in it.
const anySignal = ^uint64(0)

func sigset(s unix.Signal) uint64 { return 1 << (uint(s) - 1) }

func ptrace(request, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// signalMask returns the signals the thread blocks: outside of a system call
// that changes them for its own duration, if it is in one.
func signalMask(tid int) (set uint64, err error) {
	err = ptrace(unix.PTRACE_GETSIGMASK, tid, unsafe.Sizeof(set), unsafe.Pointer(&set))
	return set, err
}

func setSignalMask(tid int, set uint64) error {
	return ptrace(unix.PTRACE_SETSIGMASK, tid, unsafe.Sizeof(set), unsafe.Pointer(&set))
}

// siginfo is the start of the kernel's siginfo_t on amd64, of a signal sent by
// a process.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	_                     [104]byte
}

// fromUs tells whether this process caused the signal, or the tracer that was before it:
// by kill or tgkill, as Delve does to stop threads, or by attaching. To a process in
// a namespace of its own who is outside of it has the number 0.
func (i *siginfo) fromUs() bool {
	const siUser, siTkill, siKernel = 0, -6, 0x80
	if i.signo == int32(unix.SIGSTOP) && i.code == siKernel {
		return true
	}
	return (i.code == siUser || i.code == siTkill) && (i.pid == 0 || int(i.pid) == unix.Getpid() || int(i.pid) == predecessor)
}

// predecessor is the process that has traced the target before this one, which is its
// guardian; 0 if this one is none.
var predecessor int

// stopInfo returns the signal that stopped the thread. It fails with EINVAL if
// job control did, and with ESRCH if the thread is not stopped.
func stopInfo(tid int) (info siginfo, err error) {
	err = ptrace(unix.PTRACE_GETSIGINFO, tid, 0, unsafe.Pointer(&info))
	return info, err
}

// waitStop waits until the thread stops, and takes the stop; a death is left
// for Delve to see, and reported as ESRCH. For a thread group's leader it polls:
// if that was killed, a blocking wait returns only after every other thread has
// been reaped.
func waitStop(pid, tid int) (unix.WaitStatus, error) {
	options := unix.WEXITED | unix.WSTOPPED | unix.WNOWAIT | unix.WALL
	if tid == pid {
		options |= unix.WNOHANG
	}
	for try := 0; ; try++ {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, tid, &info, options, nil)
		switch {
		case err == unix.EINTR:
		case err == unix.ECHILD:
			return 0, unix.ESRCH
		case err != nil:
			return 0, err
		case info.Signo == 0: // not yet
			if try%100 == 99 && !threadLives(tid) {
				return 0, unix.ESRCH
			}
			time.Sleep(20 * time.Microsecond)
		case info.Code == cldExited || info.Code == cldKilled || info.Code == cldDumped:
			return 0, unix.ESRCH
		default:
			var status unix.WaitStatus
			_, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
			return status, err
		}
	}
}

// Codes of SIGCHLD, see sigaction(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)
