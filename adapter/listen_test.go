package adapter

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/darn-dev/darn/adapter/dapclient"
)

func TestListenOnASocketInTheFileSystem(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	path := filepath.Join(t.TempDir(), "socket")
	adapter, addr, _ := server(t, "listen unix:"+path)
	if addr != path {
		t.Errorf("listens at %s, want %s", addr, path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", fi.Mode())
	}
	c := connect(t, addr, nil)
	c.attach(target.Process.Pid)
	c.configured()
	c.disconnect(false)
	adapter.wait(t)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stayed behind: %v", err)
	}
	mustGoOn(t, target)
}

func TestDialAWaitingClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playAdapter+"=dial "+l.Addr().String())
	adapter := start(t, cmd)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, dapclient.New(conn, nil))
	_, err = c.Initialize(c.ctx)
	c.must(err)
	c.disconnect(false)
	if status := adapter.wait(t); status != 0 {
		t.Errorf("the adapter ended with %d", status)
	}
}

// readWriter is the client's end of an adapter's standard input and output.
type readWriter struct {
	io.Reader
	io.WriteCloser
}

func TestStdioCarriesNothingButTheProtocol(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playAdapter+"=stdio")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout = to
	adapter := start(t, cmd)
	to.Close()
	c := wrap(t, dapclient.New(readWriter{out, in}, nil))
	// The target's output is not redirected: it goes where the adapter's goes.
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target"), "args": []string{"5"}})
	c.configured()
	c.event("exited", nil)
	c.disconnect(false)
	if status := adapter.wait(t); status != 0 {
		t.Errorf("the adapter ended with %d", status)
	}
	if text := adapter.out.String(); !strings.Contains(text, "hello") || !strings.Contains(text, "bye") {
		t.Errorf("standard error of the adapter: %q", text)
	}
}

func TestASignalEndsTheAdapterAndNotTheTarget(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, adapter := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	if err := adapter.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	adapter.wait(t)
	mustGoOn(t, target)
}

func TestASignalEndsAnAdapterThatNobodyCalled(t *testing.T) {
	adapter, _, _ := server(t, "listen 127.0.0.1:0")
	if err := adapter.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := adapter.wait(t); status != 0 {
		t.Errorf("the adapter ended with %d", status)
	}
}

func TestAClientThatGoesAwayLeavesAnAttachedTarget(t *testing.T) {
	target := start(t, exec.Command(build(t, "target")))
	c, adapter := session(t)
	c.attach(target.Process.Pid)
	path, line := source(t, "target/main.go", "breakpoint here")
	c.breakpoints(path, line)
	c.configured()
	c.stoppedFor("breakpoint")
	c.Close()
	adapter.wait(t)
	mustGoOn(t, target)
}

func TestAClientThatGoesAwayEndsALaunchedTarget(t *testing.T) {
	c, adapter := session(t)
	c.start("launch", map[string]any{"mode": "exec", "program": build(t, "target")})
	var process struct{ SystemProcessID int }
	c.event("process", &process)
	c.configured()
	c.Close()
	adapter.wait(t)
	mustBeGone(t, process.SystemProcessID)
}

func TestSocketOwnerIsFoundInTheKernelsTable(t *testing.T) {
	tcp := func(s string) *net.TCPAddr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  21: 0100007F:E682 0100007F:0FC8 01 00000000:00000000 00:00000000 00000000  1234        0 8420541 2 0000000000000000 20 0 0 10 -1
   5: 00000000000000000000000001000000:D3E4 00000000000000000000000001000000:0FC8 01 00000000:00000000 00:00000000 00000000   55        0 8425526 2 0000000000000000 20 0 0 10 -1
   6: 0000000000000000FFFF00000100007F:E683 0000000000000000FFFF00000100007F:0FC8 01 00000000:00000000 00:00000000 00000000   77        0 8425526 2 0000000000000000 20 0 0 10 -1
`
	for _, test := range []struct {
		local, remote string
		uid           int
		ok            bool
	}{
		{"127.0.0.1:59010", "127.0.0.1:4040", 1234, true},
		{"[::1]:54244", "[::1]:4040", 55, true},
		{"127.0.0.1:59011", "127.0.0.1:4040", 77, true},
		{"127.0.0.1:4040", "127.0.0.1:59010", 0, false},
		{"127.0.0.1:1", "127.0.0.1:4040", 0, false},
	} {
		uid, ok := findSocket(strings.NewReader(table), tcp(test.local), tcp(test.remote))
		if uid != test.uid || ok != test.ok {
			t.Errorf("%s to %s: %d %v, want %d %v", test.local, test.remote, uid, ok, test.uid, test.ok)
		}
	}
}

func TestAConnectionOfAnotherUserIsTurnedAway(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	_, addr, _ := server(t, "listen 127.0.0.1:0")
	// bash connects as nobody; the adapter closes the connection, and waits for
	// the next one.
	cmd := exec.Command("bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(addr, ":", "/", 1)+"; read -t 20 -u 3 x; test $? = 1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the connection was not closed: %v %s", err, out)
	}
	c := connect(t, addr, nil)
	_, err := c.Initialize(c.ctx)
	c.must(err)
	c.disconnect(false)
}
