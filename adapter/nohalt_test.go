package adapter

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// counter is a session whose adapter counts how often it halts the target.
type counter struct {
	*client
	adapter *child
	in      io.Writer
}

// count starts an adapter that counts, and a client of it.
func count(t *testing.T) *counter {
	t.Helper()
	adapter, addr, in := server(t, "counts 127.0.0.1:0")
	return &counter{connect(t, addr, nil), adapter, in}
}

// halts returns how often the target was halted since it was last asked.
func (c *counter) halts() (n int) {
	c.t.Helper()
	seen := len(c.adapter.out.String())
	fmt.Fprintln(c.in)
	eventually(c.t, "a count", func() bool {
		said, whole := strings.CutSuffix(c.adapter.out.String()[seen:], "\n")
		_, err := fmt.Sscanf(said, "counted %d", &n)
		return err == nil && whole
	})
	return n
}

// makes makes a request of Darn's that must halt the target as often as is wanted,
// by its receipt and by the count.
func (c *counter) makes(want int, command string, arguments map[string]any) *patcher.Patch {
	c.t.Helper()
	c.halts()
	var r result
	c.call("darn/"+command, arguments, &r)
	if n := c.halts(); n != want || r.Receipt.Halts != want {
		c.t.Errorf("darn/%s halted the target %d times, by its receipt %d times (%s), want %d", command, n, r.Receipt.Halts, r.Receipt.HaltedBecause, want)
	}
	if (r.Receipt.HaltedBecause == "") != (want == 0) {
		c.t.Errorf("darn/%s with %d halts says that it halted because %q", command, want, r.Receipt.HaltedBecause)
	}
	return r.Patch
}

// unloads unloads a patch, for which the target stands still once, to see that nobody
// is in it, and before that at most once to have an idle runtime collect.
func (c *counter) unloads(id string) {
	c.t.Helper()
	c.halts()
	var r result
	c.call("darn/unload", map[string]any{"id": id}, &r)
	want, because := 1, r.Receipt.HaltedBecause
	if strings.Contains(because, "has to be woken") {
		want++
	}
	if n := c.halts(); n != want || r.Receipt.Halts != want || !strings.Contains(because, "proving that nothing refers to the patch") {
		c.t.Errorf("an unload halted the target %d times, by its receipt %d times (%s)", n, r.Receipt.Halts, because)
	}
}

// A breakpoint makes an activation halt the target if it has to move, and for
// nothing else.
func TestActivationsHaltForBreakpointsThatMove(t *testing.T) {
	s, target, get := openShop(t)
	main := filepath.Join(s.dir, "main.go")
	elsewhere, patched := lineOf(t, main, `fmt.Sprintf("hello %s"`), lineOf(t, main, `return "a " + t.label()`)
	for _, test := range []struct {
		name  string
		lines []int
		halts int
	}{
		{"none", nil, 0},
		{"elsewhere", []int{elsewhere}, 0},
		{"in a function that is replaced", []int{elsewhere, patched}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := count(t)
			c.attach(target.Process.Pid)
			if set := c.breakpoints(main, test.lines...); len(set) != len(test.lines) {
				t.Fatalf("%+v", set)
			}
			c.configured()
			p := c.makes(1, "load", map[string]any{"path": s.described}) // which makes the arena
			id := map[string]any{"id": p.ID}
			for range 2 {
				c.makes(test.halts, "activate", id)
				c.makes(test.halts, "deactivate", id)
			}
			c.patch("unload", id)
			c.disconnect(false)
			mustAnswer(t, get)
		})
	}
}

// A load halts the target for the arena and the thread only. The debugger, which
// could take the module in under a halt only, does at the next stop: then it sees
// into the new code.
func TestLoadsOfASessionDoNotHalt(t *testing.T) {
	s, target, get := openShop(t)
	c := count(t)
	c.attach(target.Process.Pid)
	main := filepath.Join(s.dir, "main.go")
	c.breakpoints(main, lineOf(t, main, `fmt.Sprintf("hello %s"`))
	c.configured()
	first := c.makes(1, "load", map[string]any{"path": s.described})
	second := c.makes(0, "load", map[string]any{"path": s.module})
	c.makes(0, "activate", map[string]any{"id": first.ID})
	c.patch("activate", map[string]any{"id": second.ID})
	anew := make(chan string, 1)
	go func() { anew <- get("/wait") }()
	eventually(t, "a call waits", func() bool { return get("/waiting") == "1" })
	c.call("pause", dap.PauseArguments{}, nil)
	stop := c.stoppedFor("pause")
	if f := c.framesNamed("main.wait"); len(f) != 1 || f[0].Name != "main.wait" || f[0].Source == nil || f[0].Source.Path != main {
		t.Errorf("the frames in the new code are %+v", f)
	}
	c.resume("continue", stop.ThreadId)
	get("/release")
	if got := <-anew; got != "waited anew" {
		t.Errorf("the answer is %s", got)
	}
	for _, p := range []*patcher.Patch{first, second} {
		c.patch("deactivate", map[string]any{"id": p.ID})
		c.unloads(p.ID)
	}
	// It is taken in before breakpoints are set too, which may be for it.
	p := c.patch("load", map[string]any{"path": s.described})
	c.unloads(p.ID)
	p = c.patch("load", map[string]any{"path": s.described})
	c.makes(0, "activate", map[string]any{"id": p.ID})
	line := lineOf(t, main, `return "a " + t.label()`)
	c.breakpoints(main, line)
	go func() { anew <- get("/describe") }()
	stop = c.stoppedFor("breakpoint")
	if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.describe:%d main.main.func3:", line)) {
		t.Errorf("stopped at %s", got)
	}
	c.breakpoints(main)
	c.resume("continue", stop.ThreadId)
	if got := <-anew; got != "one pen" {
		t.Errorf("the answer is %s", got)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

// Once the client has made a request of Darn's what a first load needs is made when
// the target stands still, and goes with the session.
func TestAFirstLoadDoesNotHaltIfTheTargetHasStoodStill(t *testing.T) {
	s, target, get := openShop(t)
	list := func(c *counter) { c.call("darn/list", nil, nil) }
	pause := func(c *counter) {
		c.call("pause", dap.PauseArguments{}, nil)
		stop := c.stoppedFor("pause")
		c.resume("continue", stop.ThreadId)
	}
	for _, test := range []struct {
		name   string
		kind   string // the type of the session, as an editor calls it
		before func(c *counter)
		after  func(c *counter)
		halts  int
	}{
		{"since it was attached to", "", list, func(*counter) {}, 0},
		{"since it was attached to by the type darn", "darn", func(*counter) {}, func(*counter) {}, 0},
		{"since a pause", "", func(*counter) {}, func(c *counter) { list(c); pause(c) }, 0},
		{"but no request was made then", "go", func(*counter) {}, pause, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			was := traces(t, target)
			loads := []bool{true}
			if test.halts == 0 {
				loads = []bool{false, true}
			}
			for _, load := range loads {
				c := count(t)
				c.start("attach", map[string]any{"mode": "local", "processId": target.Process.Pid, "type": test.kind})
				test.before(c)
				c.configured()
				test.after(c)
				if is := traces(t, target); test.halts > 0 && is != was {
					t.Errorf("a session that only debugs has made\n%s", is)
				}
				if load {
					p := c.makes(test.halts, "load", map[string]any{"path": s.described})
					c.patch("unload", map[string]any{"id": p.ID})
				}
				c.disconnect(false)
				mustAnswer(t, get)
				mustBeWhole(t, target)
				if is := traces(t, target); is != was {
					t.Errorf("the session leaves\n%swhere there was\n%s", is, was)
				}
			}
		})
	}
}

// traces returns what Darn would have in a process: memory near the code, threads and
// descriptors.
func traces(t *testing.T, target *child) string {
	t.Helper()
	var text strings.Builder
	maps, err := process.ReadMaps(target.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Start < 1<<31 && m.Path != "[heap]" || strings.Contains(m.Path, "darn") {
			fmt.Fprintf(&text, "%#x-%#x %s %s\n", m.Start, m.End, m.Perms, m.Path)
		}
	}
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", target.Process.Pid))
	for _, name := range names {
		if comm, _ := os.ReadFile(name); string(comm) == "darn\n" {
			fmt.Fprintf(&text, "%s\n", name)
		}
	}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", target.Process.Pid))
	for _, file := range files {
		if to, _ := os.Readlink(file); strings.Contains(to, "memfd") {
			fmt.Fprintf(&text, "%s %s\n", file, to)
		}
	}
	return text.String()
}

// A request that attaches can forbid the thread: then all that it does takes halts.
func TestTheResidentIsForbiddenByTheRequest(t *testing.T) {
	s, target, get := openShop(t)
	c := count(t)
	c.start("attach", map[string]any{"mode": "local", "processId": target.Process.Pid, "darnResident": "never"})
	c.call("darn/list", nil, nil)
	c.configured()
	p := c.makes(1, "load", map[string]any{"path": s.described})
	if is := traces(t, target); strings.Contains(is, "/comm") {
		t.Errorf("the process has a thread of Darn's:\n%s", is)
	}
	var r result
	c.call("darn/activate", map[string]any{"id": p.ID}, &r)
	if r.Receipt.Halts == 0 || !strings.Contains(r.Receipt.HaltedBecause, "forbidden") {
		t.Errorf("the receipt of the activation is %+v", r.Receipt)
	}
	if got := get("/describe"); got != "one pen" {
		t.Errorf("the answer is %s", got)
	}
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.patch("unload", map[string]any{"id": p.ID})
	c.disconnect(false)
	mustAnswer(t, get)
	mustBeWhole(t, target)
}

// A program that was launched is looked at when the first request comes, which may
// take halts: they are in the first receipt.
func TestTheFirstReceiptOfALaunchedProgramHasAllHalts(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	c := count(t)
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe})
	c.configured()
	eventually(t, "the program to begin", func() bool { return strings.Contains(c.adapter.out.String(), "addr ") })
	c.halts()
	var r result
	c.call("darn/load", map[string]any{"path": s.described}, &r)
	if n := c.halts(); n != r.Receipt.Halts || n < 1 || r.Receipt.HaltedBecause == "" {
		t.Errorf("the load halted the target %d times, by its receipt %d times (%s)", n, r.Receipt.Halts, r.Receipt.HaltedBecause)
	}
	t.Log(r.Receipt.Halts, r.Receipt.HaltedBecause)
	c.disconnect(true)
}

// One that has stopped in a session of the type darn has been looked at by then.
func TestAFirstLoadDoesNotHaltALaunchedProgramThatHasStopped(t *testing.T) {
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(s.dir, "main.go")
	c := count(t)
	c.start("launch", map[string]any{"mode": "exec", "program": s.exe, "type": "darn"})
	c.breakpoints(main, lineOf(t, main, `net.Listen("tcp"`))
	c.configured()
	stop := c.stoppedFor("breakpoint")
	c.breakpoints(main)
	c.resume("continue", stop.ThreadId)
	p := c.makes(0, "load", map[string]any{"path": s.described})
	c.makes(0, "activate", map[string]any{"id": p.ID})
	c.disconnect(true)
}
