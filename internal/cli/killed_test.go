package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
)

// killedAt runs a command that is killed at a step, if it has as many.
func killedAt(t *testing.T, step int, args ...string) result {
	t.Helper()
	cmd := command(args...)
	cmd.Env = append(os.Environ(), fmt.Sprint("DARN_FAULT=", step))
	return run(t, cmd)
}

// The kernel lets a process go as it is when its tracer is killed: stopped, if it
// was about to stop. The next command does not find it so.
func TestAProcessGoesOnWhenDarnIsKilledAttaching(t *testing.T) {
	p, s, _ := troubled(t, nil)
	before := s.snapshot()
	for step := range 3 { // it is stopped, about to run, and runs
		if r := killedAt(t, step+1, "list", s.flag()); r.code >= 0 {
			t.Errorf("step %d: the command ends with status %d and not by SIGKILL: %s", step+1, r.code, r.stderr)
		}
		darn(t, "list", s.flag()).ok(t)
		p.says(t, "42")
	}
	s.mustEqual(before)
}

// kills is how many times the tests that kill darn at random instants do it.
var kills = flag.Int("kills", 6, "how often a test that kills darn at random instants does so")

// TestDarnIsKilledAtRandomInstants kills headless commands at any moment of
// what they do. The server must answer throughout; the next command must find a
// state from which it can go on, and in the end the server must be as it was.
func TestDarnIsKilledAtRandomInstants(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	s := house.start(t)
	before := s.snapshot()
	calls := s.bills(t)

	took := map[string]time.Duration{}
	for _, c := range []string{"load", "activate", "deactivate", "unload"} {
		began := time.Now()
		darn(t, c, s.flag(), module).ok(t)
		took[c] = time.Since(began)
	}
	s.mustEqual(before)

	random := rand.New(rand.NewPCG(1, 2))
	next := map[patcher.State][]string{
		patcher.Unloaded: {"load"}, patcher.Loaded: {"activate", "unload"}, patcher.Active: {"deactivate"},
	}
	killed := map[string]int{}
	for n := 0; n < *kills && !t.Failed(); n++ {
		state := s.state(t, module)
		c := next[state][random.IntN(len(next[state]))]
		args := []string{c, s.flag(), module}
		if c != "unload" && random.IntN(3) == 0 {
			args = append(args, "--resident=never")
		}
		cmd := command(args...)
		var out strings.Builder
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(took[c]*3/2))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() >= 0 && !strings.Contains(out.String(), "gc-timeout") {
			t.Fatalf("%s: %v: %s", c, err, out.String())
		} else if ok {
			killed[c]++
		}
		if n%10 == 9 || n == *kills-1 {
			s.unloadAll(t, module)
			s.mustBeAs(before)
		}
	}
	t.Logf("killed: %v, in %d calls", killed, calls.Load())
}

// bills asks the server for bills until the test ends, and fails the test if one
// is neither the old nor the new one.
func (s *server) bills(t *testing.T) *atomic.Int64 {
	var calls atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			got, err := load.Get(fmt.Sprintf("%s/bill?cups=%d", s.url, demoCups))
			if err != nil || got != oldBill && got != newBill {
				t.Errorf("the server answers %q (%v)", got, err)
				return
			}
			calls.Add(1)
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return &calls
}

// The debugger sets a thread back that has run into a breakpoint; if it is killed
// the thread must be set back once, not twice, and its call get the right answer.
func TestACallAtABreakpointIsAnsweredWhenTheSessionIsKilled(t *testing.T) {
	s := buildTeahouse(t).start(t)
	before := s.snapshot()
	// A connection of its own for each: a request is not made again if it fails.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, function := range []string{"main.bill", "main.handleBill", "net/http.(*ServeMux).ServeHTTP"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := command("dap")
		c := dial(t, startLine(t, cmd, listening))
		answered := make(chan string, 1)
		set := dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: function}}}
		for _, step := range []func() error{
			func() error { _, err := c.Initialize(ctx); return err },
			func() error { return c.Start(ctx, "attach", map[string]any{"mode": "local", "processId": s.pid}) },
			func() error { return c.Call(ctx, "setFunctionBreakpoints", set, nil) },
			func() error { return c.Configured(ctx) },
			func() error {
				go func() {
					r, err := client.Get(fmt.Sprintf("%s/bill?cups=%d", s.url, demoCups))
					if err != nil {
						answered <- err.Error()
						return
					}
					defer r.Body.Close()
					body, _ := io.ReadAll(r.Body)
					answered <- string(body)
				}()
				_, err := c.Event(ctx, nil, "stopped")
				return err
			},
			cmd.Process.Kill,
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case got := <-answered:
			if got != oldBill {
				t.Errorf("breakpoint in %s: the server answers %q", function, got)
			}
		case <-ctx.Done():
			t.Fatalf("breakpoint in %s: no answer", function)
		}
	}
	darn(t, "list", s.flag()).ok(t)
	s.mustEqual(before)
}
