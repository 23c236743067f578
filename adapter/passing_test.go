package adapter

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// TestThreadsThatComeAndGo: a session stops a program again and again while threads of
// it end in every instant of that, and lets it go.
func TestThreadsThatComeAndGo(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "passing")
	compile(t, "gcc", "-g", "-O1", "-pthread", "-o", exe, "../testdata/targets/passing.c")
	target := start(t, exec.Command(exe))
	eventually(t, "its begin", func() bool { return strings.Contains(target.out.String(), "ready") })
	c, _ := session(t)
	c.attach(target.Process.Pid)
	c.configured()
	for range 60 {
		c.call("pause", dap.PauseArguments{}, nil)
		c.resume("continue", c.stoppedFor("pause").ThreadId)
	}
	c.disconnect(false)
	mustGoOn(t, target)
}
