package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/internal/load"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
)

// TestHeadlessStory patches a server under load with one darn process for each
// step: what one leaves in the target the next one finds.
func TestHeadlessStory(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	s := house.start(t)
	before := s.snapshot()

	g := load.Start(load.Config{
		Clients: 4, Interval: 3 * time.Millisecond, Timeout: time.Minute, Requests: demoRequests(s.url),
	})
	defer g.Stop()
	served := func(n func(load.Report) int) {
		t.Helper()
		goal := n(g.Report()) + 20
		eventually(t, "answers under load", func() bool { return n(g.Report()) >= goal })
	}
	oldAnswers := func(r load.Report) int { return r.Old }
	newAnswers := func(r load.Report) int { return r.New }
	served(oldAnswers)

	var inspection patcher.Inspection
	darn(t, "inspect", "--json", s.flag(), module).ok(t).decode(t, &inspection)
	if f := inspection.Module.Functions; !inspection.OK || len(f) != 1 || f[0].Name != "main.handleBill" || f[0].Address == 0 {
		t.Errorf("inspection %+v", inspection)
	}

	var done outcome
	darn(t, "load", "--json", s.flag(), module).ok(t).decode(t, &done)
	if done.Patch == nil || done.Patch.State != patcher.Loaded || done.Receipt == nil || done.Receipt.Operation != patcher.OpLoad {
		t.Fatalf("load: %+v", done)
	}
	if a := done.Attach; a == nil || a.Operation != "attach" || a.Halts != 1 || a.HaltMicros <= 0 || a.ThreadsHalted < 1 {
		t.Errorf("the receipt of the attach is %+v", a)
	}
	id := done.Patch.ID
	served(oldAnswers)

	var listing patcher.Listing
	darn(t, "list", "--json", s.flag()).ok(t).decode(t, &listing)
	if len(listing.Patches) != 1 || listing.Patches[0].ID != id || listing.Target.PID != s.pid || listing.Target.Package == "" {
		t.Errorf("list: %+v", listing)
	}

	// By id, and by the module's file.
	for i, name := range []string{id, module} {
		g.ExpectEither()
		darn(t, "activate", "--json", s.flag(), name).ok(t).decode(t, &done)
		g.ExpectNew()
		s.mustAnswer(newBill)
		if done.Patch.State != patcher.Active {
			t.Errorf("activate: %+v", done.Patch)
		}
		if done.Receipt.Halts != 0 {
			t.Errorf("activation %d halted the target %d times, since %s", i, done.Receipt.Halts, done.Receipt.HaltedBecause)
		}
		served(newAnswers)

		g.ExpectEither()
		darn(t, "deactivate", "--json", s.flag(), name).ok(t).decode(t, &done)
		g.ExpectOld()
		s.mustAnswer(oldBill)
		if done.Patch.State != patcher.Loaded || done.Receipt.Halts != 0 {
			t.Errorf("deactivate: %+v %+v", done.Patch, done.Receipt)
		}
		served(oldAnswers)
	}

	darn(t, "unload", s.flag(), id).ok(t)
	darn(t, "list", "--json", s.flag()).ok(t).decode(t, &listing)
	if len(listing.Patches) != 0 {
		t.Errorf("list after unload: %+v", listing)
	}
	served(oldAnswers)
	if r := g.Stop(); r.Failed > 0 {
		t.Errorf("%d of %d requests failed: %q", r.Failed, r.Requests, r.Failures)
	}
	s.mustAnswer(oldBill)
	s.mustEqual(before)
}

// TestWordsForPeople checks what the commands print without --json.
func TestWordsForPeople(t *testing.T) {
	house := buildTeahouse(t)
	module := house.patch(t)
	s := house.start(t)
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"inspect", module}, []string{"module fix", "sha256 ", "replaces 1 function:", ": info: main.handleBill: replaced: "}},
		{[]string{"inspect", s.flag(), module}, []string{"main.handleBill", "0x"}},
		{[]string{"list", s.flag()}, []string{"go1.", "0 patches"}},
		{[]string{"load", s.flag(), module}, []string{"is loaded", "main.handleBill", "load took", "halt"}},
		{[]string{"activate", s.flag(), module}, []string{"is active", "activate took", "1 redirect"}},
		{[]string{"list", s.flag()}, []string{"1 patch\n", "is active"}},
		{[]string{"deactivate", s.flag(), module}, []string{"is loaded", "deactivate took", "no halt"}},
		{[]string{"activate", s.flag(), module}, []string{"is active", "no halt", "frames in old code not counted"}},
		{[]string{"deactivate", s.flag(), module}, []string{"is loaded"}},
		{[]string{"activate", s.flag(), "--consistency=quiescent", "--timeout=5m", "--replace", module}, []string{"is active", "1 halt", "1 look"}},
		{[]string{"deactivate", s.flag(), module}, []string{"is loaded"}},
		{[]string{"unload", s.flag(), module}, []string{"unload took"}},
	} {
		out := darn(t, test.args...).ok(t).stdout
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("darn %s prints no %q:\n%s", strings.Join(test.args, " "), want, out)
			}
		}
	}
}

func TestBuildSaysWhatItReplaces(t *testing.T) {
	house := buildTeahouse(t)
	s := house.start(t)
	cmd := command("build", "--json", s.flag(), "--base", house.base, "-o", filepath.Join(t.TempDir(), "m.so"), ".")
	cmd.Dir = house.source
	var built build.Result
	run(t, cmd).ok(t).decode(t, &built)
	if len(built.Functions) != 1 || built.Functions[0].Name != "main.handleBill" || built.ID == "" {
		t.Errorf("build: %+v", built)
	}
	if _, err := os.Stat(built.Path); err != nil {
		t.Error(err)
	}
}

// TestBuildRefusesOtherSource builds against a base that is not what runs.
func TestBuildRefusesOtherSource(t *testing.T) {
	house := buildTeahouse(t)
	output := filepath.Join(t.TempDir(), "m.so")
	cmd := command("build", "--target", house.program, "--base", house.source, "-o", output, ".")
	cmd.Dir = house.source
	r := run(t, cmd)
	if r.code != exitRefused || !strings.Contains(r.stderr, "not what the target was built from") || !strings.Contains(r.stderr, "[text-mismatch]") {
		t.Errorf("exit status %d, stderr %q", r.code, r.stderr)
	}
	if _, err := os.Stat(output); err == nil {
		t.Error("a module was written")
	}
}

// TestReadmesExample runs the worked example of the README: a clean checkout,
// a running server, an edit, and the commands without options.
func TestReadmesExample(t *testing.T) {
	dir := filepath.Join(shared, "example")
	source := filepath.Join(dir, "cmd", "shop")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeTree(source, os.DirFS(demoDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module shop\n\ngo 1.24\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"git init -q",
		"git add -A",
		"git -c user.name=Shop -c user.email=shop@localhost commit -q -m shop",
		"go build -buildvcs=true -o shop ./cmd/shop",
	} {
		words := strings.Fields(args)
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	house := &teahouse{demoPaths{program: filepath.Join(dir, "shop")}}
	s := house.start(t)
	if err := writeTree(source, os.DirFS(filepath.Join(demoDir, "fixed"))); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ args, answer string }{
		{"build %s -o fix.so ./cmd/shop", oldBill},
		{"inspect %s fix.so", oldBill},
		{"load %s fix.so", oldBill},
		{"activate %s fix.so", newBill},
		{"list %s", newBill},
		{"deactivate %s fix.so", oldBill},
		{"unload %s fix.so", oldBill},
	} {
		cmd := command(strings.Fields(fmt.Sprintf(step.args, s.flag()))...)
		cmd.Dir = dir
		run(t, cmd).ok(t)
		s.mustAnswer(step.answer)
	}
}
