package cli

import (
	"fmt"
	"os"
	"testing"
)

// killedAt runs a command that is killed at a step, if it has as many.
func killedAt(t *testing.T, step int, args ...string) result {
	t.Helper()
	cmd := command(args...)
	cmd.Env = append(os.Environ(), fmt.Sprint("DARN_FAULT=", step))
	return run(t, cmd)
}

// The kernel lets a process go as it is when its tracer is killed: stopped, if it
// was about to stop. The next command does not find it so.
func TestAProcessGoesOnWhenDarnIsKilledAttaching(t *testing.T) {
	p, s, _ := troubled(t, nil)
	for step := range 3 { // it is stopped, about to run, and runs
		if r := killedAt(t, step+1, "list", s.flag()); r.code >= 0 {
			t.Errorf("step %d: the command ends with status %d and not by SIGKILL: %s", step+1, r.code, r.stderr)
		}
		darn(t, "list", s.flag()).ok(t)
		p.says(t, "42")
	}
}
