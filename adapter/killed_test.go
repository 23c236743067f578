package adapter

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// killAtBreakpoint attaches an adapter to a target, sets a breakpoint that is hit all the
// time, and kills the adapter with it in the text.
func killAtBreakpoint(t testing.TB, target *child, cmd *exec.Cmd, after time.Duration) {
	t.Helper()
	adapter, addr, _ := listening(t, cmd)
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	path, line := source(t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	stop := c.stoppedFor("breakpoint")
	time.AfterFunc(after, func() { _ = adapter.Process.Kill() })
	for after > 0 { // until there is nobody to answer
		if c.Call(c.ctx, "continue", map[string]any{"threadId": stop.ThreadId}, nil) != nil {
			break
		}
		if _, err := c.Event(c.ctx, &stop, "stopped"); err != nil {
			break
		}
	}
	adapter.wait(t)
}

// This is what Darn's guardian is for.
func TestDelveThatIsKilledTakesItsTargetAlong(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	killAtBreakpoint(t, target, exec.Command(dlv(t), "dap", "--check-go-version=true"), 0)
	// Delve's last stop may have stopped it for good, as it seems.
	_ = target.Process.Signal(syscall.SIGCONT)
	if status := target.wait(t); status >= 0 {
		t.Errorf("the target ended with %d", status)
	}
}

// awaitGuardian waits until the guardian of an adapter that was killed has done its
// work, as the next Darn does.
func awaitGuardian(t testing.TB, target *child) {
	t.Helper()
	eventually(t, "the guardian has done its work", func() bool {
		guard, err := process.StartGuard(target.Process.Pid) // gives up after ten seconds
		if err != nil {
			t.Log(err)
			return false
		}
		guard.Close()
		return true
	})
}

func adapterCommand() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playAdapter+"=listen 127.0.0.1:0")
	return cmd
}

// What is in the target for the guardian's sake is out when the client hears that the
// session is over.
func TestTheEndOfASessionIsToldWhenTheTargetIsAsItWas(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	pid := target.Process.Pid
	code := func() (n int) {
		maps, err := process.ReadMaps(pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range maps {
			if m.Perms[2] == 'x' {
				n++
			}
		}
		return n
	}
	before := code()
	c, _ := session(t)
	c.attach(pid)
	c.configured()
	if code() == before {
		t.Fatal("the guardian has nothing in the target")
	}
	c.disconnect(false)
	if after := code(); after != before {
		t.Errorf("%d mappings of code are %d at the end", before, after)
	}
	mustBeWhole(t, target)
}

// The breakpoint is in a function that is called 5000 times a second.
func TestTheTargetSurvivesAKilledAdapter(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	random := rand.New(rand.NewPCG(1, 2))
	for n := range rounds(4) {
		after := time.Duration(0)
		if n%2 == 1 {
			after = time.Duration(random.IntN(50000)) * time.Microsecond
		}
		killAtBreakpoint(t, target, adapterCommand(), after)
		awaitGuardian(t, target)
		mustGoOn(t, target)
		mustBeWhole(t, target)
	}
}

// So does one that a session has launched, and launched again.
func TestALaunchedTargetSurvivesAKilledAdapter(t *testing.T) {
	c, adapter := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target")})
	path, line := source(t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("breakpoint")
	c.call("restart", map[string]any{"arguments": map[string]any{"request": "launch", "mode": "exec", "rebuild": false}}, nil)
	c.event("initialized", nil)
	c.configured()
	c.stoppedFor("breakpoint")
	target := &child{Cmd: &exec.Cmd{Path: build(t, "target")}}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", adapter.Process.Pid))
	for _, list := range lists {
		pids, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(pids)) {
			if exe, _ := os.Readlink("/proc/" + pid + "/exe"); exe == target.Path {
				n, _ := strconv.Atoi(pid)
				target.Process, _ = os.FindProcess(n)
			}
		}
	}
	if target.Process == nil {
		t.Fatal("the adapter has no target")
	}
	t.Cleanup(func() { _ = target.Process.Kill() })
	_ = adapter.Process.Kill()
	awaitGuardian(t, target)
	mustGoOn(t, target)
	mustBeWhole(t, target)
}

// The adapter is killed at any moment of an operation, while a breakpoint is in
// the text and somebody has perhaps run into it. Every request is answered, and
// the next session finds a state from which it can take the patch out.
func TestTheTargetSurvivesAnAdapterKilledInAnOperation(t *testing.T) {
	s, target, get := openShop(t)
	main := filepath.Join(s.dir, "main.go")
	random := rand.New(rand.NewPCG(3, 4))
	for range rounds(3) {
		c, adapter := session(t)
		c.attach(target.Process.Pid)
		c.breakpoints(main, lineOf(t, main, `return "a " + t.label()`))
		c.configured()
		over := make(chan struct{})
		go func() {
			defer close(over)
			var err error
			for err == nil {
				var r result
				if err = c.Call(c.ctx, "darn/load", map[string]any{"path": s.module}, &r); err != nil {
					break
				}
				for _, command := range []string{"activate", "deactivate", "unload"} {
					if err = c.Call(c.ctx, "darn/"+command, map[string]any{"id": r.Patch.ID}, nil); err != nil {
						break
					}
				}
			}
		}()
		described, total := make(chan string, 1), make(chan string, 1)
		go func() { described <- get("/describe") }()
		go func() { total <- get("/total") }()
		wait := time.Duration(random.IntN(500)) * time.Millisecond
		time.Sleep(wait)
		_ = adapter.Process.Kill()
		adapter.wait(t)
		<-over
		if got := <-described; got != "a pen" {
			t.Errorf("the description is %q", got)
		}
		if got := <-total; got != "300" && got != "270" {
			t.Errorf("the total is %s", got)
		}

		next, adapter := session(t)
		next.attach(target.Process.Pid)
		next.configured()
		var l patcher.Listing
		next.call("darn/list", nil, &l)
		for _, p := range l.Patches {
			id := map[string]any{"id": p.ID}
			if p.State == patcher.Active {
				next.patch("deactivate", id)
			}
			eventually(t, "an unload", func() bool { return next.Call(next.ctx, "darn/unload", id, nil) == nil })
		}
		next.disconnect(false)
		adapter.wait(t)
		if got := get("/total"); got != "300" {
			t.Errorf("afterwards the total is %s", got)
		}
		mustBeWhole(t, target)
		if t.Failed() {
			t.FailNow()
		}
	}
}
