package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
)

// exited is the Refusal for a process that is no more.
func exited(pid int, cause error) error {
	how := "has ended"
	if e, ok := errors.AsType[proc.ErrProcessExited](cause); ok && e.Status != 0 {
		how = fmt.Sprintf("has ended with status %d", e.Status)
		if e.Status < 0 {
			how = fmt.Sprintf("was ended by signal %d", -e.Status)
		}
	}
	return finding.Refuse(finding.TargetExited, fmt.Sprintf("process %d %s", pid, how), "start the program again and attach to the new process")
}

// explain turns the error of something done to the target into target-exited
// if the target is no more, which is then the reason; other errors it returns
// as they are.
func (p *Process) explain(err error) error {
	if err == nil || finding.CodeOf(err) != "" {
		return err
	}
	if _, ok := errors.AsType[proc.ErrProcessExited](err); ok || ends(p.pid, errors.Is(err, unix.ESRCH), func(int) bool { return p.Alive() }) {
		return exited(p.pid, err)
	}
	if p.replaced() {
		return replacedItself(p.pid)
	}
	return err
}

// ends tells whether the process has ended, as lives says, or is about to: a thread
// that was stopped a moment ago and is gone is being killed, and so is one for which
// SIGKILL is pending. That takes a while on a busy machine, and is waited for.
func ends(pid int, gone bool, lives func(pid int) bool) bool {
	for deadline := time.Now().Add(10 * time.Second); lives(pid); time.Sleep(5 * time.Millisecond) {
		ending := gone || doomed(pid) || exiting(pid) && threadLives(pid)
		if !ending || time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// isErrno is errors.Is for errors of Delve's too, which keep of the kernel's the text
// at most.
func isErrno(err error, errno syscall.Errno) bool {
	return errors.Is(err, errno) || err != nil && strings.HasSuffix(err.Error(), errno.Error())
}

// Ended returns a Refusal target-exited if the process is no more or has replaced
// itself by another program, nil otherwise. The target may run or be stopped.
func (p *Process) Ended() error {
	if !p.Alive() {
		return exited(p.pid, nil)
	}
	if maps, err := p.Maps(); err == nil && len(maps) == 0 {
		return exited(p.pid, nil) // it gives its memory back before it is seen to be dead
	}
	if p.replaced() {
		return replacedItself(p.pid)
	}
	return nil
}

func replacedItself(pid int) error {
	return finding.Refuse(finding.TargetExited,
		fmt.Sprintf("process %d has replaced itself with another program", pid), "attach to it again")
}

// replaced tells whether the address space is gone, by an end or an exec.
func (p *Process) replaced() bool {
	_, err := p.memory.ReadAt(make([]byte, 1), int64(p.entry))
	return errors.Is(err, io.EOF)
}

// Alive tells whether the process has not ended; false after Close. It is the
// process that was attached to, not another that got its number.
func (p *Process) Alive() bool {
	p.mu.Lock()
	ended := p.pidfd < 0 || readable(p.pidfd)
	p.mu.Unlock()
	if ended {
		return false
	}
	return processLives(p.pid)
}

// processLives tells whether a process has a thread that has not ended. One whose
// threads all have is not seen as ended while they wait for a tracer to take notice;
// one whose first thread has is alive.
func processLives(pid int) bool {
	if threadLives(pid) {
		return true
	}
	tasks, _ := os.ReadDir(procPath(pid, "task"))
	return slices.ContainsFunc(tasks, func(e os.DirEntry) bool {
		tid, err := strconv.Atoi(e.Name())
		return err == nil && threadLives(tid)
	})
}

// doomed tells whether the process has a SIGKILL to die of.
func doomed(pid int) bool {
	s, err := readStatus(pid)
	if err != nil {
		return false
	}
	thread, _ := strconv.ParseUint(s["SigPnd"], 16, 64)
	process, _ := strconv.ParseUint(s["ShdPnd"], 16, 64)
	return (thread|process)&sigset(unix.SIGKILL) != 0
}

// readable tells whether a descriptor is: that of a process is when it has
// ended.
func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err != nil || n != 0
		}
	}
}

// threadLives tells whether the thread exists and is no zombie.
func threadLives(tid int) bool {
	s, err := readStatus(tid)
	return err == nil && s["State"] != "" && s["State"][0] != 'Z' && s["State"][0] != 'X'
}

// openMemory opens what identifies the process for good: its address space and
// the process itself.
func openMemory(pid int) (memory *os.File, pidfd int, err error) {
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		if err == unix.ESRCH {
			return nil, 0, exited(pid, nil)
		}
		return nil, 0, fmt.Errorf("opening process %d: %w", pid, err)
	}
	if memory, err = os.OpenFile(procPath(pid, "mem"), os.O_RDWR, 0); err != nil {
		unix.Close(pidfd)
		if errors.Is(err, os.ErrNotExist) {
			return nil, 0, exited(pid, nil)
		}
		return nil, 0, fmt.Errorf("opening the memory of process %d: %w", pid, err)
	}
	return memory, pidfd, nil
}
