package realworld

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
)

// TestFixes takes real bug fixes of real projects into the running programs
// that have the bug, and out again, while these serve: a few of them, or with
// DARN_FIXES=all all, or those that -run chooses. Then what became of them is
// noted, and docs/real-fixes.md remade.
func TestFixes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds large programs")
	}
	all := os.Getenv("DARN_FIXES") == "all"
	for _, r := range releases {
		var fixes []fix
		for _, f := range r.fixes {
			if all || f.ci {
				fixes = append(fixes, f)
			}
		}
		if len(fixes) == 0 {
			continue
		}
		t.Run(r.name+"-"+r.from, func(t *testing.T) {
			b := built(t, r.project, r.from)
			pid, s := b.start(t)
			answer, err := load.Get(s.steady)
			if err != nil {
				t.Fatal(err)
			}
			g := load.Start(load.Config{Clients: 2, Interval: 5 * time.Millisecond, Timeout: time.Minute,
				Requests: []load.Request{{URL: s.steady, Old: answer, New: answer}}})
			t.Cleanup(func() {
				report := g.Stop()
				t.Logf("requests: %d, failed: %d, slowest answer: %s", report.Requests, report.Failed, report.Slowest)
				if report.Failed > 0 {
					t.Errorf("failures: %q", report.Failures)
				}
			})
			for _, f := range fixes {
				t.Run(f.name, func(t *testing.T) {
					a := &attempt{fix: &f}
					a.try(t, b, pid, s)
					if all {
						record(t, f.name, a.outcome)
					}
				})
			}
		})
	}
	if all {
		writeTable(t)
	}
}

// attempt is a fix on its way into a program.
type attempt struct {
	*fix
	outcome
}

// try builds the fix and takes it into process pid and out again.
func (a *attempt) try(t *testing.T, b *program, pid int, s site) {
	module := a.build(t, b)
	if module == "" {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client, err := dapclient.Dial(ctx, startAdapter(t, exec.Command(darnCommand(t), "dap", "--listen=127.0.0.1:0")))
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
	call := func(command string, arguments any) (d done, err error) {
		if err = client.Call(ctx, command, arguments, &d); err == nil {
			t.Logf("%s: %+v", command, d.Receipt)
			a.halted(d.Receipt)
		}
		return d, err
	}
	answers := func(want, when string) {
		t.Helper()
		if a.probe == nil {
			return
		}
		if got := a.probe(t, s); got != want {
			t.Errorf("%s the program answers %q, want %q", when, got, want)
		}
	}

	answers(a.was, "before the patch")
	d, err := call("darn/load", map[string]string{"path": module})
	if err != nil {
		a.refuse(t, err)
		return
	}
	id := map[string]string{"id": d.Patch.ID}
	answers(a.was, "with the patch loaded")
	for range 2 {
		if _, err := call("darn/activate", id); err != nil {
			a.refuse(t, err)
			return
		}
		answers(a.is, "with the patch active")
		if _, err := call("darn/deactivate", id); err != nil {
			t.Fatal(err)
		}
		answers(a.was, "with the patch deactivated")
	}
	var refused *dapclient.Error
	if _, err := call("darn/unload", id); errors.As(err, &refused) && refused.Code() == finding.InUse {
		a.InUse = refused.Error()
		t.Logf("not unloaded: %s", a.InUse)
	} else if err != nil {
		t.Fatal(err)
	}
	if err := client.Disconnect(ctx, false); err != nil {
		t.Error(err)
	}
	answers(a.was, "in the end")
	if a.refused != "" {
		t.Errorf("the fix applies: it was expected to be refused with %s", a.refused)
	}
}

// build makes a module of the fix; "" if it is refused.
func (a *attempt) build(t *testing.T, b *program) (module string) {
	diff := a.diff(t)
	command(t, b.source, "git", "apply", diff)
	defer command(t, b.source, "git", "apply", "--reverse", diff)
	module = filepath.Join(scratch, a.name+".so")
	start := time.Now()
	darn := exec.CommandContext(t.Context(), darnCommand(t), "build", "--json", "--target", b.exe, "--base", b.base, "-o", module, b.pkg)
	darn.Dir = b.source
	out, err := darn.Output()
	t.Logf("built in %s", time.Since(start))
	var result struct {
		build.Result
		Error string // if it is refused, and then Findings says why
	}
	if jerr := json.Unmarshal(out, &result); jerr != nil {
		t.Fatal(errors.Join(err, jerr))
	}
	switch {
	case err == nil:
	case len(result.Findings) == 0:
		t.Fatal(result.Error)
	default:
		a.refuse(t, &finding.Refusal{Findings: result.Findings})
		return ""
	}
	for _, f := range result.Functions {
		a.Functions = append(a.Functions, f.Name)
		t.Logf("%s: %s", f.Name, f.Why)
	}
	for _, f := range result.Findings {
		t.Log(f)
	}
	return module
}

// refuse notes that the fix was refused.
func (a *attempt) refuse(t *testing.T, err error) {
	t.Helper()
	var findings []finding.Finding
	var remote *dapclient.Error
	switch refusal := finding.As(err); {
	case refusal != nil:
		findings = refusal.Findings
	case errors.As(err, &remote):
		findings = remote.Findings
	}
	if len(findings) == 0 {
		t.Fatal(err)
	}
	a.Code, a.Message = findings[0].Code, findings[0].Message
	if f := findings[0].Function; f != "" {
		a.Message = f + ": " + a.Message
	}
	for _, f := range findings {
		t.Log(f)
	}
	if a.Code != a.refused {
		t.Errorf("refused with %q, want %q: %v", a.Code, a.refused, err)
	}
}

// connectNATS connects a NATS client for the time of the test, and returns its
// number.
func connectNATS(t *testing.T, address string) (cid string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := strings.CutPrefix(line, "INFO "); ok {
			var info struct {
				ID json.Number `json:"client_id"`
			}
			if err := json.Unmarshal([]byte(text), &info); err != nil {
				t.Fatal(err)
			}
			cid = info.ID.String()
		}
		if strings.HasPrefix(line, "PONG") {
			return cid
		}
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}

func readCloser(text string) io.ReadCloser { return io.NopCloser(strings.NewReader(text)) }
