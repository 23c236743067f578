package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	// scratch is a folder for all tests of the package.
	scratch string
	// installed is where the script setup puts what apt does not.
	installed string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "darn-clients-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		user, err := os.UserCacheDir()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		installed = filepath.Join(user, "darn-test-clients")
		// What Darn keeps is not for the user's cache; what the compiler keeps is.
		cache, err := exec.Command("go", "env", "GOCACHE").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
		os.Setenv("XDG_CACHE_HOME", filepath.Join(scratch, "cache"))
		// The clients find darn as a user's do.
		os.Setenv("PATH", scratch+":"+os.Getenv("PATH")+":"+filepath.Join(installed, "helix", "bin"))
		return m.Run()
	}())
}

// requires skips the test if a client is not installed, and fails it where all
// must be.
func requires(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed: make setup", what)
	default:
		t.Skipf("%s is not installed: make setup", what)
	}
}

func inPath(tool string) bool {
	_, err := exec.LookPath(tool)
	return err == nil
}

func exists(pattern string) bool {
	found, err := filepath.Glob(pattern)
	return err == nil && len(found) > 0
}

// shop is the program that the clients debug, and a module that takes 30 off
// its total of 300.
type shop struct {
	exe, module string
	source      string // its main.go
	line        int    // where /total is answered
	id          string // of the module
}

// buildShop builds the shop, Darn, and the module with it.
var buildShop = sync.OnceValues(func() (*shop, error) {
	dir, base := filepath.Join(scratch, "shop"), filepath.Join(scratch, "shop-base")
	s := &shop{exe: filepath.Join(dir, "shop"), module: filepath.Join(scratch, "discount.so"), source: filepath.Join(dir, "main.go")}
	for _, dir := range []string{dir, base} {
		if err := os.CopyFS(dir, os.DirFS("../../testdata/targets/shop")); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(s.source)
	if err != nil {
		return nil, err
	}
	before, _, _ := strings.Cut(string(text), "total(3, 100)")
	s.line = strings.Count(before, "\n") + 1
	fixed := strings.Replace(string(text), "return n * price", "return n*price - 30", 1)
	for _, step := range []struct {
		source string
		dir    string
		run    []string
	}{
		{"", "../..", []string{"go", "build", "-o", filepath.Join(scratch, "darn"), "."}},
		{"", dir, []string{"go", "build", "-o", s.exe, "."}},
		{fixed, dir, []string{"darn", "build", "--base", base, "--target", s.exe, "-o", s.module, "."}},
		{string(text), dir, []string{"darn", "inspect", "--json", s.module}},
	} {
		if step.source != "" {
			if err := os.WriteFile(s.source, []byte(step.source), 0o644); err != nil {
				return nil, err
			}
		}
		cmd := exec.Command(step.run[0], step.run[1:]...)
		cmd.Dir = step.dir
		var errors strings.Builder
		cmd.Stderr = &errors
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%v: %w\n%s%s", step.run, err, out, errors.String())
		}
		if step.run[1] == "inspect" {
			var i struct{ Module struct{ ID string } }
			if err := json.Unmarshal(out, &i); err != nil {
				return nil, err
			}
			s.id = i.Module.ID
		}
	}
	return s, nil
})
