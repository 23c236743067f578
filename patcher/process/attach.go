package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/pkg/proc/native"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/fault"
)

// Attach traces a process by Delve's native backend, without a debug session,
// and lets it run again before it returns. The process is stopped while Delve
// reads its debug information. No breakpoint is left in it, not even Delve's
// own.
//
// It's refused with target-exited if there is no such process, with busy if
// another program traces it, with wrong-state if job control has stopped it,
// and with unsupported-target if it belongs to somebody else or is no
// linux/amd64 program. Close it after use. While a process is attached, this
// process must have no other child that it waits for: Delve waits for all. A Watch
// of another Darn's on the process is ended.
func Attach(pid int) (*Process, error) { return AttachAnd(pid, nil) }

// AttachAnd is Attach, and calls fn, if not nil, when the process is traced and
// still stopped. What fn does counts to the halt that Attach is; Halt of the
// Process makes none of its own meanwhile.
func AttachAnd(pid int, fn func(*Halt)) (p *Process, err error) {
	EndWatch(pid)
	guard, _ := StartGuard(pid) // it goes without, and says below why it may not be traced
	defer func() {
		if err != nil {
			guard.Close()
		}
	}()
	if err := checkTarget(pid); err != nil {
		return nil, err
	}
	if err := awaitStoppable(context.Background(), pid); err != nil {
		return nil, err
	}
	begun := time.Now()
	group, err := native.Attach(pid, nil, debugInfoDirectories())
	for try := 0; RetryAttach(pid, err, try); try++ {
		group, err = native.Attach(pid, nil, debugInfoDirectories())
	}
	if err != nil {
		return nil, attachError(pid, err)
	}
	fault.Point()
	threads := len(group.ThreadList())
	if p, err = adopt(group, fn); err != nil {
		return nil, attachError(pid, errors.Join(err, release(group)))
	}
	p.guard = guard
	stopped := time.Since(begun)
	p.attached = HaltStats{Halts: 1, Total: stopped, Max: stopped, ThreadsHalted: threads, Because: "it is attached to"}
	return p, nil
}

// attachTries is how often more it is tried to attach to a process whose threads come
// and go.
const attachTries = 20

// RetryAttach tells whether to attach to a process once more, after an attempt of Delve's,
// the one with that number after the first, that ended with err: a thread has ended in the
// instant in which Delve attached to it. Then it waits for a moment, and has the
// process go on if it was left stopped.
func RetryAttach(pid int, err error, try int) bool {
	ended := isErrno(err, unix.ECHILD) || isErrno(err, unix.ESRCH) ||
		err != nil && strings.Contains(err.Error(), "thread already exited")
	if !ended || !threadLives(pid) || doomed(pid) {
		return false
	}
	time.Sleep(time.Millisecond << min(try, 4))
	if tracedByUs(pid) {
		return false // Delve has given up without letting go of it
	}
	if s, err := readStatus(pid); err == nil && strings.HasPrefix(s["State"], "T") {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	return try < attachTries
}

// debugInfoDirectories is where Delve looks for the debug information of a
// stripped program.
func debugInfoDirectories() []string {
	if dir := exe.CompanionDir(); dir != "" {
		return []string{dir}
	}
	return nil
}

// AttachHalt is the halt that Attach was, of which the most goes into reading
// debug information; zero for a Process of New, whose caller attached.
func (p *Process) AttachHalt() HaltStats { return p.attached }

// adopt makes a Process of a target just attached to, calls fn, and lets it run.
func adopt(group *proc.TargetGroup, fn func(*Halt)) (*Process, error) {
	target := group.Selected
	tracer, err := tracerOf(target)
	if err != nil {
		return nil, err
	}
	// Delve sets breakpoints where a Go program panics and a C program loads
	// libraries. Nobody here wants to know, and without them a Darn that is
	// killed leaves a target that is whole.
	for addr := range target.Breakpoints().M {
		if err := clearBreakpoint(target, addr); err != nil {
			return nil, err
		}
	}
	journalOf(target.Pid()).bare()
	own := newTracer(group)
	p, err := newProcess(target, own)
	if err != nil {
		return nil, err
	}
	p.own = own
	tracer.returnSignals(target.ThreadList())
	if err := DrainTraps(group); err != nil {
		p.closeMemory()
		return nil, exited(p.pid, err)
	}
	h := p.standing(group, tracer)
	_ = h.protect() // the guardian does what it can without
	if fn != nil {
		fn(h)
	}
	if err := h.end(); err != nil {
		p.closeMemory()
		return nil, exited(p.pid, err)
	}
	own.last = func() {
		h := p.standing(group, tracer)
		_ = h.unprotect() // else the guardian does it
		_ = h.end()
	}
	fault.Point()
	own.resume()
	go Unstick(target, own.done)
	fault.Point()
	return p, nil
}

// clearBreakpoint removes a breakpoint of Delve's own too. Delve leaves the one by
// which it learns of libraries where it is, also when it detaches: the program
// would die of it in its next dlopen.
func clearBreakpoint(target *proc.Target, addr uint64) error {
	for _, b := range target.Breakpoints().M[addr].Breaklets {
		if b != nil && b.Kind == proc.SharedLibBreakpoint {
			b.Kind = proc.UserBreakpoint
		}
	}
	return target.ClearBreakpoint(addr)
}

// release detaches from a target that stays stopped until then.
func release(group *proc.TargetGroup) error {
	if err := DrainTraps(group); err != nil && finding.CodeOf(err) != finding.TargetExited {
		return err
	}
	pid := group.Selected.Pid()
	err := group.Detach(false)
	// A thread that was cloned while Delve stopped the others may have kept
	// Delve's SIGSTOP, which stops the whole process once nobody traces it.
	for range 10 {
		if s, err := readStatus(pid); err != nil || !strings.HasPrefix(s["State"], "T") {
			break
		}
		_ = unix.Kill(pid, unix.SIGCONT)
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil && tracedByUs(pid) && !ends(pid, false, processLives) {
		return fmt.Errorf("detaching from process %d: %w", pid, err)
	}
	return nil
}

// tracedByUs tells whether a thread of this process traces the first one of another: the
// kernel tells the thread.
func tracedByUs(pid int) bool {
	s, err := readStatus(pid)
	if err != nil || s["TracerPid"] == "0" {
		return false
	}
	_, err = os.Stat("/proc/self/task/" + s["TracerPid"])
	return err == nil
}

// checkTarget refuses what can't be attached to, with a better reason than the
// kernel's EPERM.
func checkTarget(pid int) error {
	if pid <= 0 {
		return finding.Refuse(finding.TargetExited, fmt.Sprintf("%d is not a process id", pid), "give the id of a running process")
	}
	status, err := readStatus(pid)
	if errors.Is(err, fs.ErrNotExist) || err == nil && status["Tgid"] == "" {
		return finding.Refuse(finding.TargetExited, fmt.Sprintf("there is no process %d", pid), "give the id of a running process")
	}
	if err != nil {
		return err
	}
	if status["Tgid"] != strconv.Itoa(pid) {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("%d is a thread of process %s", pid, status["Tgid"]), "give the id of the process")
	}
	if err := checkOwner(pid, status, os.Geteuid()); err != nil {
		return err
	}
	switch state := status["State"]; {
	case strings.HasPrefix(state, "Z"), strings.HasPrefix(state, "X"):
		return exited(pid, nil)
	case status["TracerPid"] != "0":
		return tracedBy(pid, status["TracerPid"])
	case strings.HasPrefix(state, "T"):
		return finding.Refuse(finding.WrongState,
			fmt.Sprintf("process %d is stopped (by SIGSTOP or the terminal)", pid),
			fmt.Sprintf("let it go on with: kill -CONT %d", pid))
	}
	if _, err := readProgram(pid); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return notPermitted(pid)
		}
		return err
	}
	if err := checkDebugLink(pid); err != nil {
		return err
	}
	if trap, err := takesTrap(pid); err == nil && !trap {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("every thread of process %d blocks SIGTRAP, by which it would be halted", pid),
			"leave SIGTRAP out of the signals the program blocks")
	}
	return nil
}

// takesTrap tells whether some thread of the process has SIGTRAP unblocked.
func takesTrap(pid int) (bool, error) {
	tasks, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return false, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		status, err := readStatus(tid)
		if err != nil {
			continue // ended
		}
		blocked, err := strconv.ParseUint(status["SigBlk"], 16, 64)
		if err != nil {
			return false, err
		}
		if blocked&sigset(unix.SIGTRAP) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// tracedBy names the tracer, of which the kernel tells the thread.
func tracedBy(pid int, thread string) error {
	who := "process " + thread
	if tid, err := strconv.Atoi(thread); err == nil {
		if s, err := readStatus(tid); err == nil {
			comm, _ := os.ReadFile("/proc/" + s["Tgid"] + "/comm")
			who = fmt.Sprintf("process %s (%s)", s["Tgid"], strings.TrimSpace(string(comm)))
		}
	}
	return finding.Refuse(finding.Busy, fmt.Sprintf("process %d is already traced by %s", pid, who),
		"detach that debugger or tracer first: Linux allows one at a time")
}

// attachError turns Delve's error into a Refusal where a reason is known.
func attachError(pid int, err error) error {
	switch {
	case finding.CodeOf(err) != "":
		return err
	case errors.Is(err, unix.ESRCH), ends(pid, false, processLives):
		return exited(pid, err)
	case errors.Is(err, unix.EPERM):
		if cerr := checkTarget(pid); cerr != nil {
			return cerr
		}
		return notPermitted(pid)
	}
	if _, ok := errors.AsType[*proc.ErrBadBinaryInfo](err); ok {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the debug information of process %d can't be used: %v", pid, err),
			"build it anew, or give the file that it was before it was stripped with --symbols")
	}
	return fmt.Errorf("attaching to process %d: %w", pid, err)
}
