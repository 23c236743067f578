package patcher_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// attachCounting is attach with a count of every halt that is made from now on.
func attachCounting(t testing.TB, target *targettest.Target, options ...func(*patcher.Engine)) (e *patcher.Engine, halts func() int, detach func()) {
	t.Helper()
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if e, err = patcher.Open(p, options...); err != nil {
		p.Close()
		t.Fatal(err)
	}
	stop := p.Measure()
	halts = func() int {
		n := stop().Halts
		stop = p.Measure()
		return n
	}
	done := false
	detach = func() {
		if !done {
			done = true
			e.Close()
			if err := p.Close(); err != nil {
				t.Errorf("detaching: %v", err)
			}
		}
	}
	t.Cleanup(detach)
	return e, halts, detach
}

// residents returns the threads of a process that are Darn's.
func residents(t testing.TB, target *targettest.Target) (tids []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/task", target.Pid())
	tasks, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		name, _ := os.ReadFile(filepath.Join(dir, task.Name(), "comm"))
		if strings.TrimSpace(string(name)) == "darn" {
			tids = append(tids, task.Name())
		}
	}
	return tids
}

// must checks what an operation says and how many halts there were, by the receipt
// and by the process's own count: none, or at least as many as are given, since a
// halt that finds the collector at work is made again.
func must(t *testing.T, r *patcher.Receipt, err error, counted, halts int) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if r.Halts != counted || counted < halts || halts == 0 && counted > 0 {
		t.Errorf("%s made %d halts, its receipt says %d (because %s); want %d", r.Operation, counted, r.Halts, r.HaltedBecause, halts)
	}
	if (r.HaltedBecause == "") != (halts == 0) {
		t.Errorf("%s with %d halts says that it halted because %q", r.Operation, halts, r.HaltedBecause)
	}
}

const twoPatches = 2

// TestNoHaltGo: all but the load that makes the arena, and an unload, goes without
// a halt while threads run the functions that are patched and the collector is at
// work all the time; without the resident thread the same works under halts.
func TestNoHaltGo(t *testing.T) {
	s := newShop(t)
	modules := [twoPatches]string{
		s.module(t, "describe", edit{`return "a " + t.label()`, `return "one " + t.label()`}),
		s.module(t, "greet", edit{`"hello %s"`, `"welcome %s"`}),
	}
	for _, test := range []struct {
		name                  string
		options               []func(*patcher.Engine)
		second, first, thread int
	}{
		{"with the resident thread", nil, 0, 0, 1},
		{"without", []func(*patcher.Engine){patcher.WithoutResident()}, 1, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := s.start(t, "GOGC=1")
			before := snapshot(t, target.Pid())
			busy := keepBusy(target, "/describe", "/greet?name=eve", "/gc")
			e, halts, detach := attachCounting(t, target, test.options...)
			var patches [twoPatches]*patcher.Patch
			for i, m := range modules {
				p, r, err := e.Load(t.Context(), m)
				patches[i] = p
				if i > 0 {
					must(t, r, err, halts(), test.second)
				} else if err != nil {
					t.Fatal(err)
				}
				halts()
			}
			if n := len(residents(t, target)); n != test.thread {
				t.Errorf("the process has %d threads of Darn's", n)
			}
			for i, p := range patches {
				if encoding := p.Functions[0].Encoding; encoding != redirect.SingleEncoding {
					t.Errorf("%s is %s: %s", p.Functions[0].Name, encoding, p.Functions[0].EncodingReason)
				}
				_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
				must(t, r, err, halts(), test.first)
				expect(t, target, "/describe", "one pen")
				expect(t, target, "/greet?name=eve", []string{"hello eve", "welcome eve"}[i])
			}
			for _, p := range patches {
				_, r, err := e.Deactivate(t.Context(), p.ID)
				must(t, r, err, halts(), 0)
			}
			expect(t, target, "/describe", "a pen")
			expect(t, target, "/greet?name=eve", "hello eve")
			busy()
			for _, p := range patches {
				targettest.Eventually(t, "an unload", func() bool {
					_, err := e.Unload(t.Context(), p.ID)
					return err == nil
				})
			}
			detach()
			if n := residents(t, target); len(n) != 0 {
				t.Errorf("the threads %v stay behind", n)
			}
			if d := before.diff(snapshot(t, target.Pid())); d != "" {
				t.Errorf("the process is not as it was:\n%s", d)
			}
			expect(t, target, "/describe", "a pen")
			target.MustLive()
		})
	}
}

// keepBusy makes requests all the time, until the function is called that it
// returns.
func keepBusy(target *targettest.Target, paths ...string) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for _, path := range paths {
				select {
				case <-over:
					return
				default:
					target.Get(path)
				}
			}
		}
	}()
	return func() { close(over); <-done }
}

// TestNoHaltDirect: a function whose first instruction may fault has no switch. Its
// entry is the switch, and one store is enough as long as it is the patch's only one.
func TestNoHaltDirect(t *testing.T) {
	s := newBoxShop(t)
	modules := []string{
		s.module(t, "weight1", edit{"return b.n*k + 1", "return b.n*k + 100"}),
		s.module(t, "weight2", edit{"return b.n*k + 1", "return b.n*k + 200"}),
		s.module(t, "both", edit{"return b.n*k + 1", "return b.n*k + 300", `return "a " + t.label()`, `return "one " + t.label()`}),
	}
	target := s.start(t)
	busy := keepBusy(target, "/weigh", "/gc")
	e, halts, detach := attachCounting(t, target)
	var patches []*patcher.Patch
	for _, m := range modules {
		foreseen := foresee(t, e, m)
		patches = append(patches, load(t, e, m))
		mustBeAsForeseen(t, foreseen, patches[len(patches)-1])
	}
	for _, f := range patches[0].Functions {
		if f.Encoding != redirect.DirectEncoding || !strings.Contains(f.EncodingReason, "accesses memory") {
			t.Errorf("%s is %s: %s", f.Name, f.Encoding, f.EncodingReason)
		}
	}
	halts()
	for _, step := range []struct {
		patch  int
		on     bool
		halts  int
		weight string
	}{
		{0, true, 0, "108"}, {0, false, 0, "9"}, {0, true, 0, "108"},
		{1, true, 0, "208"}, {0, false, 0, "208"}, {0, true, 0, "208"}, {1, false, 0, "108"},
		{2, true, 1, "308"}, {2, false, 1, "108"}, {0, false, 0, "9"},
	} {
		var r *patcher.Receipt
		var err error
		if id := patches[step.patch].ID; step.on {
			_, r, err = e.Activate(t.Context(), id, patcher.ActivateOptions{})
		} else {
			_, r, err = e.Deactivate(t.Context(), id)
		}
		must(t, r, err, halts(), step.halts)
		expect(t, target, "/weigh", step.weight)
	}
	activate(t, e, patches[1])
	detach()
	e, _, detach = attachCounting(t, target) // finds all where it is
	expect(t, target, "/weigh", "208")
	deactivate(t, e, patches[1])
	expect(t, target, "/weigh", "9")
	busy()
	for _, p := range patches {
		targettest.Eventually(t, "an unload", func() bool {
			_, err := e.Unload(t.Context(), p.ID)
			return err == nil
		})
	}
	expect(t, target, "/weigh", "9")
	detach()
	target.MustLive()
}

const pricier = "int total(int n) { return 7000 + n; }\n"

// TestNoHaltC is TestNoHaltGo for a program in C, whose threads do nothing but call
// the function.
func TestNoHaltC(t *testing.T) {
	for _, test := range []struct{ name, protection, lands string }{
		{"its first instruction has four bytes", "-fcf-protection", "\x80\x3d"},    // cmpb, of a stub
		{"its first instruction has one byte", "-fcf-protection=none", "\xff\x25"}, // jmp, of a pad
	} {
		t.Run(test.name, func(t *testing.T) {
			noHaltC(t, cshop(t, "-O0", test.protection, "-falign-functions=16"), test.lands)
		})
	}
}

// landing returns the first two bytes of what a jump at an address leads to.
func landing(t testing.TB, target *targettest.Target, at uint64) string {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	jump, first := make([]byte, 5), make([]byte, 2)
	if _, err := mem.ReadAt(jump, int64(at)); err != nil || jump[0] != 0xe9 {
		t.Fatalf("at %#x stands % x, %v", at, jump, err)
	}
	if _, err := mem.ReadAt(first, int64(at)+5+int64(int32(binary.LittleEndian.Uint32(jump[1:])))); err != nil {
		t.Fatal(err)
	}
	return string(first)
}

func noHaltC(t *testing.T, exe, lands string) {
	t.Helper()
	modules := [twoPatches]string{cModule(t, pricier), cModule(t, "int total(int n) { return 8000 + n; }\n")}
	target := targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " total=20 ")
	e, halts, detach := attachCounting(t, target)
	var patches [twoPatches]*patcher.Patch
	for i, m := range modules {
		p, r, err := e.Load(t.Context(), m)
		must(t, r, err, halts(), 1-i)
		patches[i] = p
	}
	for i, want := range []string{" total=7004 ", " total=8004 "} {
		_, r, err := e.Activate(t.Context(), patches[i].ID, patcher.ActivateOptions{})
		must(t, r, err, halts(), 0)
		if r.Encodings["single"] != 1 {
			t.Errorf("the encodings are %v", r.Encodings)
		}
		if got := landing(t, target, patches[i].Functions[0].Address); got != lands {
			t.Errorf("the entry leads to % x.., not % x", got, lands)
		}
		prints(t, target, want)
	}
	for i, want := range []string{" total=7004 ", " total=20 "} {
		_, r, err := e.Deactivate(t.Context(), patches[1-i].ID)
		must(t, r, err, halts(), 0)
		prints(t, target, want)
	}
	// The next one finds all where it is.
	detach()
	e, halts, detach = attachCounting(t, target)
	for i, want := range []string{" total=8004 ", " total=20 "} {
		var r *patcher.Receipt
		var err error
		if i == 0 {
			_, r, err = e.Activate(t.Context(), patches[1].ID, patcher.ActivateOptions{})
		} else {
			_, r, err = e.Deactivate(t.Context(), patches[1].ID)
		}
		must(t, r, err, halts(), 0)
		prints(t, target, want)
	}
	for _, p := range patches {
		targettest.Eventually(t, "an unload", func() bool {
			_, err := e.Unload(t.Context(), p.ID)
			return err == nil
		})
		prints(t, target, " total=20 ")
	}
	prints(t, target, " wrong=0")
	detach()
	if n := residents(t, target); len(n) != 0 {
		t.Errorf("the threads %v stay behind", n)
	}
	target.MustLive()
}

// foresee returns what an inspection says of a module's functions.
func foresee(t testing.TB, e *patcher.Engine, m string) []patcher.Function {
	t.Helper()
	in, err := e.Inspect(t.Context(), m)
	if err != nil || !in.OK {
		t.Fatalf("inspect: %v, %+v", err, in)
	}
	return in.Module.Functions
}

// mustBeAsForeseen compares how functions are redirected with what was foreseen.
func mustBeAsForeseen(t testing.TB, foreseen []patcher.Function, p *patcher.Patch) {
	t.Helper()
	for i, f := range p.Functions {
		if x := foreseen[i]; x.Name != f.Name || x.Encoding != f.Encoding || x.EncodingReason != f.EncodingReason {
			t.Errorf("%s was to be %s (%s) and is %s (%s)", x.Name, x.Encoding, x.EncodingReason, f.Encoding, f.EncodingReason)
		}
	}
}

// A library that the program was linked with stays as long as the program: its
// functions are patched without a halt. One that dlopen has loaded might go.
func TestNoHaltLibrary(t *testing.T) {
	library := func(name string) string { // the first instruction, imul, has six bytes
		return cModule(t, "int "+name+"(int n) { return n * 0x12345; }", "-fcf-protection=none")
	}
	linked, opened := library("linked"), library("opened")
	exe := cProgram(t, `
#include <dlfcn.h>
int linked(int);
int main(int c, char **v)
{
	int (*opened)(int) = dlsym(dlopen(v[1], RTLD_NOW), "opened");
	ROUNDS printf("linked=%d opened=%d\n", linked(1), opened(1));
}`, linked)
	modules := map[string]string{}
	for _, name := range []string{"linked", "opened"} {
		modules[name] = cModule(t, "int "+name+"(int n) { return n; }")
	}
	target := targettest.Start(t, targettest.Command{Path: exe, Args: []string{opened}})
	prints(t, target, "linked=74565 opened=74565")
	e, halts, detach := attachCounting(t, target)
	for _, test := range []struct {
		name, printed string
		halts         int
		reason        string
	}{
		{"linked", "linked=1 opened=74565", 0, ""},
		{"opened", "linked=1 opened=1", 1, "loaded by dlopen"},
	} {
		foreseen := foresee(t, e, modules[test.name])
		p := load(t, e, modules[test.name])
		mustBeAsForeseen(t, foreseen, p)
		if reason := p.Functions[0].EncodingReason; !strings.Contains(reason, test.reason) || (reason == "") != (test.reason == "") {
			t.Errorf("%s can't be written by one store because %q", test.name, reason)
		}
		halts()
		_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
		must(t, r, err, halts(), test.halts)
		prints(t, target, test.printed)
		_, r, err = e.Deactivate(t.Context(), p.ID)
		must(t, r, err, halts(), 0)
		_, r, err = e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
		must(t, r, err, halts(), 0)
	}
	detach()
	target.MustLive()
}

// holderEnv makes the test program one that loads a module into a process and holds
// on to that until it is killed.
const holderEnv = "DARN_TEST_HOLDER"

func init() {
	if os.Getenv(holderEnv) == "" {
		return
	}
	var pid int
	var module string
	fmt.Sscan(os.Getenv(holderEnv), &pid, &module)
	p, err := process.Attach(pid)
	if err == nil {
		var e *patcher.Engine
		if e, err = patcher.Open(p); err == nil {
			_, _, err = e.Load(context.Background(), module)
		}
	}
	fmt.Println("loaded", err)
	time.Sleep(time.Hour)
}

// TestAKilledDarnLeavesNoThread: the thread ends by itself, at once if another Darn
// comes, and that one makes its own.
func TestAKilledDarnLeavesNoThread(t *testing.T) {
	exe := cshop(t, "-O0", "-fcf-protection", "-falign-functions=16")
	m := cModule(t, pricier)
	for _, test := range []struct {
		name string
		next bool
	}{{"and nobody comes", false}, {"and another comes", true}} {
		t.Run(test.name, func(t *testing.T) {
			target := targettest.Start(t, targettest.Command{Path: exe})
			prints(t, target, " total=20 ")
			holder := exec.Command(os.Args[0])
			holder.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", holderEnv, target.Pid(), m))
			out, err := holder.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
			if line, _ := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "loaded <nil>" {
				t.Fatalf("the holder says %q", line)
			}
			var old []string
			targettest.Eventually(t, "the thread", func() bool {
				old = residents(t, target)
				return len(old) == 1
			})
			if err := holder.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = holder.Wait()
			if !test.next {
				targettest.Eventually(t, "the end of the thread", func() bool { return len(residents(t, target)) == 0 })
				prints(t, target, " total=20 ")
				target.MustLive()
				return
			}
			e, halts, detach := attachCounting(t, target)
			l, err := e.Known(t.Context())
			if err != nil || len(l.Patches) != 1 {
				t.Fatalf("%+v, %v", l, err)
			}
			// The first halt makes a new thread.
			_, r, err := e.Activate(t.Context(), l.Patches[0].ID, patcher.ActivateOptions{})
			must(t, r, err, halts(), 1)
			prints(t, target, " total=7004 ")
			targettest.Eventually(t, "a new thread", func() bool {
				now := residents(t, target)
				return len(now) == 1 && now[0] != old[0]
			})
			detach()
			if n := residents(t, target); len(n) != 0 {
				t.Errorf("the threads %v stay behind", n)
			}
			prints(t, target, " total=7004 ")
			target.MustLive()
		})
	}
}

// startResident starts the program with a patch loaded and its resident thread.
func startResident(t *testing.T) (target *targettest.Target, e *patcher.Engine, p *patcher.Patch, halts func() int) {
	t.Helper()
	exe := targettest.Build(t, filepath.Join(targettest.Root(t), "testdata", "targets", "resident.c"), "-O0", "-fcf-protection", "-falign-functions=16")
	m := cModule(t, "int answer(int n) { return n + 7000; }\n")
	target = targettest.Start(t, targettest.Command{Path: exe})
	prints(t, target, " answer=42")
	e, halts, _ = attachCounting(t, target)
	p = load(t, e, m)
	halts()
	targettest.Eventually(t, "the thread", func() bool { return len(residents(t, target)) == 1 })
	return target, e, p, halts
}

func signal(t *testing.T, target *targettest.Target, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(target.Pid(), s); err != nil {
		t.Fatal(err)
	}
}

// A program restricts itself in the threads that it knows of: the one that it does
// not know must not be left with the rights that it had.
func TestTheResidentKeepsNoRightsThatTheProgramGaveUp(t *testing.T) {
	target, e, p, halts := startResident(t)
	signal(t, target, syscall.SIGUSR1)
	targettest.Eventually(t, "the end of the thread", func() bool { return len(residents(t, target)) == 0 })
	_, r, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	must(t, r, err, halts(), 1)
	prints(t, target, " answer=7000")
	target.MustLive()
}

// A program whose first thread has ended ends with its last one, which Darn's is not.
func TestTheResidentKeepsNoProgramFromEnding(t *testing.T) {
	target, _, _, _ := startResident(t)
	signal(t, target, syscall.SIGHUP)
	targettest.Eventually(t, "the end of the first thread", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", target.Pid()))
		return strings.Contains(string(status), "State:\tZ")
	})
	signal(t, target, syscall.SIGINT)
	if status := target.Wait(); status != 0 {
		t.Errorf("the program ends with status %d", status)
	}
}

// A child has neither the thread nor its place, and while it lives nothing is
// written into its parent alone.
func TestAForkHasNoResident(t *testing.T) {
	target, e, p, halts := startResident(t)
	signal(t, target, syscall.SIGUSR2)
	var children []int
	targettest.Eventually(t, "a child", func() bool {
		children = childrenOf(t, target.Pid())
		return len(children) == 1
	})
	if maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", children[0])); err != nil || strings.Contains(string(maps), "rw-s") {
		t.Errorf("the child has memory in common with its parent: %v\n%s", err, maps)
	}
	if tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", children[0])); err != nil || len(tasks) != 1 {
		t.Errorf("the child has %d threads: %v", len(tasks), err)
	}
	if _, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{}); finding.CodeOf(err) != finding.InUse {
		t.Errorf("activate says %v", err)
	}
	if n := halts(); n != 0 {
		t.Errorf("that took %d halts", n)
	}
	prints(t, target, " answer=42")
	if err := syscall.Kill(children[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var r *patcher.Receipt
	targettest.Eventually(t, "an activation", func() bool {
		var err error
		_, r, err = e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
		return err == nil
	})
	must(t, r, nil, halts(), 0)
	prints(t, target, " answer=7000")
	target.MustLive()
}

// While job control has stopped the program its threads do not run, nor does Darn's:
// what is asked of that is then refused as it is without, and nothing is left half
// done.
func TestTheResidentOfAStoppedProgram(t *testing.T) {
	target, e, p, _ := startResident(t)
	signal(t, target, syscall.SIGSTOP)
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, _, err := e.Activate(ctx, p.ID, patcher.ActivateOptions{})
	t.Logf("activate says %v", err)
	signal(t, target, syscall.SIGCONT)
	if err != nil {
		prints(t, target, " answer=42")
		activate(t, e, p)
	}
	prints(t, target, " answer=7000")
	target.MustLive()
}
