package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/patcher"
)

// stride is between the steps that TestDarnIsKilledAtEveryStep takes.
var stride = flag.Int("stride", 0, "kill darn at every so manieth step of each operation, in place of some steps")

// mostSteps is more than an operation has.
const mostSteps = 1000

// victim is a program that is patched and must not notice.
type victim struct {
	*server
	module string
	// works fails the test unless it does, with the patch or without.
	works func(on bool)
}

// goVictim starts the tea house.
func goVictim(t *testing.T) *victim {
	house := buildTeahouse(t)
	v := &victim{server: house.start(t), module: house.patch(t)}
	v.works = func(on bool) {
		if on {
			v.mustAnswer(newBill)
		} else {
			v.mustAnswer(oldBill)
		}
	}
	return v
}

// cVictim starts threads of every kind, which check themselves; so does a
// function that a patch may only replace by its like.
func cVictim(t *testing.T) *victim {
	buildMu.Lock()
	exe, module := filepath.Join(shared, "cthreads"), filepath.Join(shared, "answer.so")
	if _, err := os.Stat(module); err != nil {
		for _, cmd := range []*exec.Cmd{
			exec.Command("gcc", "-g", "-O1", "-fno-math-errno", "-pthread", "-o", exe, "../../testdata/targets/cthreads.c", "-lm"),
			exec.Command("gcc", "-g", "-O2", "-shared", "-fPIC", "-o", module, writeC(t, "answer.c", "int answer(int n) { return 40 + n + 2; }\n")),
		} {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, out)
			}
		}
	}
	buildMu.Unlock()
	p := startC(t, exe)
	s := &server{t: t, pid: p.cmd.Process.Pid}
	lines := func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.Clone(p.lines)
	}
	eventually(t, "the program is ready", func() bool { return len(lines()) > 0 })
	return &victim{server: s, module: module, works: func(bool) {
		n := len(lines())
		eventually(t, "the program goes on", func() bool {
			now := lines()
			if last := now[len(now)-1]; strings.HasPrefix(last, "FAIL") {
				t.Fatal(last)
			}
			return len(now) > n+1
		})
	}}
}

// hasArena tells whether memory of Darn's is left in the program.
func (v *victim) hasArena() bool {
	return strings.Contains(strings.Join(v.snapshot().maps, ""), "memfd:darn")
}

// TestDarnIsKilledAtEveryStep kills headless commands between any two writes to
// the target or to the registry. The next command must find a state that the
// patch may be in, and the program must work in it; when the patch is taken out
// the program is as it was.
func TestDarnIsKilledAtEveryStep(t *testing.T) {
	type operation struct {
		command []string
		before  []string
		states  []patcher.State
		at      []int // the steps that are taken if not all are
	}
	unloaded, loaded, active := patcher.Unloaded, patcher.Loaded, patcher.Active
	for _, target := range []struct {
		name       string
		start      func(*testing.T) *victim
		operations []operation
	}{
		{"Go", goVictim, []operation{
			{[]string{"load"}, nil, []patcher.State{unloaded, loaded}, nil},
			{[]string{"load", "--resident=never"}, nil, []patcher.State{unloaded, loaded}, []int{31}},
			{[]string{"activate"}, []string{"load"}, []patcher.State{loaded, active}, nil},
			{[]string{"deactivate"}, []string{"load", "activate"}, []patcher.State{active, loaded}, []int{78}},
			{[]string{"activate", "--resident=never"}, []string{"load", "activate", "deactivate"}, []patcher.State{loaded, active}, nil},
			{[]string{"unload"}, []string{"load", "activate", "deactivate"}, []patcher.State{loaded, unloaded}, []int{45, 59, 106}},
		}},
		{"C", cVictim, []operation{
			{[]string{"load"}, nil, []patcher.State{unloaded, loaded}, []int{50}},
			{[]string{"load", "--resident=never"}, nil, []patcher.State{unloaded, loaded}, []int{13}},
			{[]string{"activate"}, []string{"load"}, []patcher.State{loaded, active}, []int{41}},
			{[]string{"deactivate"}, []string{"load", "activate"}, []patcher.State{active, loaded}, nil},
			{[]string{"activate", "--resident=never"}, []string{"load", "activate", "deactivate"}, []patcher.State{loaded, active}, []int{44}},
			{[]string{"unload"}, []string{"load", "activate", "deactivate"}, []patcher.State{loaded, unloaded}, []int{70}},
		}},
	} {
		for _, op := range target.operations {
			t.Run(strings.Join(append(append([]string{target.name}, op.before...), op.command...), " "), func(t *testing.T) {
				steps := op.at
				if *stride > 0 {
					steps = nil
					for n := 1 + len(op.command[0])%*stride; n < mostSteps; n += *stride {
						steps = append(steps, n)
					}
				}
				if steps == nil {
					t.Skip("it takes -stride")
				}
				var v *victim
				var before snapshot
				n := 0
				for _, fault := range steps {
					if v == nil || v.hasArena() { // a first load makes it
						v = target.start(t)
						v.works(false)
						before = v.snapshot()
					}
					for _, c := range op.before {
						darn(t, c, v.flag(), v.module).ok(t)
					}
					r := killedAt(t, fault, append(slices.Clone(op.command), v.flag(), v.module)...)
					if r.code >= 0 {
						r.ok(t) // it has fewer steps
						v.unloadAll(t, v.module)
						break
					}
					n++
					state := v.state(t, v.module)
					if !slices.Contains(op.states, state) {
						t.Fatalf("step %d: the patch is %s", fault, state)
					}
					v.works(state == patcher.Active)
					v.unloadAll(t, v.module)
					v.works(false)
					v.mustBeAs(before)
					if t.Failed() {
						t.Fatalf("step %d", fault)
					}
				}
				if t.Logf("killed %d times", n); n == 0 {
					t.Error("not killed")
				}
			})
		}
	}
}

// mustBeAs fails the test if the program is not as it was, but for memory of
// Darn's own: the program has run with a part of a load, and what refers to it
// is not known.
func (s *server) mustBeAs(before snapshot) {
	s.t.Helper()
	after := s.snapshot()
	ours := func(line string) bool {
		return strings.Contains(line, "memfd:darn") || strings.Contains(line, "---p 00000000 00:00 0")
	}
	if slices.ContainsFunc(after.maps, ours) {
		before.maps, after.maps = slices.DeleteFunc(slices.Clone(before.maps), ours), slices.DeleteFunc(after.maps, ours)
		after.rest = slices.DeleteFunc(after.rest, ours)
	}
	s.mustBeEqual(before, after)
}

// unloadAll takes the only patch out.
func (s *server) unloadAll(t *testing.T, module string) {
	t.Helper()
	state := s.state(t, module)
	if state == patcher.Active {
		darn(t, "deactivate", s.flag(), module).ok(t)
	}
	if state != patcher.Unloaded {
		eventually(t, "the unload", func() bool { return darn(t, "unload", s.flag(), module).code == exitDone })
	}
}

// TestASessionIsKilledAtEveryStep kills a debug session in the middle of operations,
// with a breakpoint set: one that a call has run into, or one that no call comes to.
// The calls are answered, and the next command finds a state from which it can take
// the patch out.
func TestASessionIsKilledAtEveryStep(t *testing.T) {
	v := goVictim(t)
	before := v.snapshot()
	calls := v.bills(t)
	steps := []int{90}
	if *stride > 0 {
		steps = nil
		for n := 1; n < 600; n += *stride {
			steps = append(steps, n)
		}
	}
	for i, step := range steps {
		breakpoint := []string{"main.handleBill", "main.main"}[i%2]
		state := v.killSession(t, step, breakpoint)
		n := calls.Load()
		eventually(t, "calls are answered", func() bool { return calls.Load() > n+1 })
		v.unloadAll(t, v.module)
		v.mustBeAs(before)
		if t.Failed() {
			t.Fatalf("step %d, breakpoint at %s, the patch was %s", step, breakpoint, state)
		}
	}
}

// killSession has a debug session load, activate, deactivate and unload the patch,
// again and again, until it is killed at a step. It returns the state of the patch
// then.
func (v *victim) killSession(t *testing.T, step int, breakpoint string) patcher.State {
	t.Helper()
	cmd := command("dap")
	cmd.Env = append(os.Environ(), fmt.Sprint("DARN_FAULT=", step))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := dapclient.Dial(ctx, startLine(t, cmd, listening))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = func() error {
		if _, err := c.Initialize(ctx); err != nil {
			return err
		}
		if err := c.Start(ctx, "attach", map[string]any{"mode": "local", "processId": v.pid, "stopOnEntry": false}); err != nil {
			return err
		}
		set := dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: breakpoint}}}
		if err := c.Call(ctx, "setFunctionBreakpoints", set, nil); err != nil {
			return err
		}
		if err := c.Configured(ctx); err != nil {
			return err
		}
		for {
			var loaded struct{ Patch patcher.Patch }
			if err := c.Call(ctx, "darn/load", map[string]any{"path": v.module}, &loaded); err != nil {
				return err
			}
			for _, op := range []string{"activate", "deactivate", "unload"} {
				if err := c.Call(ctx, "darn/"+op, map[string]any{"id": loaded.Patch.ID}, nil); err != nil {
					return err
				}
			}
		}
	}()
	if ctx.Err() != nil {
		t.Fatalf("step %d, breakpoint at %s: %v", step, breakpoint, err)
	}
	// The breakpoint may have stopped the program where the collector is at work:
	// then the session refuses, and is killed for that.
	if refused, ok := errors.AsType[*dapclient.Error](err); ok {
		t.Logf("step %d, breakpoint at %s: %v", step, breakpoint, refused)
		_ = cmd.Process.Kill()
	}
	return v.state(t, v.module)
}
