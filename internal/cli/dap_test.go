package cli

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/patcher"
)

// initialize begins a session and checks that it is Darn that answers.
func initialize(t *testing.T, c *dapclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	capabilities, err := c.Initialize(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if string(capabilities["supportsDarn"]) != "true" {
		t.Errorf("capabilities %v", capabilities)
	}
}

func dial(t *testing.T, address string) *dapclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := dapclient.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const listening = "DAP server listening at: "

// TestDapTakesDlvsFlags passes what editors pass to "dlv dap".
func TestDapTakesDlvsFlags(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing": nil,
		"an address": {
			"--listen=127.0.0.1:0",
		},
		"all": {
			"-l", "127.0.0.1:0", "--check-go-version=false", "--only-same-user=true", "--disable-aslr=false",
			"--headless=true", "--accept-multiclient", "--api-version=2", "--init=x", "--backend=default",
			"--build-flags=-v", "--wd=/", "-r", "stdin:x", "--allow-non-terminal-interactive",
			"--log=true", "--log-output=dap", "--", "program", "arguments",
		},
	} {
		t.Run(name, func(t *testing.T) {
			initialize(t, dial(t, startLine(t, command(append([]string{"dap"}, args...)...), listening)))
		})
	}
}

func TestDapOverUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dap.sock")
	if got := startLine(t, command("dap", "--listen=unix:"+path), listening); got != path {
		t.Errorf("listens at %q", got)
	}
	initialize(t, dial(t, "unix:"+path))
}

// TestDapLogDest is how an editor gets the listening line on a descriptor.
func TestDapLogDest(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command("dap", "--log-dest=3")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	w.Close()
	initialize(t, dial(t, readLine(t, r, listening)))
}

// Delve's documentation gives the address with the host; the Go extension of
// VS Code, for a program in a terminal, without.
func TestDapDialsTheClient(t *testing.T) {
	for name, args := range map[string]func(port string) []string{
		"an address": func(port string) []string { return []string{"--client-addr=127.0.0.1:" + port} },
		"two words":  func(port string) []string { return []string{"--client-addr", "127.0.0.1:" + port} },
		"a port":     func(port string) []string { return []string{"--client-addr=:" + port} },
		"logs, a port": func(port string) []string {
			return []string{"--log=true", "--log-output=debugger,dap", "--log-dest=" + filepath.Join(t.TempDir(), "log"), "--client-addr=:" + port}
		},
		"its own flags": func(port string) []string {
			return []string{"--check-go-version=false", "--only-same-user=false", "--client-addr=:" + port}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			run := command(append([]string{"dap"}, args(port)...)...)
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = run.Process.Kill()
				_ = run.Wait()
			})
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			initialize(t, dapclient.New(conn, nil))
		})
	}
}

// freePort returns a port at which nobody listens, as editors look for one.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// The Go extension of VS Code has a fourth pipe for the log, and waits for a
// message, there or on standard output, that begins with the listening line. It
// runs darn in the workspace, with the variables of the launch configuration, and
// ends it with an interrupt.
func TestDapAsTheGoExtensionStartsIt(t *testing.T) {
	for name, flags := range map[string][]string{
		"plainly":        nil,
		"with dlvFlags":  {"--check-go-version=false", "--only-same-user=false"},
		"with showLog":   {"--log=true"},
		"with logOutput": {"--log=true", "--log-output=debugger,dap"},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			cmd := command(append(append([]string{"dap"}, flags...), "--listen=127.0.0.1:"+port, "--log-dest=3")...)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPATH="+os.Getenv("GOPATH"))
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd.ExtraFiles = []*os.File{w}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			message := make([]byte, 4096)
			for n := 0; !strings.HasPrefix(string(message[:n]), listening); {
				if n, err = r.Read(message); err != nil {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					t.Fatalf("no message begins with the listening line: %v", err)
				}
			}
			go func() { _, _ = io.Copy(io.Discard, r) }()
			initialize(t, dial(t, "127.0.0.1:"+port))
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("interrupted, it ends with %v", err)
			}
		})
	}
}

func TestDapAsNvimDapGoStartsIt(t *testing.T) {
	port := freePort(t)
	if got := startLine(t, command("dap", "-l", "127.0.0.1:"+port), listening); got != "127.0.0.1:"+port {
		t.Errorf("listens at %q", got)
	}
	initialize(t, dial(t, "127.0.0.1:"+port))
}

// TestDapOverStdio attaches, lists and disconnects over standard input and
// output.
func TestDapOverStdio(t *testing.T) {
	s := buildTeahouse(t).start(t)
	cmd := command("dap", "--stdio")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	c := dapclient.New(struct {
		io.Reader
		io.WriteCloser
	}{out, in}, nil)
	ctx := t.Context()
	var listing patcher.Listing
	if err := c.Attach(ctx, s.pid); err != nil {
		t.Error(err)
	} else if err := c.Call(ctx, "darn/list", nil, &listing); err != nil || listing.Target.PID != s.pid {
		t.Errorf("list %+v, %v", listing, err)
	}
	s.mustAnswer(oldBill)
	if err := c.Disconnect(ctx, false); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	s.mustAnswer(oldBill)
}

// TestDapEndsWhenAsked interrupts a server that waits for a client.
func TestDapEndsWhenAsked(t *testing.T) {
	cmd := command("dap")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer killer.Stop()
	readLine(t, out, listening)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
