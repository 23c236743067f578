package patcher

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// A child that a patched process forks has the patches too, and shares their
// switches: it follows each store. What is written anywhere else it does not see.

// SharedMemory identifies the memory that Darn owns in a process, "" if it has
// none: processes that have it in common follow the same switches.
func SharedMemory(pid int) string { return arena.Identity(pid) }

// notForked refuses with in-use what would have to be written in the children
// too that the process has forked since the first load, and what would be written
// into the registry, which they have in common, but not into their memory.
func (e *Engine) notForked(op Operation, id string) error {
	refusal := e.forked(op, id)
	// A child may be about to execute another program.
	for try := 0; refusal != nil && try < fewTries; try++ {
		time.Sleep(haltPause)
		refusal = e.forked(op, id)
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

// forked is one look of notForked, which a halt makes sure of: while a process
// is halted it forks no child.
func (e *Engine) forked(op Operation, id string) *finding.Refusal {
	if e.arena == nil {
		return nil
	}
	pids := e.arena.Forks()
	if len(pids) == 0 {
		return nil
	}
	advice := "try again when it has ended; activate and deactivate go on for a patch that was active once before the fork"
	if e.lang.forksNot() {
		advice = "try again when it has ended" // its entries may be straight
	}
	if slices.ContainsFunc(e.reg.Redirects, func(d *redirectRecord) bool { return d.Encoding == redirect.DirectEncoding }) {
		advice = "try again when it has ended; until then functions that are entered without a switch can't be switched either"
	}
	return finding.Refuse(finding.InUse,
		fmt.Sprintf("process %d and this one were forked from each other and have the same patches; both follow their switches, but to %s patch %s takes writing to the code or memory of each", pids[0], op, id),
		advice)
}

// checkMemory refuses with unsupported-target a process that shares the registry
// with another one, by a fork, and has not the memory that the registry tells of.
func (e *Engine) checkMemory() error {
	maps, err := e.p.Maps()
	if err != nil {
		return err
	}
	other := func(what string) error {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("process %d has the patches of another process, forked from it or forking it, but %s", e.p.Pid(), what),
			"patch the other process, or restart this one to patch it")
	}
	for _, p := range e.reg.Patches {
		if p.Go == nil {
			continue
		}
		for _, s := range p.Go.Segments {
			i := slices.IndexFunc(maps, func(m process.Mapping) bool { return m.Start <= s.Start && s.Start < m.End })
			if i < 0 || strings.HasPrefix(maps[i].Perms, "---") {
				return other(fmt.Sprintf("the memory of patch %s is not there", p.ID))
			}
		}
	}
	for _, d := range e.reg.Redirects {
		if bytes.Equal(d.Now, d.Old) {
			continue // what has overwritten it is for the writer to judge
		}
		now := make([]byte, len(d.Now))
		if err := e.p.ReadMemory(now, d.at()); err != nil {
			return err
		}
		if bytes.Equal(now, d.Old) {
			return other(fmt.Sprintf("the entry at %#x was never changed in it", d.Entry))
		}
	}
	return nil
}
