package patcher_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// TestTargets patches programs that were built in every way that is supported.
func TestTargets(t *testing.T) {
	tests := []struct {
		name  string
		flags []string
		env   []string
	}{
		{"without optimisation", []string{"-gcflags=all=-N -l"}, nil},
		{"trimpath", []string{"-trimpath"}, nil},
		{"without cgo", nil, []string{"CGO_ENABLED=0"}},
		{"position independent", []string{"-buildmode=pie"}, nil},
		{"Go 1.25", nil, []string{"GOTOOLCHAIN=go1.25.1"}},
		{"Go 1.24", nil, []string{"GOTOOLCHAIN=go1.24.6"}},
	}
	source := os.DirFS(filepath.Join(targettest.Root(t), "testdata", "targets", "shop"))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, v := range test.env {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			root := t.TempDir()
			s := &shop{dir: filepath.Join(root, "shop"), base: filepath.Join(root, "base")}
			s.exe = filepath.Join(s.dir, "shop")
			for _, dir := range []string{s.dir, s.base} {
				if err := os.CopyFS(dir, source); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", s.exe}, test.flags...)...)
			cmd.Dir = s.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			m := s.module(t, "edit", slices.Concat(gathered, edit{
				// What is left of finalizers and cleanups that have run is no reference.
				`return "a " + t.label()`, `runtime.SetFinalizer(new([3]*int), func(*[3]*int) { waiting.Add(1) })
	runtime.AddCleanup(new([3]*int), func(n int32) { waiting.Add(n) }, 100)
	return fmt.Sprint("one ", t.label(), sums)`,
				`"hello %s", name)`, `"welcome %v", map[string]int{name: c.n[name]})`,
			}))
			target := s.start(t, "GOGC=1")
			e, detach := attach(t, target)
			p := load(t, e, m)
			activate(t, e, p)
			for range 20 {
				expect(t, target, "/describe", "one pen[0 10 20 30]")
			}
			expect(t, target, "/gc", "collected")
			expect(t, target, "/greet?name=eve", "welcome map[eve:1]")
			deactivate(t, e, p)
			expect(t, target, "/greet?name=eve", "hello eve")
			targettest.Eventually(t, "finalizers and cleanups", func() bool {
				target.Get("/gc")
				return target.Get("/waiting") == "2020\n"
			})
			targettest.Eventually(t, "an unload", func() bool {
				_, err := e.Unload(t.Context(), p.ID)
				return err == nil
			})
			expect(t, target, "/describe", "a pen")
			detach()
			target.MustLive()
		})
	}
}

// A leaf function with a frame of its own and no check of the stack has a
// prologue of four bytes: a debugger that stops in it, or steps into it, would
// put its breakpoint into the jump.
func TestAPrologueThatEndsInsideTheJumpIsRefused(t *testing.T) {
	s := newShop(t, "-gcflags=all=-N -l")
	reached := s.module(t, "discount", discount)
	m := s.aim(t, reached, "main.total")
	target := s.start(t)
	e, detach := attach(t, target)
	// What is built reaches the function through its callers.
	p := load(t, e, reached)
	activate(t, e, p)
	expect(t, target, "/total", "270")
	deactivate(t, e, p)
	expect(t, target, "/total", "300")
	unload(t, e, p)

	p = load(t, e, m)
	before := snapshot(t, target.Pid())
	_, _, err := e.Activate(t.Context(), p.ID, patcher.ActivateOptions{})
	if finding.CodeOf(err) != finding.BreakpointAtEntry || !strings.Contains(err.Error(), "the function main.total lies at") {
		t.Errorf("activate says %v", err)
	}
	if d := before.diff(snapshot(t, target.Pid())); d != "" {
		t.Errorf("the process is not as it was:\n%s", d)
	}
	expect(t, target, "/total", "300")
	unload(t, e, p)
	detach()
}
