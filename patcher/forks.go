package patcher

import (
	"fmt"
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
)

// A child that a patched process forks has the patches too, and shares their
// switches: it follows each store. What is written anywhere else it does not see.

// SharedMemory identifies the memory that Darn owns in a process, "" if it has
// none: processes that have it in common follow the same switches.
func SharedMemory(pid int) string { return arena.Identity(pid) }

// notForked refuses with in-use what would have to be written in the children
// too that the process has forked since the first load.
func (e *Engine) notForked(op Operation, id string) error {
	if e.arena == nil {
		return nil
	}
	pids := e.arena.Forks()
	// A child may be about to execute another program.
	for range fewTries {
		if len(pids) == 0 {
			return nil
		}
		time.Sleep(haltPause)
		pids = e.arena.Forks()
	}
	if len(pids) == 0 {
		return nil
	}
	return finding.Refuse(finding.InUse,
		fmt.Sprintf("process %d was forked from this one and has its patches; it follows their switches, but to %s patch %s takes writing to its code or memory", pids[0], op, id),
		"try again when it has ended; activate and deactivate go on for a patch that was active once before the fork")
}
