package adapter

import (
	"bufio"
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
	needRoot(t)
	for name, ip := range map[string]string{"over loopback": "127.0.0.1", "to another address of this machine": ownAddress(t)} {
		t.Run(name, func(t *testing.T) {
			adapter, addr, _ := server(t, "listen "+ip+":0")
			// bash connects as nobody; the adapter closes the connection, and waits for
			// the next one.
			cmd := asNobody("bash", "-c", "exec 3<>/dev/tcp/"+strings.Replace(addr, ":", "/", 1)+"; read -t 20 -u 3 x; test $? = 1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("the connection was not closed: %v %s", err, out)
			}
			c := connect(t, addr, nil)
			_, err := c.Initialize(c.ctx)
			c.must(err)
			c.disconnect(false)
			if text := adapter.out.String(); !strings.Contains(text, "belongs to user 65534, and only connections of user 0 are served") {
				t.Errorf("the adapter says %q", text)
			}
		})
	}
}

func TestAnotherUserCanNotConnectToASocketInTheFileSystem(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "darn-adapter-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the mode of the socket is all that is left
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	_, _, _ = server(t, "listen unix:"+path)
	out, err := asNobody("perl", "-MIO::Socket::UNIX", "-e", "IO::Socket::UNIX->new(shift) or die $!", path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("connecting as nobody: %v %s", err, out)
	}
	c := connect(t, path, nil)
	_, err = c.Initialize(c.ctx)
	c.must(err)
	c.disconnect(false)
}

// TestAClientOfAnotherUserIsNotDialled: another user was faster to listen at the
// port.
func TestAClientOfAnotherUserIsNotDialled(t *testing.T) {
	needRoot(t)
	client := asNobody("perl", "-MIO::Socket::INET", "-e",
		"$| = 1; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $!; print $s->sockport, qq(\n); sleep 60")
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = client.Process.Kill()
		_ = client.Wait()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), playAdapter+"=dial 127.0.0.1:"+lines.Text())
	adapter := start(t, cmd)
	if status := adapter.wait(t); status != 1 {
		t.Errorf("the adapter ended with %d", status)
	}
	if text := adapter.out.String(); !strings.Contains(text, "belongs to user 65534") {
		t.Errorf("the adapter says %q", text)
	}
}

func TestAPeerOnAnotherMachineIsTurnedAway(t *testing.T) {
	conn := farConn{remote: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 9}} // of no machine: RFC 5737
	if err := checkPeer(conn, false); err == nil || !strings.Contains(err.Error(), "--only-same-user=false serves everybody") {
		t.Errorf("got %v", err)
	}
	if err := checkPeer(conn, true); err != nil {
		t.Errorf("one that was dialled: %v", err)
	}
}

// farConn is a connection from where the tests can't be.
type farConn struct {
	net.Conn
	remote net.Addr
}

func (c farConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c farConn) RemoteAddr() net.Addr { return c.remote }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
}

// asNobody is a command that runs as a user without rights.
func asNobody(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// ownAddress is an address of this machine that is not loopback's, or one that
// is but not 127.0.0.1 if there is no network.
func ownAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return "127.0.0.2"
}
