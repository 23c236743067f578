package process

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// counters reads "name=value" words.
func counters(s string) map[string]int {
	m := make(map[string]int)
	for _, w := range strings.Fields(s) {
		if k, v, ok := strings.Cut(w, "="); ok {
			m[k], _ = strconv.Atoi(v)
		}
	}
	return m
}

// mustGoOn fails the test unless each kind of work of a Go server goes on.
func mustGoOn(t testing.TB, target *targettest.Target, kinds ...string) {
	t.Helper()
	before := counters(target.Get("/check"))
	for _, k := range kinds {
		targettest.Eventually(t, k+" go on", func() bool {
			target.MustLive()
			return counters(target.Get("/check"))[k] > before[k]
		})
	}
}

// lastCounters reads the last full line a C target has printed.
func lastCounters(target *targettest.Target) map[string]int {
	lines := strings.Split(target.Output(), "\n")
	if len(lines) < 2 {
		return nil
	}
	return counters(lines[len(lines)-2])
}

// mustCount fails the test unless each kind of work of a C target goes on.
func mustCount(t testing.TB, target *targettest.Target) {
	t.Helper()
	before := lastCounters(target)
	for _, k := range []string{"rounds", "waits", "alarms"} {
		targettest.Eventually(t, k+" go on", func() bool {
			target.MustLive()
			return lastCounters(target)[k] > before[k]
		})
	}
}

const manySyscalls = 1000

// callMany does remote system calls of which the result is known, some in each
// halt.
func callMany(t *testing.T, p *Process, each func(i int)) {
	t.Helper()
	for i := 0; i < manySyscalls; {
		halt(t, p, func(h *Halt) {
			for range 20 {
				pid, err := h.Syscall(unix.SYS_GETPID)
				if err != nil || pid != uint64(p.Pid()) {
					t.Fatalf("call %d: getpid gave %d, %v", i, pid, err)
				}
				i++
			}
		})
		each(i)
	}
}

func TestSyscallsDoNotDisturbAGoServer(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	callMany(t, p, func(int) { target.MustLive() })
	mustGoOn(t, target, "rounds", "reads", "sleeps", "passes", "alarms")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	mustGoOn(t, target, "rounds", "reads", "sleeps", "passes", "alarms")
}

func TestSyscallsLoseNoSignal(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	sent, sum := 0, 0
	callMany(t, p, func(i int) {
		target.MustLive()
		for range 5 {
			sent++
			sum += i
			queueSignal(t, target.Pid(), unix.Signal(34), i)
		}
	})
	targettest.Eventually(t, "every queued signal has come", func() bool {
		target.MustLive()
		now := lastCounters(target)
		return now["queued"] == sent && now["sum"] == sum
	})
	mustCount(t, target)
}

// queueSignal sends a real-time signal with a value; none of them merge.
func queueSignal(t *testing.T, pid int, s unix.Signal, value int) {
	t.Helper()
	const siQueue = -1
	info := struct {
		signo, errno, code, _ int32
		pid, uid              int32
		value                 int64
		_                     [96]byte
	}{signo: int32(s), code: siQueue, pid: int32(os.Getpid()), uid: int32(os.Getuid()), value: int64(value)}
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(s), uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		t.Fatal(errno)
	}
}

func TestSyscallReturnsTheErrorOfTheKernel(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		if _, err := h.Syscall(unix.SYS_CLOSE, 1<<20); !errors.Is(err, unix.EBADF) {
			t.Errorf("close of no descriptor: %v", err)
		}
		if _, err := h.Syscall(unix.SYS_MMAP, 1, 2, 3, 4, 5, 6); !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBADF) {
			t.Errorf("mmap of nonsense: %v", err)
		}
	})
	mustCount(t, target)
}

func TestSyscallRestoresEveryRegisterAndTheMask(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		for _, tid := range h.threadIDs() {
			var before, after unix.PtraceRegs
			var maskBefore, maskAfter uint64
			h.tracer.do(func() {
				_ = unix.PtraceGetRegs(tid, &before)
				maskBefore, _ = signalMask(tid)
			})
			h.tid = tid
			if _, err := h.Syscall(unix.SYS_GETTID); err != nil {
				t.Fatal(err)
			}
			h.tracer.do(func() {
				_ = unix.PtraceGetRegs(tid, &after)
				maskAfter, _ = signalMask(tid)
			})
			if before != after {
				t.Errorf("thread %d: registers\n%+v\nwere\n%+v", tid, after, before)
			}
			if maskBefore != maskAfter {
				t.Errorf("thread %d blocks %#x, did block %#x", tid, maskAfter, maskBefore)
			}
		}
	})
}

func TestSyscallOnEveryThread(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	for range 50 {
		halt(t, p, func(h *Halt) {
			for _, tid := range h.threadIDs() {
				h.tid = tid
				if got, err := h.Syscall(unix.SYS_GETTID); err != nil || got != uint64(tid) && h.tid == tid {
					t.Fatalf("gettid on thread %d gave %d, %v", tid, got, err)
				}
			}
		})
		target.MustLive()
	}
}

func BenchmarkSyscall(b *testing.B) {
	target := goServer(b)
	p := attach(b, target)
	halt(b, p, func(h *Halt) {
		for b.Loop() {
			if _, err := h.Syscall(unix.SYS_GETPID); err != nil {
				b.Fatal(err)
			}
		}
	})
}
