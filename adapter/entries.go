package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
)

// entriesPatience is for how long a request for instruction breakpoints waits
// for an operation that is under way.
const entriesPatience = 10 * time.Second

// guardEntries refuses a request for instruction breakpoints of which one lies
// inside a jump that Darn has written at a function's entry: its byte would
// become a part of the jump's distance, and the next call would go astray. It
// returns whether it has answered the request.
func (s *patches) guardEntries(h *header) bool {
	var a dap.SetInstructionBreakpointsArguments
	if err := json.Unmarshal(h.Arguments, &a); err != nil || len(a.Breakpoints) == 0 {
		return false
	}
	s.p.mu.Lock()
	attached := s.p.attached
	s.p.mu.Unlock()
	s.mu.Lock()
	patchable := attached || s.engine != nil
	s.mu.Unlock()
	if !patchable {
		return false // nobody has patched what was only just launched
	}
	ctx, cancel := context.WithTimeout(context.Background(), entriesPatience)
	defer cancel()
	e, err := s.open(ctx)
	if err != nil {
		return false // what can't be patched has no jumps
	}
	entries, err := e.Entries(ctx)
	if err != nil {
		s.p.refuse(h, err)
		return true
	}
	for _, bp := range a.Breakpoints {
		addr, err := strconv.ParseUint(bp.InstructionReference, 0, 64)
		if err != nil {
			continue // the session says so
		}
		addr += uint64(bp.Offset)
		for _, r := range entries {
			if r.Holds(addr, 1) {
				s.p.refuse(h, finding.Refuse(finding.BreakpointAtEntry,
					fmt.Sprintf("%#x lies inside the jump at the entry of a patched function: a breakpoint there would break it", addr),
					"set it on the entry itself, or unload the patch first; no instruction breakpoint was changed"))
				return true
			}
		}
	}
	return false
}
