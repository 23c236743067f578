package edits_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// debugged is an edit of all that shows in traces and profiles.
var debugged = edit{
	name: "debugging",
	changes: map[string][]string{
		"debugging.go": {
			"//go:noinline\nfunc where", "// A comment\n// moves the lines.\n\n//go:noinline\nfunc where",
			"\"%s:%d\"", "\"%s at %d\"",
			"buf := make([]byte, 1<<16)", "buf := make([]byte, 1<<17)",
			"sink += i % 7", "sink += i % 5",
			"make([]byte, 1<<20)", "make([]byte, 2<<20)",
			"20 * time.Millisecond", "21 * time.Millisecond",
			`b.WriteString("nobody is there")`, "fmt.Fprint(os.Stderr, \"going to crash\\n\")\n\tb.WriteString(\"nobody is there\")",
			"runtime.Callers(1, pc)", "runtime.Callers(1, pc[:2])",
		},
		"goroutines.go": {"spawned.Add(1)\n", "spawned.Add(10)\n", "spawned.Add(-1)\n", "spawned.Add(-10)\n"},
	},
}

// patched starts a program and switches the edit on.
func patched(t *testing.T) (*live, *module) {
	t.Helper()
	m := buildAll(t, []edit{debugged})[0]
	if m.err != nil {
		t.Fatal(m.err)
	}
	l := start(t)
	l.activate(l.load(m))
	return l, m
}

// shows fails the test unless a text has words, in which LINE(text) stands for
// a number of a line of the new source.
func (m *module) shows(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if w = m.lines(t, w); !strings.Contains(text, w) {
			t.Errorf("the %s does not have %q:\n%.20000s", what, w, text)
		}
	}
}

func TestTracesAndProfilesShowTheNewCode(t *testing.T) {
	l, m := patched(t)
	l.expect("where", m.lines(t, "debugging.go at LINE(runtime.Caller(0)"))
	l.expect("callers", "main.names main.names")
	m.shows(t, "stack", l.ask("traceback"), "\nmain.stackOf()\n", "/debugging.go:LINE(buf[:runtime.Stack) +0x")
	l.expect("spawn", "spawned")
	l.expect("spawned", "10")
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	m.shows(t, "goroutine profile", read(l.ask("goroutine")), "main.spawn.func1+0x", "/goroutines.go:LINE(<-stop)")
	m.shows(t, "heap profile", read(l.ask("heap")), "main.keepBytes+0x", "/debugging.go:LINE(make([]byte, 2<<20)")
	cpu, trace := l.ask("cpu"), l.ask("trace")
	l.detach() // a tracer would reap the tools
	tool := func(args ...string) string {
		out, err := exec.Command("go", append([]string{"tool"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	m.shows(t, "CPU profile", tool("pprof", "-top", "-lines", cpu), "main.burn ", "/debugging.go:LINE(sink += i % 5)")
	m.shows(t, "execution trace", tool("trace", "-d=parsed", trace), "main.nap @ 0x", "/debugging.go:LINE(21 * time.Millisecond)")
	l.target.MustLive()
}

func TestAGoroutineDumpShowsTheNewCode(t *testing.T) {
	l, m := patched(t)
	l.expect("spawn", "spawned")
	l.expect("spawned", "10")
	l.detach()
	if err := syscall.Kill(l.target.Pid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if status := l.target.Wait(); status != 2 {
		t.Errorf("the program ended with %d", status)
	}
	m.shows(t, "dump", l.target.Output(), "SIGQUIT: quit", "\nmain.spawn.func1()\n", "/goroutines.go:LINE(<-stop) +0x")
}

func TestACrashInNewCodeShowsIt(t *testing.T) {
	l, m := patched(t)
	l.detach()
	fmt.Fprintln(l.conn, "ask crash")
	if status := l.target.Wait(); status != 2 {
		t.Errorf("the program ended with %d", status)
	}
	m.shows(t, "traceback", l.target.Output(), "going to crash\n", "invalid memory address or nil pointer dereference", "\nmain.crash(0x0)\n",
		"/debugging.go:LINE(b.WriteString) +0x", "created by main.debugging.")
	targettest.Eventually(t, "the program is gone", func() bool { return !l.target.Alive() })
}
