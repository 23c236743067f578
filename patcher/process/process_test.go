package process

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"go/constant"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/debugger"
	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// lookup returns the address and size of a symbol in the process.
func lookup(t testing.TB, p *Process, name string) (addr, size uint64) {
	t.Helper()
	f, err := elf.Open(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return s.Value + p.LoadBias(), s.Size
		}
	}
	t.Fatalf("no symbol %s", name)
	panic("unreachable")
}

// programText reads the executable mappings of the program's own file.
func programText(t testing.TB, p *Process) []byte {
	t.Helper()
	exe, err := os.Readlink(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, m := range maps {
		if m.Path == exe && strings.HasPrefix(m.Perms, "r-x") {
			b := make([]byte, m.End-m.Start)
			if err := p.ReadMemory(b, m.Start); err != nil {
				t.Fatal(err)
			}
			text = append(text, b...)
		}
	}
	if len(text) == 0 {
		t.Fatal("the program has no text")
	}
	return text
}

// fileText returns what a process has of the text of every file, the dynamic
// linker and libraries among them.
func fileText(t testing.TB, pid int) []byte {
	t.Helper()
	maps, err := ReadMaps(pid)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(procPath(pid, "mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	var text []byte
	for _, m := range maps {
		if strings.HasPrefix(m.Path, "/") && strings.HasPrefix(m.Perms, "r-x") {
			b := make([]byte, m.End-m.Start)
			if _, err := memory.ReadAt(b, int64(m.Start)); err != nil {
				t.Fatal(err)
			}
			text = append(text, b...)
		}
	}
	return text
}

func TestAttachAndCloseLeaveTheTargetAsItWas(t *testing.T) {
	for _, source := range []string{"goserver", "cthreads.c"} {
		t.Run(source, func(t *testing.T) {
			target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, source)})
			target.Line(map[string]string{"goserver": "addr ", "cthreads.c": "rounds="}[source])
			file, err := os.ReadFile(procPath(target.Pid(), "exe"))
			if err != nil {
				t.Fatal(err)
			}
			mapsBefore, err := os.ReadFile(procPath(target.Pid(), "maps"))
			if err != nil {
				t.Fatal(err)
			}
			before := fileText(t, target.Pid())
			for range 2 {
				p := attach(t, target)
				// Also while attached there is no breakpoint in it.
				if !bytes.Equal(fileText(t, target.Pid()), before) {
					t.Error("the text of the program or of a library has changed")
				}
				if !bytes.Contains(file, programText(t, p)[:1<<12]) {
					t.Error("the text is not the file's")
				}
				text := programText(t, p)
				halt(t, p, func(h *Halt) {
					if _, err := h.Syscall(unix.SYS_GETPID); err != nil {
						t.Error(err)
					}
				})
				if !bytes.Equal(text, programText(t, p)) {
					t.Error("the text has changed")
				}
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				if err := p.Close(); err != nil {
					t.Errorf("closing again: %v", err)
				}
				target.MustLive()
				if !bytes.Equal(fileText(t, target.Pid()), before) {
					t.Error("the text of the program or of a library is not as it was")
				}
			}
			if source == "cthreads.c" { // the Go heap may have grown
				mapsAfter, err := os.ReadFile(procPath(target.Pid(), "maps"))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(mapsBefore, mapsAfter) {
					t.Errorf("the maps are\n%s\nwere\n%s", mapsAfter, mapsBefore)
				}
			}
			if s, err := readStatus(target.Pid()); err != nil || s["TracerPid"] != "0" {
				t.Errorf("still traced by %s, %v", s["TracerPid"], err)
			}
		})
	}
}

func TestMemoryIsReadAndWrittenWhileTheTargetRunsAndWhileItIsHalted(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	if p.LoadBias() != 0 {
		t.Errorf("a program of type EXEC has bias %#x", p.LoadBias())
	}
	addr, _ := lookup(t, p, "main.Breadth")
	text, size := lookup(t, p, "main.Answer")
	try := func(value uint64) {
		t.Helper()
		if err := p.WriteMemory(addr, binary.LittleEndian.AppendUint64(nil, value)); err != nil {
			t.Fatal(err)
		}
		var b [8]byte
		if err := p.ReadMemory(b[:], addr); err != nil || binary.LittleEndian.Uint64(b[:]) != value {
			t.Fatalf("read % x, %v", b, err)
		}
		// Text, and back: nobody runs the function.
		code := make([]byte, size)
		if err := p.ReadMemory(code, text); err != nil {
			t.Fatal(err)
		}
		other := bytes.Repeat([]byte{0xcc}, len(code))
		if err := p.WriteMemory(text, other); err != nil {
			t.Fatal(err)
		}
		now := make([]byte, size)
		if err := p.ReadMemory(now, text); err != nil || !bytes.Equal(now, other) {
			t.Fatalf("text could not be written: %v", err)
		}
		if err := p.WriteMemory(text, code); err != nil {
			t.Fatal(err)
		}
	}
	try(1)
	if got := counters(target.Get("/check"))["breadth"]; got != 1 {
		t.Errorf("the target has %d", got)
	}
	halt(t, p, func(*Halt) { try(2) })
	if got := counters(target.Get("/check"))["breadth"]; got != 2 {
		t.Errorf("the target has %d", got)
	}
	if got := target.Get("/answer"); got != "the answer is 42" {
		t.Errorf("the target says %q", got)
	}
	mustSay(t, p.ReadMemory(make([]byte, 8), 16), "reading 8 bytes at 0x10")
	mustSay(t, p.WriteMemory(16, make([]byte, 8)), "writing 8 bytes at 0x10")
}

func TestMapsDescribeTheProcess(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Readlink(p.ExePath())
	if err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	for _, m := range maps {
		if m.Start < last || m.End <= m.Start {
			t.Errorf("%+v after %#x", m, last)
		}
		last = m.End
	}
	if !slices.ContainsFunc(maps, func(m Mapping) bool { return m.Path == exe && m.Perms == "r-xp" && m.Inode != 0 }) {
		t.Errorf("%s has no text in %v", exe, maps)
	}
}

func TestLoadBiasOfAPositionIndependentProgram(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "goserver", "-buildmode=pie")})
	target.Line("addr ")
	p := attach(t, target)
	addr, _ := lookup(t, p, "main.Breadth")
	var b [8]byte
	if err := p.ReadMemory(b[:], addr); err != nil || binary.LittleEndian.Uint64(b[:]) != 1234567 || p.LoadBias() == 0 {
		t.Errorf("with bias %#x main.Breadth is % x, %v", p.LoadBias(), b, err)
	}
}

func TestHaltsAreMeasured(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	outer := p.Measure()
	const pause = 20 * time.Millisecond
	for range 3 {
		inner := p.Measure()
		halt(t, p, func(h *Halt) {
			if !h.WasRunning() {
				t.Error("the target did not run")
			}
			time.Sleep(pause)
		})
		if s := inner(); s.Halts != 1 || s.Total < pause || s.Max != s.Total || s.ThreadsHalted < 5 {
			t.Errorf("one halt of %v was measured as %+v", pause, s)
		}
	}
	if s := outer(); s.Halts != 3 || s.Total < 3*pause || s.Max < pause || s.Max > s.Total {
		t.Errorf("three halts of %v were measured as %+v", pause, s)
	}
	if s := p.Measure()(); s != (HaltStats{}) {
		t.Errorf("no halt was measured as %+v", s)
	}
}

func TestNothingRunsDuringAHalt(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *targettest.Target{
		"Go": func(t testing.TB) *targettest.Target { return goServer(t) },
		"C":  cThreads,
	} {
		t.Run(name, func(t *testing.T) {
			target := start(t)
			p := attach(t, target)
			for range 20 {
				halt(t, p, func(h *Halt) {
					before, err := h.Threads()
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Millisecond)
					after, err := h.Threads()
					if err != nil {
						t.Fatal(err)
					}
					if fmt.Sprint(before) != fmt.Sprint(after) {
						t.Errorf("threads\n%v\nwere\n%v", after, before)
					}
					tasks, err := os.ReadDir(procPath(p.Pid(), "task"))
					if err != nil || len(tasks) != len(before) {
						t.Errorf("%d threads of %d, %v", len(before), len(tasks), err)
					}
				})
			}
			target.MustLive()
		})
	}
}

func TestNestedHaltIsRefused(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	halt(t, p, func(*Halt) {
		err := p.Halt(context.Background(), func(*Halt) error { t.Error("it ran"); return nil })
		mustSay(t, err, "is being halted already", string(finding.Busy))
	})
	halt(t, p, func(*Halt) {})
}

func TestHaltIsUnusableAfterwards(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	var kept *Halt
	halt(t, p, func(h *Halt) { kept = h })
	for what, err := range map[string]error{
		"Syscall":   func() error { _, err := kept.Syscall(unix.SYS_GETPID); return err }(),
		"Threads":   func() error { _, err := kept.Threads(); return err }(),
		"Eval":      func() error { _, err := kept.Eval("runtime.ncpu"); return err }(),
		"ReadText":  kept.ReadText(make([]byte, 1), 1),
		"WriteText": kept.WriteText(1, []byte{1}, []byte{2}),
	} {
		if err == nil || !strings.Contains(err.Error(), "the halt is over") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestErrorAndPanicInAHaltLetTheTargetGoOn(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	mine := errors.New("mine")
	if err := p.Halt(context.Background(), func(*Halt) error { return mine }); err != mine {
		t.Errorf("the error is %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = p.Halt(context.Background(), func(*Halt) error { panic("mine") })
	}()
	mustCount(t, target)
}

func TestCancelledHaltLetsTheTargetGoOn(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond)
		if err := p.Halt(ctx, func(*Halt) error { return nil }); err != nil && finding.CodeOf(err) != finding.Busy {
			t.Fatal(err)
		}
		cancel()
	}
	mustCount(t, target)
	halt(t, p, func(*Halt) {})
}

// A program that stops by itself, at breakpoint instructions of its own, does so
// while it's halted and released.
func TestSpuriousStopsArePassedOver(t *testing.T) {
	if raceDetector {
		t.Skip("TargetGroup.RequestManualStop reads which target is selected while Continue stores the same value again")
	}
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "trapper.c")})
	target.Line("ready")
	p := attach(t, target)
	target.Line("go")
	for range 100 {
		halt(t, p, func(h *Halt) {
			if _, err := h.Syscall(unix.SYS_GETPID); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := unix.Kill(target.Pid(), unix.SIGUSR1); err != nil { // ends the trapping
		t.Fatal(err)
	}
	target.Line("done")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	target.MustLive()
	target.Line("alive after")
}

func TestEvalReadsPackageLevelVariables(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		v, err := h.Eval("main.Breadth")
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := constant.Int64Val(v.Value); !ok || n != 1234567 || v.DwarfType.Size() != 8 {
			t.Errorf("main.Breadth is %v of type %v", v.Value, v.DwarfType)
		}
		if v, err = h.Eval("&runtime.firstmoduledata"); err != nil || v.DwarfType == nil {
			t.Errorf("&runtime.firstmoduledata: %v, %v", v, err)
		}
		_, err = h.Eval("main.nosuch")
		mustSay(t, err, "evaluating main.nosuch", "no such package-level variable")
	})
}

func TestProcessThatExitsIsReported(t *testing.T) {
	t.Run("while it runs", func(t *testing.T) {
		target := cThreads(t)
		p := attach(t, target)
		target.Kill()
		targettest.Eventually(t, "it has ended", func() bool { return !p.Alive() })
		mustSay(t, p.Halt(context.Background(), func(*Halt) error { return nil }), string(finding.TargetExited), "signal 9")
		mustSay(t, p.ReadMemory(make([]byte, 8), 0x400000), string(finding.TargetExited))
		mustSay(t, p.WriteMemory(0x400000, make([]byte, 8)), string(finding.TargetExited))
		_, err := p.Maps()
		mustSay(t, err, string(finding.TargetExited))
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	for name, do := range map[string]func(h *Halt) error{
		"before a system call": func(h *Halt) error { _, err := h.Syscall(unix.SYS_GETPID); return err },
		"before text is read":  func(h *Halt) error { return h.ReadText(make([]byte, 8), 0x401000) },
		"before text is written": func(h *Halt) error {
			return h.WriteText(0x401000, make([]byte, 8), make([]byte, 8))
		},
		"before threads are read": func(h *Halt) error { _, err := h.Threads(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			target := cThreads(t)
			p := attach(t, target)
			err := p.Halt(context.Background(), func(h *Halt) error {
				target.Kill()
				targettest.Eventually(t, "it has ended", func() bool { return !p.Alive() })
				return do(h)
			})
			mustSay(t, err, string(finding.TargetExited))
			if err := p.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		})
	}
}

func TestProcessKilledAtAnyInstantIsReported(t *testing.T) {
	for i := range 15 {
		target := cThreads(t)
		p := attach(t, target)
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			target.Kill()
		})
		var err error
		for err == nil {
			err = p.Halt(context.Background(), func(h *Halt) error {
				for range 20 {
					if _, err := h.Syscall(unix.SYS_GETPID); err != nil {
						return err
					}
				}
				return nil
			})
		}
		wg.Wait()
		if finding.CodeOf(err) != finding.TargetExited {
			t.Errorf("killed after %d ms: %v", i, err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

func TestProcessThatReplacesItselfIsLeftAlone(t *testing.T) {
	other := targettest.Build(t, "forker.c")
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "trapper.c"), Args: []string{other}})
	target.Line("ready")
	p := attach(t, target)
	addr, _ := lookup(t, p, "main")
	if err := unix.Kill(target.Pid(), unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "it is another program", func() bool {
		exe, _ := os.Readlink(procPath(target.Pid(), "exe"))
		return exe == other
	})
	mustSay(t, p.ReadMemory(make([]byte, 4), addr), string(finding.TargetExited), "replaced itself with another program")
	mustSay(t, p.WriteMemory(addr, make([]byte, 4)), string(finding.TargetExited))
	if err := p.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	targettest.Eventually(t, "the other program runs", func() bool {
		target.MustLive()
		return strings.Count(target.Output(), "ready\n") == 2
	})
	if err := unix.Kill(target.Pid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	target.Line("child ")
}

// stoppedHalter is how an adapter halts: it owns the debugger.
type stoppedHalter struct{ dbg *debugger.Debugger }

func (s stoppedHalter) Halt(context.Context) (*Stop, error) {
	group, unlock := s.dbg.LockTargetGroup()
	return &Stop{Group: group, Release: func() error { unlock(); return nil }}, nil
}

func TestStopOfAStoppedTargetIsNoHalt(t *testing.T) {
	target := goServer(t)
	dbg, err := debugger.New(&debugger.Config{Backend: "native", AttachPid: target.Pid(), WorkingDir: "."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(dbg, stoppedHalter{dbg})
	if err != nil {
		t.Fatal(err)
	}
	stats := p.Measure()
	halt(t, p, func(h *Halt) {
		if h.WasRunning() {
			t.Error("the target ran")
		}
		if pid, err := h.Syscall(unix.SYS_GETPID); err != nil || pid != uint64(target.Pid()) {
			t.Errorf("getpid gave %d, %v", pid, err)
		}
	})
	if s := stats(); s.Halts != 0 || s.Total != 0 {
		t.Errorf("measured %+v", s)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	group, unlock := dbg.LockTargetGroup()
	if err := DrainTraps(group); err != nil {
		t.Error(err)
	}
	unlock()
	if err := dbg.Detach(false); err != nil {
		t.Fatal(err)
	}
	mustGoOn(t, target, "rounds", "reads", "sleeps", "passes", "alarms")
}

func TestPendingTrapsAreDrained(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		for _, tid := range h.threadIDs() {
			_ = unix.Tgkill(p.Pid(), tid, unix.SIGSTOP)
			_ = unix.Tgkill(p.Pid(), tid, unix.SIGTRAP)
		}
		_ = unix.Kill(p.Pid(), unix.SIGTRAP)
		before, err := h.Threads()
		if err != nil {
			t.Fatal(err)
		}
		if err := DrainTraps(h.Group()); err != nil {
			t.Fatal(err)
		}
		after, err := h.Threads()
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("threads\n%v\nwere\n%v", after, before)
		}
		status, err := readStatus(p.Pid())
		if err != nil || !strings.HasSuffix(status["ShdPnd"], "0") && strings.ContainsAny(status["ShdPnd"][len(status["ShdPnd"])-2:], "13579bdf") {
			t.Errorf("pending: %s, %v", status["ShdPnd"], err)
		}
	})
	// Untraced, the target would die of what is left.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	mustGoOn(t, target, "rounds", "reads", "sleeps", "passes", "alarms")
}

func TestDetachAfterManyHaltsLeavesNoTrapBehind(t *testing.T) {
	target := cThreads(t)
	for range 10 {
		p := attach(t, target)
		for range 10 {
			halt(t, p, func(*Halt) {})
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		target.MustLive()
	}
	mustCount(t, target)
}

func TestWriteTextUnderABreakpoint(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	entry, _ := lookup(t, p, "main.Answer")
	const n = 16
	var original, changed [n]byte
	if err := p.ReadMemory(original[:], entry); err != nil {
		t.Fatal(err)
	}
	for i := range changed {
		changed[i] = 0x90
	}
	halt(t, p, func(h *Halt) {
		for _, at := range []uint64{entry, entry + 5, entry + n - 1, entry + n} {
			if _, err := h.Target().SetBreakpoint(1, at, proc.UserBreakpoint, nil); err != nil {
				t.Fatal(err)
			}
		}
		var b [n]byte
		if err := p.ReadMemory(b[:], entry); err != nil || b[0] != 0xcc || b[5] != 0xcc || b[n-1] != 0xcc {
			t.Fatalf("no breakpoints in % x, %v", b, err)
		}
		if err := h.ReadText(b[:], entry); err != nil || b != original {
			t.Errorf("the text is % x, %v", b, err)
		}
		if got := len(h.Breakpoints(entry, entry+n)); got != 3 {
			t.Errorf("%d breakpoints in the range", got)
		}
		mustSay(t, h.WriteText(entry, changed[:], changed[:]), string(finding.TextMismatch), "stand the bytes")
		if err := h.WriteText(entry, original[:], changed[:]); err != nil {
			t.Fatal(err)
		}
		if err := h.ReadText(b[:], entry); err != nil || b != changed {
			t.Errorf("the text is % x, %v", b, err)
		}
		if err := p.ReadMemory(b[:], entry); err != nil || b[0] != 0xcc || b[1] != 0x90 || b[5] != 0xcc || b[n-1] != 0xcc {
			t.Errorf("the breakpoints are gone in % x, %v", b, err)
		}
		for _, at := range []uint64{entry, entry + 5, entry + n - 1} {
			if err := h.Target().ClearBreakpoint(at); err != nil {
				t.Fatal(err)
			}
		}
		// Delve has put back what belongs there.
		if err := p.ReadMemory(b[:], entry); err != nil || b != changed {
			t.Errorf("without breakpoints the text is % x, %v", b, err)
		}
		if err := h.WriteText(entry, changed[:], original[:]); err != nil {
			t.Fatal(err)
		}
		if err := h.Target().ClearBreakpoint(entry + n); err != nil {
			t.Fatal(err)
		}
	})
	if got := target.Get("/answer?x"); got != "the answer is 43" {
		t.Errorf("the target says %q", got)
	}
}

func TestWriteTextElsewhereChangesNothing(t *testing.T) {
	target := cThreads(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		if err := h.WriteText(0x10, []byte{1}, []byte{2}); err == nil {
			t.Error("unmapped text could be written")
		}
		if err := h.WriteText(0x401000, []byte{1, 2}, []byte{2}); err == nil {
			t.Error("text of another length could be written")
		}
	})
}

func TestDebugInformationIsRead(t *testing.T) {
	target := goServer(t)
	p := attach(t, target)
	halt(t, p, func(h *Halt) {
		if h.Process() != p || h.Target().Pid() != p.Pid() || h.Group().Selected != h.Target() {
			t.Error("the halt is of another process")
		}
		fns, err := h.Target().BinInfo().FindFunction("main.Answer")
		want, _ := lookup(t, p, "main.Answer")
		if err != nil || len(fns) != 1 || fns[0].Entry != want {
			t.Errorf("main.Answer is %v, %v", fns, err)
		}
		h.ClearCaches()
	})
	if filepath.Base(p.ExePath()) != "exe" {
		t.Error(p.ExePath())
	}
}

func BenchmarkHalt(b *testing.B) {
	for _, c := range []struct{ name, busy, blocked string }{{"idle4", "0", "4"}, {"idle16", "0", "16"}, {"busy2", "2", "4"}} {
		b.Run(c.name, func(b *testing.B) {
			target := goServer(b, "-busy", c.busy, "-blocked", c.blocked)
			p := attach(b, target)
			stats := p.Measure()
			for b.Loop() {
				halt(b, p, func(*Halt) {})
			}
			s := stats()
			b.ReportMetric(float64(s.Total.Microseconds())/float64(s.Halts), "µs/halt")
			b.ReportMetric(float64(s.ThreadsHalted), "threads")
		})
	}
}
