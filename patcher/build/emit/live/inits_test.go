package live_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/module"
)

// Goroutines that enter at once wait for the one that initialises.
func TestNewVariablesHaveTheirValuesWhenNewCodeRuns(t *testing.T) {
	dir := t.TempDir()
	program, old, edited := filepath.Join(dir, "inits"), filepath.Join(dir, "old"), filepath.Join(dir, "edited")
	for to, from := range map[string]string{program: "inits", old: "inits", edited: "inits.edit"} {
		if err := os.CopyFS(to, os.DirFS("../testdata/"+from)); err != nil {
			t.Fatal(err)
		}
	}
	replace := map[string]string{}
	err := filepath.WalkDir(edited, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			replace[filepath.Join(program, strings.TrimPrefix(path, edited))] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, list, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name  string
		flags []string
	}{
		{"default", nil},
		{"not optimised", []string{"-gcflags=all=-N -l"}},
		{"paths trimmed", []string{"-trimpath"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			target := targettest.Build(t, program, x.flags...)
			path := filepath.Join(t.TempDir(), "fix.so")
			r, err := build.Build(t.Context(), build.Options{Dir: program, Base: old, Target: target, Overlay: overlay, Output: path})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Findings {
				if f.Severity != finding.Info || !strings.Contains(f.Message, "only inlined: it changes with main.answer") {
					t.Error(f)
				}
			}
			m, err := module.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Manifest.Go.InitVariables; !slices.Contains(got, "main.total") || !slices.Contains(got, "inits/sub.ready") {
				t.Errorf("the patch initialises %v", got)
			}
			g := targettest.Start(t, targettest.Command{Path: target, Env: []string{"GOGC=1", "GODEBUG=clobberfree=1"}})
			g.Line("old word 4")
			patch(t, g, path, []string{"new word that is ready 4"}, "old")
		})
	}
}
