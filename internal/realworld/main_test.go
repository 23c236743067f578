package realworld

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// scratch is a folder for all tests of the package: programs that several of
// them use are built there once.
var scratch string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "darn-realworld-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		// The bases that darn build keeps are not for the user's cache; what
		// the compiler keeps is.
		cache, err := exec.Command("go", "env", "GOCACHE").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
		os.Setenv("XDG_CACHE_HOME", filepath.Join(scratch, "cache"))
		return m.Run()
	}())
}

// buildDarn builds the darn command once.
var buildDarn = sync.OnceValues(func() (string, error) {
	darn := filepath.Join(scratch, "darn")
	out, err := exec.Command("go", "build", "-o", darn, "../..").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return darn, nil
})

func darnCommand(t *testing.T) string {
	t.Helper()
	darn, err := buildDarn()
	if err != nil {
		t.Fatal(err)
	}
	return darn
}
