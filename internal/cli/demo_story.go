package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/darn-dev/darn/adapter/dapclient"
	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
)

// story is one run of the demo.
type story struct {
	*app
	ctx    context.Context
	url    string
	load   *load.Generator
	client *dapclient.Client
	step   int
}

// The bill that shows the bug, before and after the fix.
const (
	demoCups = 3
	oldBill  = "3 cups of tea: 7.5 EUR\n"
	newBill  = "3 cups of tea: 7.05 EUR\n"
)

// demoRequests are the questions of the load: half of the bills change with
// the fix, half don't.
func demoRequests(url string) (requests []load.Request) {
	for cups := 1; cups <= 10; cups++ {
		total := cups * 235
		requests = append(requests, load.Request{
			URL: fmt.Sprintf("%s/bill?cups=%d", url, cups),
			Old: fmt.Sprintf("%d cups of tea: %d.%d EUR\n", cups, total/100, total%100),
			New: fmt.Sprintf("%d cups of tea: %d.%02d EUR\n", cups, total/100, total%100),
		})
	}
	return requests
}

// demoStep is what the demo prints of a step.
type demoStep struct {
	Step    string           `json:"step"`
	Detail  string           `json:"detail,omitempty"`
	Receipt *patcher.Receipt `json:"receipt,omitempty"`
	Answer  string           `json:"answer,omitempty"` // to the request that shows the bug
	// SlowestMicros is the time of the slowest answer since the step before,
	// seen by the clients.
	SlowestMicros int64 `json:"slowestMicros,omitempty"`
}

// tell prints a step.
func (s *story) tell(step demoStep) error {
	s.step++
	if s.load != nil {
		step.SlowestMicros = s.load.Lap().Microseconds()
	}
	if s.json {
		return s.printJSON(step)
	}
	fmt.Fprintf(s.stdout, "%2d. %s\n", s.step, step.Step)
	if step.Detail != "" {
		fmt.Fprintln(s.stdout, indent(indent(step.Detail)))
	}
	if step.Receipt != nil {
		fmt.Fprintf(s.stdout, "    %s\n", describeReceipt(step.Receipt))
	}
	if step.Answer != "" {
		fmt.Fprintf(s.stdout, "    GET /bill?cups=%d  ->  %s\n", demoCups, step.Answer)
	}
	if step.SlowestMicros > 0 {
		fmt.Fprintf(s.stdout, "    slowest answer of the load: %s\n", micros(step.SlowestMicros))
	}
	return nil
}

// runDemo runs the demo. Whatever happens, nothing stays behind.
func (a *app) runDemo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "darn-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &story{app: a, ctx: ctx}

	paths, err := a.prepareDemo(ctx, dir)
	if err != nil {
		return err
	}
	server, url, err := startChild("teahouse: ", paths.program)
	if err != nil {
		return err
	}
	defer server.kill()
	s.url = url
	if err := s.tell(demoStep{
		Step:   fmt.Sprintf("A web server with a bug, built by go build, is process %d. It knows nothing of Darn.", server.pid()),
		Answer: s.answer(),
	}); err != nil {
		return err
	}

	s.load = load.Start(load.Config{
		Clients: 8, Interval: 2 * time.Millisecond, Timeout: 30 * time.Second, Requests: demoRequests(url),
	})
	defer s.load.Stop()
	if err := s.await("old answers", func(r load.Report) int { return r.Old }); err != nil {
		return err
	}
	if err := s.tell(demoStep{Step: "Eight clients ask it for bills, all the time. Every answer is checked."}); err != nil {
		return err
	}
	if err := s.build(paths); err != nil {
		return err
	}
	if err := s.session(server.pid(), paths.module); err != nil {
		return err
	}
	return s.end(server)
}

// build makes the patch from the edit.
func (s *story) build(paths demoPaths) error {
	diff, err := s.editDemo(paths)
	if err != nil {
		return err
	}
	start := time.Now()
	var result build.Result
	if err := s.darnBuild(paths, &result); err != nil {
		return err
	}
	file, err := os.Stat(paths.module)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range result.Functions {
		names = append(names, f.Name)
	}
	return s.tell(demoStep{
		Step: "The fix, and a patch made from it with darn build:",
		Detail: fmt.Sprintf("%sfix.so: %d KB in %s, replaces %s", diff, (file.Size()+1023)/1024,
			time.Since(start).Round(10*time.Millisecond), strings.Join(names, ", ")),
	})
}

// darnBuild runs darn build. The base that it keeps for the next build goes
// into the demo's folder and not into the user's cache.
func (s *story) darnBuild(paths demoPaths, result *build.Result) error {
	darn, err := os.Executable()
	if err != nil {
		return err
	}
	goCache, err := exec.CommandContext(s.ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	cmd := exec.CommandContext(s.ctx, darn, "build", "--json", "--target", paths.program, "--base", paths.base, "-o", paths.module, ".")
	cmd.Dir = paths.source
	cmd.Env = append(os.Environ(), "GOCACHE="+strings.TrimSpace(string(goCache)), "XDG_CACHE_HOME="+filepath.Dir(paths.source), "TMPDIR="+filepath.Dir(paths.source))
	cmd.Stderr = s.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("darn build: %w", err)
	}
	return json.Unmarshal(out, result)
}

// session takes the patch through a debug session, as an editor would.
func (s *story) session(pid int, module string) error {
	darn, err := os.Executable()
	if err != nil {
		return err
	}
	// A process of its own: while it traces it reaps every child it has.
	server, address, err := startChild("DAP server listening at: ", darn, "dap", "--listen=127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.kill()
	s.client, err = dapclient.Dial(s.ctx, address)
	if err != nil {
		return err
	}
	defer s.client.Close()

	if err := s.client.Attach(s.ctx, pid); err != nil {
		return err
	}
	if err := s.tell(demoStep{Step: fmt.Sprintf("A debug session: darn dap at %s has attached to process %d.", address, pid), Answer: s.answer()}); err != nil {
		return err
	}
	id, err := s.loadPatch(module)
	if err != nil {
		return err
	}
	for _, on := range []bool{true, false, true, false} {
		if err := s.toggle(id, on); err != nil {
			return err
		}
	}
	var unloaded outcome
	if err := s.client.Call(s.ctx, "darn/unload", map[string]string{"id": id}, &unloaded); err != nil {
		return err
	}
	if err := s.tell(demoStep{Step: "darn/unload: nothing refers to the module any more; it is gone.", Receipt: unloaded.Receipt, Answer: s.answer()}); err != nil {
		return err
	}
	if err := s.listed(0); err != nil {
		return err
	}
	if err := s.client.Disconnect(s.ctx, false); err != nil {
		return err
	}
	if !server.ended() {
		return errors.New("the debug adapter didn't end with its session")
	}
	return s.tell(demoStep{Step: "The debug session has ended; the server runs on.", Answer: s.answer()})
}

// loadPatch inspects and loads the module and returns the patch's id.
func (s *story) loadPatch(module string) (string, error) {
	var inspection patcher.Inspection
	if err := s.client.Call(s.ctx, "darn/inspect", map[string]string{"path": module}, &inspection); err != nil {
		return "", err
	}
	if !inspection.OK {
		return "", fmt.Errorf("darn/inspect advises against it: %v", inspection.Findings)
	}
	if err := s.tell(demoStep{Step: "darn/inspect: the patch fits the process; nothing was touched."}); err != nil {
		return "", err
	}
	var loaded outcome
	if err := s.client.Call(s.ctx, "darn/load", map[string]string{"path": module}, &loaded); err != nil {
		return "", err
	}
	if loaded.Patch == nil || loaded.Patch.State != patcher.Loaded {
		return "", fmt.Errorf("darn/load answered with %+v", loaded.Patch)
	}
	if err := s.listed(1); err != nil {
		return "", err
	}
	return loaded.Patch.ID, s.tell(demoStep{Step: "darn/load: the new code is in the process; nothing runs it yet.", Receipt: loaded.Receipt, Answer: s.answer()})
}

// toggle switches the patch on or off and waits until the load has seen it.
func (s *story) toggle(id string, on bool) error {
	command, state, text, bill := "darn/activate", patcher.Active, "darn/activate: all threads run the new code.", newBill
	if !on {
		command, state, text, bill = "darn/deactivate", patcher.Loaded, "darn/deactivate: all threads run the old code.", oldBill
	}
	var done outcome
	s.load.ExpectEither()
	if err := s.client.Call(s.ctx, command, map[string]string{"id": id}, &done); err != nil {
		return err
	}
	if on {
		s.load.ExpectNew()
	} else {
		s.load.ExpectOld()
	}
	if done.Patch == nil || done.Patch.State != state {
		return fmt.Errorf("%s answered with %+v", command, done.Patch)
	}
	answer := s.answer()
	if err := s.tell(demoStep{Step: text, Receipt: done.Receipt, Answer: answer}); err != nil {
		return err
	}
	if answer+"\n" != bill {
		return fmt.Errorf("after %s the server answered %q, not %q", command, answer, bill)
	}
	return s.await("answers of the other code", func(r load.Report) int {
		if on {
			return r.New
		}
		return r.Old
	})
}

// listed checks the number of patches in the process.
func (s *story) listed(want int) error {
	var listing patcher.Listing
	if err := s.client.Call(s.ctx, "darn/list", nil, &listing); err != nil {
		return err
	}
	if len(listing.Patches) != want {
		return fmt.Errorf("darn/list shows %d patches, not %d", len(listing.Patches), want)
	}
	return nil
}

// end checks that the same process still serves, and sums up.
func (s *story) end(server *child) error {
	if err := s.await("old answers", func(r load.Report) int { return r.Old }); err != nil {
		return err
	}
	report := s.load.Stop()
	if answer := s.answer(); answer+"\n" != oldBill {
		return fmt.Errorf("at the end the server answered %q, not %q", answer, oldBill)
	}
	served, err := load.Get(s.url + "/served")
	if err != nil {
		return err
	}
	if s.json {
		err = s.printJSON(map[string]any{
			"requests": report.Requests, "failed": report.Failed, "failures": report.Failures,
		})
	} else {
		_, err = fmt.Fprintf(s.stdout, "\nProcess %d has written %s bills since its start.\nrequests: %d, failed: %d\n",
			server.pid(), strings.TrimSpace(served), report.Requests, report.Failed)
	}
	if err != nil {
		return err
	}
	if report.Failed > 0 {
		return fmt.Errorf("requests failed: %s", strings.Join(report.Failures, "; "))
	}
	return nil
}

// answer asks for the bill that shows the bug.
func (s *story) answer() string {
	body, err := load.Get(fmt.Sprintf("%s/bill?cups=%d", s.url, demoCups))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(body)
}

// await waits until the load has got a hundred more of what n counts, or has
// failed.
func (s *story) await(what string, n func(load.Report) int) error {
	goal := n(s.load.Report()) + 100
	for deadline := time.Now().Add(time.Minute); ; {
		report := s.load.Report()
		switch {
		case report.Failed > 0:
			return fmt.Errorf("requests failed: %s", strings.Join(report.Failures, "; "))
		case n(report) >= goal:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("no %s within a minute", what)
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
