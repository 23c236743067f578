package adapter

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
)

// shop is testdata/targets/shop in a folder of its own, with a module that
// takes 30 off its total, turns largest into smallest and answers anew who has
// waited, one that takes 40 off, one that changes describe alone, and one that
// panics where nobody recovers.
type shop struct {
	dir, exe, module, more, described, computed, fatal string
}

var theShop = sync.OnceValues(func() (*shop, error) {
	s := &shop{dir: filepath.Join(buildDir, "shop")}
	s.exe, s.module = filepath.Join(s.dir, "shop"), filepath.Join(s.dir, "discount.so")
	base := filepath.Join(buildDir, "shop-base")
	for _, dir := range []string{s.dir, base} {
		if err := os.CopyFS(dir, os.DirFS("../testdata/targets/shop")); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("go", "build", "-o", s.exe, ".")
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, &exec.Error{Name: string(out), Err: err}
	}
	main := filepath.Join(s.dir, "main.go")
	text, err := os.ReadFile(main)
	if err != nil {
		return nil, err
	}
	s.more, s.computed, s.fatal = filepath.Join(s.dir, "more.so"), filepath.Join(s.dir, "computed.so"), filepath.Join(s.dir, "fatal.so")
	s.described = filepath.Join(s.dir, "described.so")
	for output, edit := range map[string][]string{
		s.described: {`return "a " + t.label()`, `return "one " + t.label()`},
		s.module:    {"return n * price", "return n*price - 30", "m = max(m, v)", "m = min(m, v)", `return "waited"`, `return "waited anew"`},
		s.more: {"return n * price", "return n*price - 40", `return "a " + t.label()`, `return "one " + t.label()`,
			// A closure that is kept, and captures more.
			"func main() {", "func main() { numbers := []int{3, 9, 4}", "largest([]int{3, 9, 4})", "largest(numbers)"},
		s.computed: {"return n * price", `return n*price - rebates["all"]`, "func main() {", "var rebates = map[string]int{\"all\": 30}\n\nfunc main() {"},
		s.fatal:    {"return n * price", "var bills map[int]int\n\tgo func() { bills[n] = price }()\n\tselect {}"},
	} {
		if err := os.WriteFile(main, []byte(strings.NewReplacer(edit...).Replace(string(text))), 0o644); err != nil {
			return nil, err
		}
		if err := patchBuilder.Build(context.Background(), builder.Options{Dir: s.dir, Base: base, Target: s.exe, Output: output}); err != nil {
			return nil, err
		}
	}
	return s, os.WriteFile(main, text, 0o644)
})

// openShop starts a shop and returns how to ask it.
func openShop(t testing.TB) (*shop, *child, func(path string) string) {
	t.Helper()
	s, err := theShop()
	if err != nil {
		t.Fatal(err)
	}
	target, get := startShop(t, s.exe)
	return s, target, get
}

// startShop starts a shop and returns how to ask it.
func startShop(t testing.TB, exe string) (*child, func(path string) string) {
	t.Helper()
	target := start(t, exec.Command(exe))
	var addr string
	eventually(t, "the shop's address", func() bool {
		_, rest, ok := strings.Cut(target.out.String(), "addr ")
		addr, _, _ = strings.Cut(rest, "\n")
		return ok && addr != ""
	})
	return target, func(path string) string {
		r, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Error(err)
			return err.Error()
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(body))
	}
}

// debugShop starts a shop that runs in a session.
func debugShop(t testing.TB, exe string) (*client, *child, func(path string) string) {
	t.Helper()
	target, get := startShop(t, exe)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	return c, target, get
}

// lineOf returns the number of the first line of a file that contains mark.
func lineOf(t testing.TB, file, mark string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(text), mark)
	if !ok {
		t.Fatalf("%s has no %q", file, mark)
	}
	return strings.Count(before, "\n") + 1
}

// patch makes a request of Darn's and returns the patch it's about.
func (c *client) patch(command string, arguments map[string]any) *patcher.Patch {
	c.t.Helper()
	var r result
	c.call("darn/"+command, arguments, &r)
	if r.Receipt == nil || string(r.Receipt.Operation) != command {
		c.t.Errorf("darn/%s gave the receipt %+v", command, r.Receipt)
	}
	return r.Patch
}

// story takes a patch through all its states. The old code makes see find was,
// the new code is.
func (c *client) story(module, was, is string, see func(want string)) {
	c.t.Helper()
	see(was)
	p := c.patch("load", map[string]any{"path": module})
	see(was)
	id := map[string]any{"id": p.ID}
	for range 2 {
		c.patch("activate", id)
		see(is)
		c.patch("deactivate", id)
		see(was)
	}
	c.patch("unload", id)
	see(was)
}

func TestPatchWhileTheTargetRuns(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	c.story(s.module, "300", "270", func(want string) {
		t.Helper()
		if got := get("/total"); got != want {
			t.Fatalf("the total is %s, want %s", got, want)
		}
	})
	for _, want := range []string{"loaded", "activated", "deactivated", "activated", "deactivated", "unloaded"} {
		var e struct{ Reason string }
		c.event("darn/patch", &e)
		if e.Reason != want {
			t.Errorf("an event darn/patch says %q, want %q", e.Reason, want)
		}
	}
	c.disconnect(false)
	if got := get("/total"); got != "300" {
		t.Errorf("after the session the total is %s", got)
	}
}

// A signal that stops a process stops the threads that Delve does not trace, and
// those alone, as Delve lets the others go on.
func TestASignalThatStopsTheProcessHoldsNoOperationUp(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	id, _, _ := strings.Cut(c.evaluate("darn load "+s.module), " ")
	if err := target.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"activate ", "deactivate ", "unload "} {
		c.evaluate("darn " + operation + id)
		get("/total")
	}
	c.disconnect(false)
	get("/total")
}

// TestThePatchEventIsForClientsThatKnowDarn works in the debug console first,
// as one that doesn't would.
func TestThePatchEventIsForClientsThatKnowDarn(t *testing.T) {
	s, target, _ := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	loaded := c.evaluate("darn load " + s.module)
	c.event("module", nil) // comes after what is said to those that know
	if slices.Contains(c.Pending(), "darn/patch") {
		t.Error("an event that is not in the protocol was sent to a client that may not know it")
	}
	c.call("darn/list", nil, nil)
	id, _, _ := strings.Cut(loaded, " ")
	c.evaluate("darn activate " + id)
	var e struct{ Reason string }
	c.event("darn/patch", &e)
	if e.Reason != "activated" {
		t.Errorf("an event darn/patch says %q", e.Reason)
	}
	c.disconnect(false)
}

func TestPatchBeforeConfigurationDone(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	p := c.patch("load", map[string]any{"path": s.module})
	c.patch("activate", map[string]any{"id": p.ID})
	c.configured()
	if got := get("/total"); got != "270" {
		t.Errorf("the total is %s", got)
	}
	c.disconnect(false)
	if got := get("/total"); got != "270" {
		t.Errorf("after the session the total is %s: patches stay", got)
	}
}

func TestPatchWhileStoppedAtABreakpoint(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	main := filepath.Join(s.dir, "main.go")
	line := lineOf(t, main, "total(3, 100)")
	c.breakpoints(main, line)
	c.configured()
	answers := make(chan string, 1)
	ask := func() { go func() { answers <- get("/total") }() }
	ask()
	stop := c.stoppedFor("breakpoint")
	// Each look is a request that runs into the breakpoint, with the target
	// stopped there before and after.
	c.story(s.module, "300", "270", func(want string) {
		t.Helper()
		c.resume("continue", stop.ThreadId)
		if got := <-answers; got != want {
			t.Fatalf("the total is %s, want %s", got, want)
		}
		ask()
		stop = c.stoppedFor("breakpoint")
		if got := c.top(stop.ThreadId); got != line {
			t.Fatalf("stopped at line %d, want %d", got, line)
		}
	})
	c.breakpoints(main)
	c.resume("continue", stop.ThreadId)
	if got := <-answers; got != "300" {
		t.Errorf("the last total is %s", got)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

// What it brings is initialised by the program, which has to run for that.
func TestAPatchThatInitialisesIsPendingWhileTheTargetIsStopped(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	p := c.patch("load", map[string]any{"path": s.computed})
	c.patchSays("loaded", p.ID, patcher.Loaded)
	activate := func() {
		t.Helper()
		if p := c.patch("activate", map[string]any{"id": p.ID}); p.State != patcher.Pending {
			t.Fatalf("stopped, the patch is %s, want pending", p.State)
		}
		c.patchSays("pending", p.ID, patcher.Pending)
	}
	activate()
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.patchSays("failed", p.ID, patcher.Loaded)
	c.patchSays("deactivated", p.ID, patcher.Loaded)
	activate()
	c.configured()
	c.patchSays("activated", p.ID, patcher.Active)
	if got := get("/total"); got != "270" {
		t.Errorf("the total is %s, want 270", got)
	}
	c.call("pause", map[string]any{"threadId": 1}, nil)
	stop := c.stoppedFor("pause")
	c.patch("deactivate", map[string]any{"id": p.ID})
	if p := c.patch("activate", map[string]any{"id": p.ID}); p.State != patcher.Active {
		t.Errorf("initialised, the patch is %s, want active", p.State)
	}
	c.patch("deactivate", map[string]any{"id": p.ID})
	c.resume("continue", stop.ThreadId)
	c.disconnect(false)
	mustAnswer(t, get)
}

func TestPatchWhileBreakpointsAreHit(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	main := filepath.Join(s.dir, "main.go")
	c.breakpoints(main, lineOf(t, main, "total(3, 100)"))
	c.configured()
	const requests = 60
	answered := make(chan string, requests)
	go func() {
		defer close(answered)
		for range requests {
			answered <- get("/total")
		}
	}()
	operations := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		operations <- func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				var r result
				if err := c.Call(c.ctx, "darn/load", map[string]any{"path": s.module}, &r); unfit(err) {
					continue
				} else if err != nil {
					return err
				}
				id := map[string]any{"id": r.Patch.ID}
				for _, op := range []string{"activate", "deactivate", "activate", "deactivate", "unload"} {
					for {
						err := c.Call(c.ctx, "darn/"+op, id, nil)
						if err == nil {
							break
						}
						if !unfit(err) { // stopped inside the runtime, or the new code
							return err
						}
					}
				}
			}
		}()
	}()
	stops := 0
	for answered != nil {
		select {
		case got, ok := <-answered:
			if !ok {
				answered = nil
			} else if got != "300" && got != "270" {
				t.Errorf("the total is %s", got)
			}
		case err := <-operations:
			t.Fatal(err)
		default:
			if stops == requests {
				time.Sleep(time.Millisecond)
				continue
			}
			stop := c.stoppedFor("breakpoint")
			stops++
			c.resume("continue", stop.ThreadId)
		}
	}
	close(done)
	if err := <-operations; err != nil {
		t.Fatal(err)
	}
	if stops != requests {
		t.Errorf("%d requests made %d stops", requests, stops)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

func TestABreakpointInTheNewRedirectIsNamed(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	p := c.patch("load", map[string]any{"path": s.module})
	total := slices.IndexFunc(p.Functions, func(f patcher.Function) bool { return f.Name == "main.total" })
	at := func(offset uint64) []dap.InstructionBreakpoint {
		return []dap.InstructionBreakpoint{{InstructionReference: fmt.Sprintf("%#x", p.Functions[total].Address+offset)}}
	}
	var r dap.SetInstructionBreakpointsResponseBody
	c.call("setInstructionBreakpoints", map[string]any{"breakpoints": at(3)}, &r)
	if len(r.Breakpoints) != 1 || !r.Breakpoints[0].Verified {
		t.Fatalf("the breakpoint is %+v", r.Breakpoints)
	}
	id := map[string]any{"id": p.ID}
	if err := c.fails("darn/activate", id); !strings.Contains(err.Error(), "breakpoint-at-entry") {
		t.Errorf("activate says %v", err)
	}
	// On the entry itself it does no harm.
	c.call("setInstructionBreakpoints", map[string]any{"breakpoints": at(0)}, &r)
	c.patch("activate", id)
	if err := c.fails("setInstructionBreakpoints", map[string]any{"breakpoints": at(3)}); !strings.Contains(err.Error(), "breakpoint-at-entry") {
		t.Errorf("a breakpoint inside the jump gives %v", err)
	}
	c.configured()
	answer := make(chan string)
	go func() { answer <- get("/total") }()
	stop := c.stopped()
	c.resume("continue", stop.ThreadId)
	if got := <-answer; got != "270" {
		t.Errorf("the total is %s", got)
	}
	c.call("setInstructionBreakpoints", map[string]any{"breakpoints": at(0)[:0]}, &r)
	if got := get("/total"); got != "270" {
		t.Errorf("the total is %s without the breakpoint", got)
	}
	c.patch("deactivate", id)
	if got := get("/total"); got != "300" {
		t.Errorf("the total is %s after deactivation", got)
	}
	c.disconnect(false)
	mustAnswer(t, get)
}

// The prologue of main.largest ends after its first byte, inside the jump that
// stands there when it is patched: that is where Delve puts the breakpoint.
func TestAFunctionBreakpointInsideAJumpDoesNoHarm(t *testing.T) {
	s, target, get := openShop(t)
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	id := map[string]any{"id": p.ID}
	see := func(want string) {
		t.Helper()
		if got := get("/largest"); got != want {
			t.Fatalf("/largest answers %s, want %s", got, want)
		}
	}
	c.patch("activate", id)
	see("3 a")
	var r dap.SetFunctionBreakpointsResponseBody
	set := func(names ...string) {
		a := dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{}}
		for _, n := range names {
			a.Breakpoints = append(a.Breakpoints, dap.FunctionBreakpoint{Name: n})
		}
		c.call("setFunctionBreakpoints", a, &r)
	}
	set("main.largest")
	if len(r.Breakpoints) != 1 || !r.Breakpoints[0].Verified {
		t.Fatalf("the breakpoint is %+v", r.Breakpoints)
	}
	stops := func(want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/largest") }()
		for range 2 { // numbers and strings
			c.resume("continue", c.stoppedFor("function breakpoint").ThreadId)
		}
		if got := <-answer; got != want {
			t.Fatalf("/largest answers %s, want %s", got, want)
		}
	}
	stops("3 a") // in the new code: the old one does not run
	set()
	see("3 a")
	c.patch("deactivate", id)
	see("9 c")
	set("main.largest")
	c.patch("activate", id)
	stops("3 a")
	set()
	c.patch("deactivate", id)
	see("9 c")
	c.patch("unload", id)
	see("9 c")
	c.disconnect(false)
	mustAnswer(t, get)
}

// mustAnswer fails the test unless the shop answers as if never patched.
func mustAnswer(t testing.TB, get func(string) string) {
	t.Helper()
	if got := get("/total"); got != "300" {
		t.Errorf("after the session the total is %s", got)
	}
}

// BenchmarkToggle is the round trip of darn/activate and darn/deactivate, after
// the first activation, each with an answer from a running target.
func BenchmarkToggle(b *testing.B) {
	s, target, _ := openShop(b)
	c, _ := session(b)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.module})
	id := map[string]any{"id": p.ID}
	c.patch("activate", id)
	b.ResetTimer()
	for range b.N {
		c.patch("deactivate", id)
		c.patch("activate", id)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(2*b.N), "ms/toggle")
	b.StopTimer()
	c.disconnect(false)
}
