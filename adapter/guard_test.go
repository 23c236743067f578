package adapter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/finding"
)

// guarded starts an adapter with a guard, and a client of it.
func guarded(t *testing.T, state string, more ...string) *client {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), playAdapter+"=listen 127.0.0.1:0", guardState+"="+state), more...)
	_, addr, _ := listening(t, cmd)
	return connect(t, addr, nil)
}

// refusalOf is the first finding of a refusal.
func (c *client) refusalOf(command string, arguments any) finding.Finding {
	c.t.Helper()
	e := c.fails(command, arguments)
	if len(e.Findings) == 0 {
		c.t.Fatalf("%s: %v", command, e)
	}
	return e.Findings[0]
}

// crashing is the shop of C, and a module that reads address 0 when it is called
// for the 20th time, some 400 ms after its activation.
func crashing(t *testing.T) (exe, module string) {
	t.Helper()
	dir := t.TempDir()
	exe, module = filepath.Join(dir, "shop"), filepath.Join(dir, "crash.so")
	source := filepath.Join(dir, "crash.c")
	if err := os.WriteFile(source, []byte("static int calls;\nint total(int n) { return ++calls < 20 ? n : *(volatile int *)0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	compileShop(t, exe)
	compile(t, "gcc", "-g", "-O2", "-shared", "-fPIC", "-o", module, source)
	return exe, module
}

// quarantineNote waits for the output that says so, and returns what was kept.
func (c *client) quarantineNote() (text string, kept guard.Case) {
	c.t.Helper()
	for {
		var out dap.OutputEventBody
		c.event("output", &out)
		if !strings.HasPrefix(out.Output, "Darn: process ") {
			continue
		}
		_, path, ok := strings.Cut(strings.TrimSpace(out.Output), "what was seen of the end is in ")
		if !ok {
			c.t.Fatalf("the session says %q", out.Output)
		}
		data, err := os.ReadFile(path)
		c.must(err)
		c.must(json.Unmarshal(data, &kept))
		return out.Output, kept
	}
}

func TestAPatchThatEndsTheTargetIsRefusedInTheNextSession(t *testing.T) {
	exe, module := crashing(t)
	state := t.TempDir()
	target := start(t, exec.Command(exe, "0"))
	c := guarded(t, state)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": module})
	c.patch("activate", map[string]any{"id": p.ID})
	text, kept := c.quarantineNote()
	if !strings.Contains(text, fmt.Sprintf("Darn: process %d was ended by SIGSEGV ", target.Process.Pid)) || !strings.Contains(text, "after patch 1 (crash) was activated") {
		t.Errorf("the session says %q", text)
	}
	if kept.PID != target.Process.Pid || kept.Receipt == nil || kept.Module != p.Module || !strings.Contains(kept.Note, "before anybody could look at its threads") {
		t.Errorf("kept is %+v", kept)
	}
	c.disconnect(false)

	target = start(t, exec.Command(exe, "0"))
	c = guarded(t, state)
	c.attach(target.Process.Pid)
	c.configured()
	if f := c.refusalOf("darn/load", map[string]any{"path": module}); f.Code != finding.Quarantined {
		t.Errorf("refused with %v", f)
	}
	if said := c.evaluate("darn inspect " + module); !strings.Contains(said, "["+string(finding.Quarantined)+"]") || !strings.HasSuffix(said, "can't be loaded") {
		t.Errorf("inspect says %q", said)
	}
	if said := c.evaluate("darn load --force " + module); !strings.Contains(said, "1 crash: loaded") {
		t.Errorf("load --force says %q", said)
	}
	c.disconnect(false)
}

// TestAPatchThatPanicsIsHeldResponsible: the session has stopped the program
// before it ends, and its stack can be seen.
func TestAPatchThatPanicsIsHeldResponsible(t *testing.T) {
	s, target, _ := openShop(t)
	state := t.TempDir()
	c := guarded(t, state)
	c.attach(target.Process.Pid)
	c.configured()
	p := c.patch("load", map[string]any{"path": s.fatal})
	c.patch("activate", map[string]any{"id": p.ID})
	_, rest, _ := strings.Cut(target.out.String(), "addr ")
	addr, _, _ := strings.Cut(rest, "\n")
	go func() {
		if r, err := http.Get("http://" + addr + "/total"); err == nil { // nobody will answer
			r.Body.Close()
		}
	}()
	c.stoppedFor("exception")
	text, kept := c.quarantineNote()
	if !strings.Contains(text, "has panicked") || !strings.Contains(text, "after patch 1 (") {
		t.Errorf("the session says %q", text)
	}
	if kept.Registers["Rip"] == "" || !strings.Contains(strings.Join(kept.Stack, "\n"), "main.total.func1 ") || !strings.Contains(kept.Note, "goroutine ") {
		t.Errorf("kept is %+v", kept)
	}
	if f := c.refusalOf("darn/load", map[string]any{"path": s.fatal}); f.Code != finding.Quarantined && f.Code != finding.AlreadyLoaded {
		t.Errorf("refused with %v", f)
	}
	c.disconnect(true)
}

func TestAModuleThatOthersCanChangeIsRefusedInASession(t *testing.T) {
	exe, module := crashing(t)
	if err := os.Chmod(module, 0o666); err != nil {
		t.Fatal(err)
	}
	c := guarded(t, t.TempDir())
	c.attach(start(t, exec.Command(exe, "0")).Process.Pid)
	c.configured()
	if f := c.refusalOf("darn/load", map[string]any{"path": module}); f.Code != finding.ModuleWritable {
		t.Errorf("refused with %v", f)
	}
	if p := c.patch("load", map[string]any{"path": module, "force": true}); len(p.Findings) == 0 || p.Findings[0].Code != finding.ModuleWritable || p.Findings[0].Severity != finding.Warning {
		t.Errorf("forced, it has the findings %v", p.Findings)
	}
	c.disconnect(false)
}

func TestASessionIsInTheAuditLogAndKeepsToThePolicy(t *testing.T) {
	needRoot(t)
	exe, module := crashing(t)
	dir := t.TempDir()
	log, policy, key := filepath.Join(dir, "log"), filepath.Join(dir, "policy"), filepath.Join(dir, "key")
	if _, err := guard.GenerateKey(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(policy, []byte("audit = "+log+"\nrequire-signature = "+key+".pub\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	target := start(t, exec.Command(exe, "0"))
	c := guarded(t, dir, guardPolicy+"="+policy)
	c.attach(target.Process.Pid)
	c.configured()
	if f := c.refusalOf("darn/load", map[string]any{"path": module}); f.Code != finding.SignatureRequired {
		t.Errorf("refused with %v", f)
	}
	private, err := guard.ReadPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guard.SignFile(module, private); err != nil {
		t.Fatal(err)
	}
	p := c.patch("load", map[string]any{"path": module})
	c.patch("unload", map[string]any{"id": p.ID})
	c.call("darn/list", nil, nil)
	c.disconnect(false)

	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(string(data)) {
		var r guard.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.PID != target.Process.Pid || r.Exe != exe || (r.Operation != "attach" && r.Module != p.Module) {
			t.Errorf("the record is %+v", r)
		}
		said = append(said, r.Operation+" "+r.Result)
	}
	if want := "attach done, load signature-required, load done, unload done"; strings.Join(said, ", ") != want {
		t.Errorf("the log says %q, want %q", said, want)
	}
}

func TestASessionDoesNotAttachToAnotherUsersProcess(t *testing.T) {
	needRoot(t)
	target := start(t, exec.Command(build(t, "target")))
	c := guarded(t, t.TempDir(), adapterUser+"=65534")
	_, err := c.Initialize(c.ctx)
	c.must(err)
	if f := c.refusalOf("attach", map[string]any{"mode": "local", "processId": target.Process.Pid}); f.Code != finding.UnsupportedTarget ||
		!strings.Contains(f.Message, "belongs to user 0, not to you (user 65534)") {
		t.Errorf("refused with %v", f)
	}
	c.disconnect(false)
	mustGoOn(t, target)
}
