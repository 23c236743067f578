package process

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// watching runs a Watch of the target in the background.
func watching(t *testing.T, d time.Duration, target *targettest.Target) <-chan []*End {
	t.Helper()
	w := NewWatch(target.Pid())
	ends := make(chan []*End, 1)
	go func() { ends <- w.Run(context.Background(), d) }()
	t.Cleanup(w.Close)
	targettest.Eventually(t, "it is traced", func() bool { return tracerOfPid(t, target.Pid()) != "0" })
	return ends
}

func tracerOfPid(t *testing.T, pid int) string {
	t.Helper()
	s, err := readStatus(pid)
	if err != nil {
		t.Fatal(err)
	}
	return s["TracerPid"]
}

// sleeper starts a shell that waits for SIGUSR1 and then does something.
func sleeper(t *testing.T, then string) *targettest.Target {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("sh is not here")
	}
	target := targettest.Start(t, targettest.Command{Path: sh, Args: []string{"-c", "trap '" + then + "' USR1; echo ready; while :; do sleep 0.01; done"}})
	target.Line("ready")
	return target
}

func TestTheEndOfAWatchedProcessIsSeen(t *testing.T) {
	for _, test := range []struct {
		name    string
		then    string
		says    string
		crashed bool
		signal  unix.Signal // of the snapshot
	}{
		{"fault", "kill -SEGV $$", "was ended by SIGSEGV", true, unix.SIGSEGV},
		{"abort", "kill -ABRT $$", "was ended by SIGABRT", true, unix.SIGABRT},
		{"status", "exit 2", "has exited with status 2", true, 0},
		{"done", "exit 0", "has exited with status 0", false, 0},
		{"asked", "kill -TERM $$", "was ended by SIGTERM", false, 0},
		{"killed", "kill -KILL $$", "was ended by SIGKILL", false, 0},
		{"asked, and a shell says so", "exit 143", "has exited with status 143", false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := sleeper(t, test.then)
			ends := watching(t, time.Minute, target)
			if err := unix.Kill(target.Pid(), unix.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			got := <-ends
			if len(got) != 1 || got[0].String() != test.says || got[0].PID != target.Pid() || got[0].Crashed() != test.crashed {
				t.Fatalf("got %v, want %s", got, test.says)
			}
			if !test.crashed {
				return
			}
			last := got[0].Last
			if last == nil || last.Signal != test.signal || last.PC == 0 || last.Registers[0].Value != last.PC || len(last.Returns) == 0 || !last.executable(last.PC) {
				t.Errorf("the thread was last seen as %+v", last)
			}
		})
	}
}

// TestAWatchedProcessGoesOn: under signals of all kinds, threads that come and go,
// and job control, and when the watch is over.
func TestAWatchedProcessGoesOn(t *testing.T) {
	target := cThreads(t)
	ends := watching(t, 2*time.Second, target)
	mustCount(t, target)
	if err := unix.Kill(target.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	isStopped := func() bool {
		s, err := readStatus(target.Pid())
		return err == nil && strings.HasPrefix(strings.ToUpper(s["State"]), "T")
	}
	targettest.Eventually(t, "it is stopped", isStopped)
	for range 20 {
		if time.Sleep(5 * time.Millisecond); !isStopped() {
			t.Fatal("it goes on while it is stopped")
		}
	}
	if err := unix.Kill(target.Pid(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustCount(t, target)
	if got := <-ends; len(got) != 0 {
		t.Fatalf("it has ended: %v", got)
	}
	if tracer := tracerOfPid(t, target.Pid()); tracer != "0" {
		t.Errorf("it is still traced, by %s", tracer)
	}
	mustCount(t, target)
	attach(t, target) // as soon as that
}

// TestANewcomerEndsAWatch: the process is free when the newcomer has his answer, and
// what becomes of it then the Watch does not tell.
func TestANewcomerEndsAWatch(t *testing.T) {
	target := sleeper(t, "kill -SEGV $$")
	w := NewWatch(target.Pid())
	defer w.Close()
	if err := w.Begin(); err != nil || !isOwnThread(tracerOfPid(t, target.Pid())) {
		t.Fatalf("it is traced by %s (%v)", tracerOfPid(t, target.Pid()), err)
	}
	ends := make(chan []*End, 1)
	go func() { ends <- w.Run(context.Background(), time.Hour) }()
	c, err := net.Dial("unix", socketName(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("the answer is %d bytes and %v", n, err)
	}
	if tracer := tracerOfPid(t, target.Pid()); tracer != "0" {
		t.Errorf("it is still traced, by %s", tracer)
	}
	if err := unix.Kill(target.Pid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	targettest.Eventually(t, "it has ended", func() bool { return !threadLives(target.Pid()) })
	if got := <-ends; len(got) != 0 || w.Asked() != fmt.Sprintf("process %d", os.Getpid()) {
		t.Errorf("asked by %s, it tells %v", w.Asked(), got)
	}
}

func TestWhoMayEndAWatch(t *testing.T) {
	for _, test := range []struct {
		user, self int
		may        bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if got := mayAsk(test.user, test.self); got != test.may {
			t.Errorf("user %d of user %d: %v", test.user, test.self, got)
		}
	}
}

// TestTheEndOfAProcessThatIsOverBeforeTheWatchIsSeen: whether its parent has taken
// notice or not.
func TestTheEndOfAProcessThatIsOverBeforeTheWatchIsSeen(t *testing.T) {
	for _, reaped := range []bool{false, true} {
		cmd := exec.Command("sh", "-c", "read x; kill -SEGV $$")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		w := NewWatch(pid, 1<<22)
		defer w.Close()
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		targettest.Eventually(t, "it has ended", func() bool { return !threadLives(pid) })
		if reaped {
			_ = cmd.Wait()
		}
		got := w.Run(context.Background(), time.Minute)
		if len(got) != 1 || got[0].Last != nil || got[0].PID != pid || !got[0].Crashed() {
			t.Fatalf("got %v", got)
		}
		// A kernel before 6.15 does not tell when it's too late.
		if says := got[0].String(); says != "was ended by SIGSEGV" && (!reaped || says != "has ended") {
			t.Errorf("reaped: %v; it %s", reaped, says)
		}
		if !reaped {
			_ = cmd.Wait()
		}
	}
}

func TestCallsAreKnownByTheirBytes(t *testing.T) {
	for _, test := range []struct {
		code []byte
		call bool
	}{
		{[]byte{0x90, 0x90, 0xe8, 1, 2, 3, 4}, true},              // call rel32
		{[]byte{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0}, true},  // call *%rax
		{[]byte{0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd3}, true},  // call *%r11
		{[]byte{0x90, 0xff, 0x15, 1, 2, 3, 4}, true},              // call *disp32(%rip)
		{[]byte{0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 8}, true},     // call *8(%rax)
		{[]byte{0xff, 0x94, 0x24, 1, 0, 0, 0}, true},              // call *1(%rsp)
		{[]byte{0x90, 0x90, 0x90, 0xff, 0x54, 0x24, 8}, true},     // call *8(%rsp)
		{[]byte{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0}, false}, // jmp *%rax
		{[]byte{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3}, false}, // ret
		{[]byte{0x90, 0x90, 0x90, 0xff, 0x15, 0x90, 0x90}, false}, // half of one
		{[]byte{0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x56}, false}, // a prologue
	} {
		got := endsInCall(test.code)
		if got != test.call {
			t.Errorf("% x: %v", test.code, got)
		}
	}
}
