package meter

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// StopAll stops every thread of a process that nobody traces, as plainly as
// ptrace can, calls fn, and lets them go. The test must not be tracing
// anything by Delve, which takes all news of all threads.
func StopAll(pid int, fn func()) error {
	tids, err := threads(pid)
	if err != nil {
		return err
	}
	return StopThreads(tids, fn)
}

// StopThreads is StopAll for some threads of a process.
func StopThreads(tids []int, fn func()) (err error) {
	// The kernel takes a thread for the tracer, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var seized []int
	signals := map[int]int{} // that were about to be delivered
	defer func() {
		for _, tid := range seized {
			if derr := detach(tid, signals[tid]); derr != nil && !errors.Is(derr, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("detaching from thread %d: %w", tid, derr))
			}
		}
	}()
	for _, tid := range tids {
		switch err := unix.PtraceSeize(tid); {
		case err == nil:
			seized = append(seized, tid)
		case !errors.Is(err, unix.ESRCH): // else it has ended
			return fmt.Errorf("tracing thread %d: %w", tid, err)
		}
	}
	for _, tid := range seized {
		if err := unix.PtraceInterrupt(tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stopping thread %d: %w", tid, err)
		}
	}
	for _, tid := range seized {
		if signals[tid], err = await(tid); err != nil {
			return fmt.Errorf("waiting for thread %d: %w", tid, err)
		}
	}
	fn()
	return nil
}

// await waits until a thread has stopped and returns the signal, if any, that it
// has stopped for.
func await(tid int) (signal int, err error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(tid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case status.Stopped() && status>>16 == 0:
			return int(status.StopSignal()), nil
		default:
			return 0, nil
		}
	}
}

func detach(tid, signal int) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(signal), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// threads returns the ids of a process's threads.
func threads(pid int) ([]int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var tids []int
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, err
		}
		tids = append(tids, tid)
	}
	return tids, nil
}
