package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"golang.org/x/sys/unix"
)

// Watch looks on as processes go on, and keeps what can be seen of the end of one
// that ends: it traces them, but stops no thread except where the kernel does
// that for a tracer, when a signal is delivered, which goes on to the process as
// it is, and when a thread ends. If Darn itself ends meanwhile the processes go
// on.
type Watch struct {
	watched []*watched
	threads map[int]*watched // those that are traced
	asked   *asked           // newcomers; nil if they can't be heard

	begun, stop, done chan struct{} // closed by Begin, Close and the thread that traces
}

// watched is one process.
type watched struct {
	pid    int
	pidfd  int
	exe    *os.File
	ended  *End
	last   *Snapshot // what may have been the end of it
	traced bool
}

// End is how a process ended.
type End struct {
	PID  int
	Time time.Time
	// Known is false if the kernel did not tell.
	Known  bool
	Signal unix.Signal // that ended it, 0 if it has exited
	Status int         // with which it exited
	// Last is the thread that ended it, as it last was; nil if it was not seen.
	Last *Snapshot
	// Exe is a path at which the program's file can be read until the Watch is
	// closed.
	Exe string
}

// String says it in words: "was ended by SIGSEGV".
func (e *End) String() string {
	switch {
	case !e.Known:
		return "has ended"
	case e.Signal != 0:
		return "was ended by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("has exited with status %d", e.Status)
}

// Crashed tells whether the process seems to have ended against its own will, or
// everybody's: not with status 0, nor by a signal with which others end a process
// (or as shells report that, in the status).
func (e *End) Crashed() bool {
	asked := []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGKILL, unix.SIGTERM, unix.SIGPIPE}
	switch {
	case !e.Known:
		return true
	case e.Signal != 0:
		return !slices.Contains(asked, e.Signal)
	}
	return e.Status != 0 && !slices.Contains(asked, unix.Signal(e.Status-128))
}

// Snapshot is a thread at one moment.
type Snapshot struct {
	Thread    int
	Signal    unix.Signal // that it was about to get; 0: it was about to exit
	Address   uint64      // that it could not access, for SIGSEGV and SIGBUS
	Registers []Register
	PC        uint64
	// Returns are the words on its stack that follow a call in executable memory:
	// where it would return to, and leftovers, innermost first.
	Returns []uint64
	Maps    []Mapping
}

// Register is one of a thread's registers.
type Register struct {
	Name  string
	Value uint64
}

// NewWatch begins to keep an eye on processes: that the id of one is given to
// another from now on does not matter. Those that have ended are left out. Close
// it after use.
func NewWatch(pids ...int) *Watch {
	w := &Watch{threads: make(map[int]*watched), begun: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		exe, err := os.Open(procPath(pid, "exe"))
		if err != nil {
			unix.Close(fd)
			continue
		}
		w.watched = append(w.watched, &watched{pid: pid, pidfd: fd, exe: exe})
	}
	return w
}

// Close lets go of what the Watch holds. The processes aren't traced any more.
func (w *Watch) Close() {
	w.end()
	for _, p := range w.watched {
		unix.Close(p.pidfd)
		p.exe.Close()
	}
	w.watched = nil
}

// Begin begins to trace the processes, and returns when it does. From now on this
// process must not attach to another one: Delve would take the Watch's share of
// what the kernel has to tell. Refused with busy if somebody else traces one of
// them; of that only the end is seen, as of one that may not be traced.
func (w *Watch) Begin() error {
	if isClosed(w.begun) {
		return nil
	}
	close(w.begun)
	w.asked = listen()
	ready := make(chan struct{})
	go func() {
		defer close(w.done)
		onThread(func() { w.run(ready) })
	}()
	<-ready
	for _, p := range w.watched {
		if s, err := readStatus(p.pid); err == nil && s["TracerPid"] != "0" && !isOwnThread(s["TracerPid"]) {
			return tracedBy(p.pid, s["TracerPid"])
		}
	}
	return nil
}

// Run looks on until the time is over, ctx ends, another Darn wants a process or
// all have ended, and returns the ends that there were. It begins to if Begin has
// not. Nobody else may trace the processes meanwhile; of one that somebody does
// trace, or that may not be, only the end is seen.
func (w *Watch) Run(ctx context.Context, d time.Duration) []*End {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = w.Begin() // says who traces a process
	select {
	case <-ctx.Done():
	case <-w.asked.heard():
	case <-w.done:
	}
	w.end()
	var ends []*End
	for _, p := range w.watched {
		if p.ended != nil {
			ends = append(ends, p.ended)
		}
	}
	return ends
}

// Asked says who wanted a process, so that Run has ended; "" if nobody did.
func (w *Watch) Asked() string { return w.asked.who() }

// end ends the tracing, and lets newcomers know.
func (w *Watch) end() {
	if !isClosed(w.begun) || isClosed(w.stop) {
		return
	}
	close(w.stop)
	<-w.done
	// The kernel lets go of the threads when the one that traces them ends, which
	// is soon.
	for end := time.Now().Add(time.Second); w.stillTraced() && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond)
	}
	w.asked.answer()
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// onThread runs f on a thread that ends with it. The process's first thread does
// not: when a goroutine that keeps it to itself ends it sleeps for good.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			onThread(f)
			return
		}
		f()
	}()
	<-done
}

// stillTraced tells whether this process traces one of those.
func (w *Watch) stillTraced() bool {
	for _, p := range w.watched {
		if !p.traced || p.ended != nil {
			continue
		}
		s, err := readStatus(p.pid)
		if err != nil {
			continue
		}
		if isOwnThread(s["TracerPid"]) {
			return true
		}
	}
	return false
}

// isOwnThread tells whether a thread is one of this process.
func isOwnThread(tid string) bool {
	s, err := readStatus(atoi(tid))
	return err == nil && s["Tgid"] == strconv.Itoa(os.Getpid())
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// tick bounds how long it takes until something is noticed of which no signal
// tells.
const tick = 10 * time.Millisecond

// run traces until stop is closed or all have ended. ready is closed when it does.
func (w *Watch) run(ready chan<- struct{}) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGCHLD)
	defer signal.Stop(changed)
	for _, p := range w.watched {
		w.seize(p)
	}
	close(ready)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		w.takeNotice()
		if !slices.ContainsFunc(w.watched, func(p *watched) bool { return p.ended == nil }) {
			return
		}
		select {
		case <-w.stop:
			return
		case <-changed:
		case <-ticker.C:
		}
	}
}

// seize makes this thread the tracer of a process, without stopping it.
func (w *Watch) seize(p *watched) {
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir(procPath(p.pid, "task"))
		if err != nil {
			return
		}
		for _, task := range tasks {
			tid := atoi(task.Name())
			if w.threads[tid] != nil {
				continue
			}
			if ptraceRequest(unix.PTRACE_SEIZE, tid, 0, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEEXIT) == nil {
				// Another process could have the number by now only if this one had ended.
				w.threads[tid], p.traced, again = p, true, true
			}
		}
	}
}

// takeNotice handles what the kernel has to tell.
func (w *Watch) takeNotice() {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOHANG|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || tid == 0 {
			break
		}
		w.threadChanged(tid, status)
	}
	for _, p := range w.watched {
		if p.ended == nil && readable(p.pidfd) {
			if w.threads[p.pid] == p {
				continue // the kernel is about to tell more
			}
			end := &End{}
			if status, ok := p.exitStatus(); ok {
				end.set(status)
			}
			p.end(end)
		}
	}
}

// exitStatus returns how a process has ended, whoever its parent is. One that has
// not taken notice yet leaves it in /proc, where the kernel shows it to those who
// might have traced the process.
func (p *watched) exitStatus() (unix.WaitStatus, bool) {
	stat, err := os.ReadFile(procPath(p.pid, "stat"))
	if status, ok := reapedExit(p.pidfd); ok {
		return status, true
	}
	// Not reaped: the number is still the process's. The name, in brackets, may hold
	// anything; the state is the first field after it, and the status the last.
	i := strings.LastIndexByte(string(stat), ')')
	if err != nil || i < 0 {
		return 0, false
	}
	fields := strings.Fields(string(stat[i+1:]))
	const fieldsBefore = 2 // pid and name
	if len(fields) < 52-fieldsBefore || fields[0] != "Z" || unix.PidfdSendSignal(p.pidfd, 0, nil, 0) != nil {
		return 0, false
	}
	return unix.WaitStatus(atoi(fields[52-fieldsBefore-1])), true
}

// set notes a wait status.
func (e *End) set(status unix.WaitStatus) {
	if e.Known = true; status.Signaled() {
		e.Signal = status.Signal()
	} else {
		e.Status = status.ExitStatus()
	}
}

// end notes how a process ended.
func (p *watched) end(e *End) {
	e.PID, e.Time, e.Last, e.Exe = p.pid, time.Now(), p.last, fmt.Sprintf("/proc/self/fd/%d", p.exe.Fd())
	p.ended = e
}

// threadChanged handles a thread that has stopped or ended, and lets it go on.
func (w *Watch) threadChanged(tid int, status unix.WaitStatus) {
	p := w.threads[tid]
	if p == nil {
		if p = w.owner(tid); p == nil {
			_ = unix.PtraceDetach(tid)
			return
		}
		w.threads[tid] = p
	}
	if !status.Stopped() {
		delete(w.threads, tid)
		if tid == p.pid {
			end := &End{}
			end.set(status)
			p.end(end)
		}
		return
	}
	sig, event := status.StopSignal(), int(status)>>16
	pass := unix.Signal(0)
	switch event {
	case 0:
		pass = sig
		if slices.Contains(deadly, sig) {
			p.last = takeSnapshot(p.pid, tid, sig)
		}
	case unix.PTRACE_EVENT_EXIT:
		// The thread that ends all is the first to end with a status; that of
		// others may be their own business.
		code, err := unix.PtraceGetEventMsg(tid)
		if err == nil && code != 0 && p.last == nil {
			p.last = takeSnapshot(p.pid, tid, 0)
		}
	case unix.PTRACE_EVENT_STOP:
		if slices.Contains([]unix.Signal{unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}, sig) {
			_ = ptraceRequest(unix.PTRACE_LISTEN, tid, 0, 0) // stopped by job control, and stays so
			return
		}
	}
	_ = unix.PtraceCont(tid, int(pass)) // fails if it was killed meanwhile
}

// deadly are the signals by which a program's own fault ends it.
var deadly = []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS}

// owner returns whose a new thread is.
func (w *Watch) owner(tid int) *watched {
	s, err := readStatus(tid)
	if err != nil {
		return nil
	}
	for _, p := range w.watched {
		if s["Tgid"] == strconv.Itoa(p.pid) {
			return p
		}
	}
	return nil
}

// maxStack is how much of a stack is looked at, in bytes, and maxReturns how many
// addresses are kept of it.
const (
	maxStack   = 64 << 10
	maxReturns = 64
)

// takeSnapshot looks at a stopped thread.
func takeSnapshot(pid, tid int, sig unix.Signal) *Snapshot {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return nil
	}
	s := &Snapshot{Thread: tid, Signal: sig, PC: regs.Rip, Registers: registers(&regs)}
	if sig == unix.SIGSEGV || sig == unix.SIGBUS {
		s.Address = faultAddress(tid)
	}
	s.Maps, _ = ReadMaps(pid)
	memory, err := os.Open(procPath(pid, "mem"))
	if err != nil {
		return s
	}
	defer memory.Close()
	i := slices.IndexFunc(s.Maps, func(m Mapping) bool { return m.Start <= regs.Rsp && regs.Rsp < m.End })
	if i < 0 {
		return s
	}
	stack := make([]byte, min(maxStack, s.Maps[i].End-regs.Rsp))
	n, _ := memory.ReadAt(stack, int64(regs.Rsp))
	for stack = stack[:n]; len(stack) >= 8 && len(s.Returns) < maxReturns; stack = stack[8:] {
		if at := binary.LittleEndian.Uint64(stack); s.executable(at) && followsCall(memory, at) {
			s.Returns = append(s.Returns, at)
		}
	}
	return s
}

func (s *Snapshot) executable(addr uint64) bool {
	i, ok := slices.BinarySearchFunc(s.Maps, addr, func(m Mapping, addr uint64) int {
		switch {
		case addr >= m.End:
			return -1
		case addr < m.Start:
			return 1
		}
		return 0
	})
	return ok && s.Maps[i].Perms[2] == 'x'
}

// longestCall is the length of an instruction that calls, without prefixes that
// compilers do not use.
const longestCall = 7

// followsCall tells whether the bytes before an address are a call.
func followsCall(memory *os.File, addr uint64) bool {
	b := make([]byte, longestCall)
	_, err := memory.ReadAt(b, int64(addr-longestCall))
	return err == nil && endsInCall(b)
}

// endsInCall tells whether the last of longestCall bytes may be an instruction
// that calls: e8 with 4 bytes, or ff /2.
func endsInCall(b []byte) bool {
	if b[longestCall-5] == 0xe8 {
		return true
	}
	for n := 2; n <= longestCall; n++ {
		if i := b[longestCall-n:]; i[0] == 0xff && i[1]>>3&7 == 2 && indirectLength(i[1:]) == n {
			return true
		}
	}
	return false
}

// indirectLength returns the length of ff /2 by its operand, of which b holds the
// bytes that there are: 0 if it is none.
func indirectLength(b []byte) int {
	mod, rm, n := b[0]>>6, b[0]&7, 2
	if mod == 3 {
		return n
	}
	base := rm
	if rm == 4 {
		if len(b) < 2 {
			return 0
		}
		n, base = n+1, b[1]&7
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, mod == 0 && base == 5:
		n += 4
	}
	return n
}

// registers names a thread's registers, as debuggers do.
func registers(r *unix.PtraceRegs) []Register {
	return []Register{
		{"rip", r.Rip}, {"rsp", r.Rsp}, {"rbp", r.Rbp}, {"rax", r.Rax}, {"rbx", r.Rbx}, {"rcx", r.Rcx}, {"rdx", r.Rdx},
		{"rsi", r.Rsi}, {"rdi", r.Rdi}, {"r8", r.R8}, {"r9", r.R9}, {"r10", r.R10}, {"r11", r.R11}, {"r12", r.R12},
		{"r13", r.R13}, {"r14", r.R14}, {"r15", r.R15}, {"eflags", r.Eflags}, {"fs_base", r.Fs_base},
	}
}

// ptraceRequest makes a request whose arguments are numbers.
func ptraceRequest(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// HowEnded says how the process ended that Attach attached to, if Darn has seen
// that; nil if it lives or was let go.
func (p *Process) HowEnded() *End {
	if p.own == nil {
		return nil
	}
	p.own.mu.Lock()
	defer p.own.mu.Unlock()
	return p.own.end
}

// endOf makes an End of what Delve says.
func endOf(err error, pid int) *End {
	e, ok := errors.AsType[proc.ErrProcessExited](err)
	if !ok {
		return nil
	}
	end := &End{PID: pid, Time: time.Now(), Known: true, Status: e.Status}
	if e.Status < 0 {
		end.Signal, end.Status = unix.Signal(-e.Status), 0
	}
	return end
}
