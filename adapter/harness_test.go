package adapter

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/internal/darnbuild"
	"github.com/darn-dev/darn/patcher/process"
)

// built holds the programs built for the tests, by folder in testdata.
var (
	buildDir     string
	buildMu      sync.Mutex
	built        = make(map[string]string)
	patchBuilder *darnbuild.Builder
)

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "darn-adapter-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	buildDir, patchBuilder = dir, darnbuild.New(dir)
	return m.Run()
}

// build builds a program in testdata without optimisations, as Delve does.
func build(t testing.TB, folder string) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if path, ok := built[folder]; ok {
		return path
	}
	path := filepath.Join(buildDir, folder)
	cmd := exec.Command("go", "build", "-gcflags=all=-N -l", "-o", path, "./"+folder)
	cmd.Dir = "testdata"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", folder, err, out)
	}
	built[folder] = path
	return path
}

// source returns the path of a file in testdata and the number of the first
// line that contains mark.
func source(t testing.TB, file, mark string) (path string, line int) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range strings.Split(string(text), "\n") {
		if strings.Contains(l, mark) {
			return path, i + 1
		}
	}
	t.Fatalf("%s has no line with %q", path, mark)
	return "", 0
}

// lockedBuffer is a buffer that a process writes while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// child is a process started by a test.
type child struct {
	*exec.Cmd
	out  lockedBuffer
	done chan struct{} // closed when it has ended
	// server is set if it speaks the protocol.
	server bool
}

// compile runs a compiler of C or C++.
func compile(t testing.TB, compiler string, args ...string) {
	t.Helper()
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// compileShop makes exe of testdata/targets/cshop.
func compileShop(t testing.TB, exe string) {
	t.Helper()
	from := "../testdata/targets/cshop/"
	compile(t, "gcc", "-g", "-O2", "-pthread", "-o", exe, from+"shop.c", from+"a.c", from+"b.c")
}

// says waits until a program says something from now on.
func (c *child) says(t testing.TB, want string) {
	t.Helper()
	seen := len(c.out.String())
	eventually(t, "the program says "+want, func() bool { return strings.Contains(c.out.String()[seen:], want) })
}

func start(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &c.out
	}
	cmd.Stderr = io.MultiWriter(&c.out)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		if c.server {
			// It must end its target first, and does when its client is gone.
			select {
			case <-c.done:
			case <-time.After(20 * time.Second):
			}
		}
		_ = cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			t.Logf("output of %s:\n%s", filepath.Base(cmd.Path), c.out.String())
		}
	})
	return c
}

// wait waits for the end of c and returns its exit status, minus a signal.
func (c *child) wait(t testing.TB) int {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s has not ended", c.Path)
	}
	s := c.ProcessState.Sys().(syscall.WaitStatus)
	if s.Signaled() {
		return -int(s.Signal())
	}
	return s.ExitStatus()
}

// server starts an adapter and returns it with its address. Commands for
// serveHalts can be written to in.
func server(t testing.TB, mode string) (adapter *child, addr string, in io.Writer) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playAdapter+"="+mode)
	return listening(t, cmd)
}

// listening starts a server that prints where it listens.
func listening(t testing.TB, cmd *exec.Cmd) (*child, string, io.Writer) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, cmd)
	c.server = true
	const says = "DAP server listening at: "
	var addr string
	eventually(t, "the listening line", func() bool {
		for line := range strings.Lines(c.out.String()) {
			if rest, ok := strings.CutPrefix(line, says); ok && strings.HasSuffix(line, "\n") {
				addr = strings.TrimSpace(rest)
			}
		}
		return addr != ""
	})
	return c, addr, in
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// client is a dapclient that fails its test on any error.
type client struct {
	*dapclient.Client
	t    testing.TB
	ctx  context.Context
	conn net.Conn // if it was made by connect
}

// connect connects to a server.
func connect(t testing.TB, addr string, trace func(bool, []byte)) *client {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, dapclient.New(conn, trace))
	c.conn = conn
	return c
}

func wrap(t testing.TB, c *dapclient.Client) *client {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the machine may be busy
	t.Cleanup(func() {
		cancel()
		c.Close()
	})
	return &client{Client: c, t: t, ctx: ctx}
}

// session starts an adapter and a client of it.
func session(t testing.TB) (*client, *child) {
	t.Helper()
	adapter, addr, _ := server(t, "listen 127.0.0.1:0")
	return connect(t, addr, nil), adapter
}

func (c *client) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%v (events: %v)", err, c.Pending())
	}
}

func (c *client) call(command string, arguments, result any) {
	c.t.Helper()
	c.must(c.Call(c.ctx, command, arguments, result))
}

// fails makes a request that must fail.
func (c *client) fails(command string, arguments any) *dapclient.Error {
	c.t.Helper()
	err := c.Call(c.ctx, command, arguments, nil)
	if e, ok := err.(*dapclient.Error); ok {
		return e
	}
	c.t.Fatalf("%s: got %v, want a refusal", command, err)
	return nil
}

func (c *client) start(command string, arguments any) {
	c.t.Helper()
	_, err := c.Initialize(c.ctx)
	c.must(err)
	c.must(c.Start(c.ctx, command, arguments))
}

func (c *client) attach(pid int) {
	c.t.Helper()
	c.start("attach", map[string]any{"mode": "local", "processId": pid})
}

func (c *client) configured() {
	c.t.Helper()
	c.must(c.Configured(c.ctx))
}

func (c *client) event(name string, body any) {
	c.t.Helper()
	_, err := c.Event(c.ctx, body, name)
	c.must(err)
}

func (c *client) stopped() dap.StoppedEventBody {
	c.t.Helper()
	var body dap.StoppedEventBody
	c.event("stopped", &body)
	return body
}

// stoppedFor waits for a stop with a reason.
func (c *client) stoppedFor(reason string) dap.StoppedEventBody {
	c.t.Helper()
	body := c.stopped()
	if body.Reason != reason {
		c.t.Fatalf("stopped for %q (%s %s), want %q", body.Reason, body.Description, body.Text, reason)
	}
	return body
}

// breakpoints sets the breakpoints of a file.
func (c *client) breakpoints(path string, lines ...int) []dap.Breakpoint {
	c.t.Helper()
	a := dap.SetBreakpointsArguments{Source: dap.Source{Path: path}, Breakpoints: []dap.SourceBreakpoint{}}
	for _, l := range lines {
		a.Breakpoints = append(a.Breakpoints, dap.SourceBreakpoint{Line: l})
	}
	var r dap.SetBreakpointsResponseBody
	c.call("setBreakpoints", a, &r)
	return r.Breakpoints
}

func (c *client) resume(command string, thread int) {
	c.t.Helper()
	c.call(command, map[string]any{"threadId": thread}, nil)
}

func (c *client) evaluate(expression string) string {
	c.t.Helper()
	var r dap.EvaluateResponseBody
	c.call("evaluate", dap.EvaluateArguments{Expression: expression, Context: "repl"}, &r)
	return r.Result
}

// top returns the line at which a goroutine is.
func (c *client) top(thread int) int {
	c.t.Helper()
	var r dap.StackTraceResponseBody
	c.call("stackTrace", dap.StackTraceArguments{ThreadId: thread, Levels: 1}, &r)
	if len(r.StackFrames) == 0 {
		c.t.Fatal("no stack frames")
	}
	return r.StackFrames[0].Line
}

func (c *client) disconnect(terminate bool) {
	c.t.Helper()
	c.must(c.Disconnect(c.ctx, terminate))
}

// mustGoOn fails the test unless the target lives, untraced, and counts on.
func mustGoOn(t testing.TB, target *child) {
	t.Helper()
	counted := cpuTime(t, target)
	eventually(t, "the target to go on", func() bool {
		select {
		case <-target.done:
			t.Fatalf("the target has ended: %v", target.ProcessState)
		default:
		}
		return cpuTime(t, target) > counted
	})
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", target.Process.Pid))
	if !strings.Contains(string(status), "TracerPid:\t0\n") {
		t.Fatalf("the target is traced still:\n%s", status)
	}
}

// cpuTime returns how often the target's threads have given up the processor.
func cpuTime(t testing.TB, target *child) (switches int) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", target.Process.Pid))
	for _, task := range tasks {
		status, _ := os.ReadFile(task)
		for s := bufio.NewScanner(bytes.NewReader(status)); s.Scan(); {
			if n, ok := strings.CutPrefix(s.Text(), "voluntary_ctxt_switches:"); ok {
				v, _ := strconv.Atoi(strings.TrimSpace(n))
				switches += v
			}
		}
	}
	return switches
}

// mustBeWhole fails the test unless the target's text is that of its file: a
// breakpoint that is left in it ends it sooner or later.
func mustBeWhole(t testing.TB, target *child) {
	t.Helper()
	f, err := elf.Open(target.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section := f.Section(".text")
	want, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", target.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	base := uint64(0)
	if f.Type == elf.ET_DYN {
		maps, err := process.ReadMaps(target.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(maps, func(m process.Mapping) bool { return m.Path == target.Path && m.Offset == 0 })
		base = maps[i].Start
	}
	got := make([]byte, len(want))
	if _, err := memory.ReadAt(got, int64(base+section.Addr)); err != nil {
		t.Fatalf("the target's text can't be read: %v", err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%#x holds %#x, in the file %#x", section.Addr+uint64(i), got[i], want[i])
		}
	}
}
