package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"

	builder "github.com/darn-dev/darn/patcher/build"
)

// editedShop is a shop whose source was edited since it was built: lines moved
// and total has more of them.
func editedShop(t testing.TB) (main, module, exe string) {
	t.Helper()
	return editShop(t, "//go:noinline\nfunc total(n, price int) int {\n\treturn n * price\n}",
		"// Total is what is to be paid.\n//\n//go:noinline\nfunc total(n, price int) int {\n\tsum := n * price\n\tsum -= 30\n\treturn sum\n}")
}

// editShop builds a module of an edit of a copy of the shop; the copy stays as
// it was edited.
func editShop(t testing.TB, was, is string) (main, module, exe string) {
	t.Helper()
	return editTarget(t, "shop", []string{was, is})
}

// editTarget builds a program in testdata/targets, with flags, and a module of an
// edit of a copy of it: pairs of what was and what is. The copy stays as it was
// edited. What is the same is built once: it is for looking at.
func editTarget(t testing.TB, name string, edit []string, flags ...string) (main, module, exe string) {
	t.Helper()
	key := fmt.Sprintf("%q", append(append([]string{name}, edit...), flags...))
	if dir, ok := built[key]; ok {
		return filepath.Join(dir, "src", "main.go"), filepath.Join(dir, "edit.so"), filepath.Join(dir, name)
	}
	dir, err := os.MkdirTemp(buildDir, name)
	if err != nil {
		t.Fatal(err)
	}
	module, exe = filepath.Join(dir, "edit.so"), filepath.Join(dir, name)
	base := filepath.Join(dir, "base")
	for _, copy := range []string{base, filepath.Join(dir, "src")} {
		if err := os.CopyFS(copy, os.DirFS("../testdata/targets/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	main = filepath.Join(dir, "src", "main.go")
	if err := os.Rename(buildIn(t, filepath.Dir(main), flags...), exe); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	edited := string(text)
	for pair := range slices.Chunk(edit, 2) {
		if !strings.Contains(edited, pair[0]) {
			t.Fatalf("%s has no %q", main, pair[0])
		}
		edited = strings.Replace(edited, pair[0], pair[1], 1)
	}
	if err := os.WriteFile(main, []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := patchBuilder.Build(t.Context(), builder.Options{Dir: filepath.Dir(main), Base: base, Target: exe, Output: module}); err != nil {
		t.Fatal(err)
	}
	built[key] = dir
	return main, module, exe
}

// buildIn builds the program in a folder, and returns where it is.
func buildIn(t testing.TB, dir string, flags ...string) (exe string) {
	t.Helper()
	exe = filepath.Join(dir, "program")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", exe, ".")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return exe
}

// moved waits until the client is told that a breakpoint moved, and returns where
// to.
func (c *client) moved(id int) dap.Breakpoint {
	c.t.Helper()
	var e dap.BreakpointEventBody
	c.event("breakpoint", &e)
	if e.Reason != "changed" || e.Breakpoint.Id != id {
		c.t.Errorf("the event says %+v, want that breakpoint %d changed", e, id)
	}
	return e.Breakpoint
}

func TestBreakpointsFollowTheCodeThatRuns(t *testing.T) {
	main, module, exe := editedShop(t)
	c, _, get := debugShop(t, exe)
	p := c.patch("load", map[string]any{"path": module})
	id := map[string]any{"id": p.ID}
	old, size := p.Functions[0].Address, uint64(64)
	// In the numbering of the edited file, which is the one on the disk.
	changed := lineOf(t, main, "sum := n * price")
	added := lineOf(t, main, "sum -= 30")
	shifted := lineOf(t, main, `return "a " + t.label()`)
	set := c.breakpoints(main, changed, added, shifted)
	if len(set) != 3 || set[0].Line != changed || set[2].Line != shifted || !set[0].Verified || !set[2].Verified {
		t.Errorf("the breakpoints are %+v", set)
	}
	// What the patch adds is not there while it is not active.
	if b := set[1]; b.Verified || b.Line != added || !strings.Contains(b.Message, "not active") {
		t.Errorf("the line that was added: %+v", b)
	}
	inOld := func(b dap.Breakpoint) bool {
		addr, _ := strconv.ParseUint(b.InstructionReference, 0, 64)
		return b.Verified && addr >= old && addr < old+size
	}
	stops := func(path string, line int, want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get(path) }()
		stop := c.stoppedFor("breakpoint")
		if got := c.top(stop.ThreadId); got != line {
			t.Errorf("stopped on line %d, want %d: %s", got, line, c.stack(stop.ThreadId))
		}
		c.resume("continue", stop.ThreadId)
		select {
		case got := <-answer:
			if got != want {
				t.Errorf("%s answers %s, want %s", path, got, want)
			}
		case <-time.After(10 * time.Second):
			var again dap.StoppedEventBody
			c.event("stopped", &again)
			t.Fatalf("%s is not answered: %+v %s", path, again, c.stack(again.ThreadId))
		}
	}
	stops("/total", changed, "300")
	stops("/describe", shifted, "a pen")

	c.patch("activate", id)
	if b := c.moved(set[0].Id); inOld(b) || !b.Verified || b.Line != changed {
		t.Errorf("activated: %+v", b)
	}
	if b := c.moved(set[1].Id); inOld(b) || !b.Verified || b.Line != added {
		t.Errorf("activated: %+v", b)
	}
	c.breakpoints(main, added, shifted)
	stops("/total", added, "270")
	stops("/describe", shifted, "a pen")
	set = c.breakpoints(main, changed)
	stops("/total", changed, "270")

	c.patch("deactivate", id)
	if b := c.moved(set[0].Id); !inOld(b) {
		t.Errorf("deactivated: %+v", b)
	}
	stops("/total", changed, "300")
	c.patch("activate", id)
	c.moved(set[0].Id)
	c.patch("deactivate", id)
	c.moved(set[0].Id)
	c.patch("unload", id)
	stops("/total", changed, "300")
	c.breakpoints(main)
	c.disconnect(false)
	mustAnswer(t, get)
}

func TestFunctionBreakpointsFollowTheCodeThatRuns(t *testing.T) {
	main, module, exe := editedShop(t)
	c, _, get := debugShop(t, exe)
	stops := func(line int, want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/total") }()
		stop := c.stoppedFor("function breakpoint")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.total:%d ", line)) {
			t.Errorf("stopped at %s, want line %d", got, line)
		}
		c.resume("continue", stop.ThreadId)
		if got := <-answer; got != want {
			t.Errorf("the total is %s, want %s", got, want)
		}
	}
	var set dap.SetFunctionBreakpointsResponseBody
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: "main.total"}}}, &set)
	body := lineOf(t, main, "sum := n * price")
	stops(lineOf(t, "../testdata/targets/shop/main.go", "return n * price"), "300") // nothing is loaded
	p := c.patch("load", map[string]any{"path": module})
	id := map[string]any{"id": p.ID}
	for range 2 {
		stops(body, "300")
		c.patch("activate", id)
		if b := c.moved(set.Breakpoints[0].Id); !b.Verified {
			t.Errorf("activated: %+v", b)
		}
		stops(body, "270")
		c.patch("deactivate", id)
		c.moved(set.Breakpoints[0].Id)
	}
	// Set while the patch is active.
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{}, nil)
	c.patch("activate", id)
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{Breakpoints: []dap.FunctionBreakpoint{{Name: "main.total"}}}, &set)
	stops(body, "270")
	c.patch("deactivate", id)
	c.moved(set.Breakpoints[0].Id)
	stops(body, "300")
	c.call("setFunctionBreakpoints", dap.SetFunctionBreakpointsArguments{}, nil)
	c.patch("unload", id)
	c.disconnect(false)
	mustAnswer(t, get)
}
