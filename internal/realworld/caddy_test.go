package realworld

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
)

// caddyVersion is fetched through the module proxy when the test runs.
const caddyVersion = "v2.11.8"

// The edit: what the directive "respond" answers.
const (
	editedFile = "modules/caddyhttp/staticresp.go"
	wasText    = "fmt.Fprint(w, body)"
	isText     = "fmt.Fprint(w, strings.ToUpper(body))"
)

// TestCaddy builds Caddy from its source as its users do, runs it under load,
// edits one of its HTTP handlers, and takes the edit through a debug session
// into the running process and out again. No request may fail.
func TestCaddy(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a large program")
	}
	dir := t.TempDir()
	b, darn := built(t, caddy, caddyVersion), darnCommand(t)
	module := filepath.Join(dir, "shout.so")
	edited := filepath.Join(b.source, editedFile)
	replace(t, edited, wasText, isText)
	start := time.Now()
	t.Logf("%s(darn build: %s)", command(t, b.source, darn, "build", "--target", b.exe, "--base", b.base, "-o", module, b.pkg), time.Since(start))
	replace(t, edited, isText, wasText)

	address := freeAddress(t)
	config := fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n}\nhttp://%s {\n\trespond \"hello from {path}\"\n}\n", address)
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(b.exe, "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	server.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	pid := startServer(t, server, "http://"+address+"/ready")

	var requests []load.Request
	for _, path := range []string{"/tea", "/coffee", "/water/still", "/water/sparkling"} {
		old := "hello from " + path
		requests = append(requests, load.Request{URL: "http://" + address + path, Old: old, New: strings.ToUpper(old)})
	}
	g := load.Start(load.Config{Clients: 6, Interval: 2 * time.Millisecond, Timeout: time.Minute, Requests: requests})
	t.Cleanup(func() { g.Stop() })
	patchUnderLoad(t, darn, pid, module, g)

	r := g.Stop()
	t.Logf("requests: %d, failed: %d, slowest answer: %s", r.Requests, r.Failed, r.Slowest)
	if r.Failed > 0 {
		t.Errorf("failures: %q", r.Failures)
	}
}

// patchUnderLoad takes a patch through a debug session over TCP: attach, load,
// activate and deactivate thrice, unload, disconnect.
func patchUnderLoad(t *testing.T, darn string, pid int, module string, g *load.Generator) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	served := func(n func(load.Report) int) {
		t.Helper()
		goal := n(g.Report()) + 200
		eventually(t, "answers under load", func() bool { return n(g.Report()) >= goal })
	}
	oldAnswers := func(r load.Report) int { return r.Old }
	newAnswers := func(r load.Report) int { return r.New }
	served(oldAnswers)

	adapter := exec.Command(darn, "dap", "--listen=127.0.0.1:0")
	client, err := dapclient.Dial(ctx, startAdapter(t, adapter))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Attach(ctx, pid); err != nil {
		t.Fatal(err)
	}
	type done struct {
		Patch   patcher.Patch
		Receipt patcher.Receipt
	}
	call := func(command string, arguments any) (d done) {
		t.Helper()
		start := time.Now()
		if err := client.Call(ctx, command, arguments, &d); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: round trip %s, receipt %+v", command, time.Since(start), d.Receipt)
		return d
	}
	served(oldAnswers)
	id := map[string]string{"id": call("darn/load", map[string]string{"path": module}).Patch.ID}
	served(oldAnswers)
	for range 3 {
		g.ExpectEither()
		call("darn/activate", id)
		g.ExpectNew()
		served(newAnswers)
		g.ExpectEither()
		call("darn/deactivate", id)
		g.ExpectOld()
		served(oldAnswers)
	}
	call("darn/unload", id)
	served(oldAnswers)
	if err := client.Disconnect(ctx, false); err != nil {
		t.Error(err)
	}
	served(oldAnswers)
}

// command runs a command in dir and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func copyTree(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// replace replaces old, which must be there once, in a file.
func replace(t *testing.T, path, old, edited string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), old); n != 1 {
		t.Fatalf("%s has %q %d times", path, old, n)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, edited, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns an address that nobody listens at, and that no connection
// is given for its own end: those get ports of net.ipv4.ip_local_port_range,
// 32768 and up, and the server binds its port only later.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// startServer starts a server and waits until it answers at url.
func startServer(t *testing.T, cmd *exec.Cmd, url string) (pid int) {
	t.Helper()
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("the server has ended: %v", err)
		}
		err := cmd.Wait() // some end of the signal itself
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && !(ok && status.Signaled() && status.Signal() == syscall.SIGINT) {
			t.Errorf("the server did not end well when asked to: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	eventually(t, "an answer", func() bool {
		_, err := load.Get(url)
		return err == nil
	})
	return cmd.Process.Pid
}

// startAdapter starts a debug adapter and returns its address.
func startAdapter(t *testing.T, cmd *exec.Cmd) (address string) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it ends by itself if all is well
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscanf(out, "DAP server listening at: %s\n", &address); err != nil {
		t.Fatal(err)
	}
	return address
}

// eventually polls ok for up to a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
