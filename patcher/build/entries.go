package build

import (
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/redirect"
)

// fixedEntry tells why a function of the base can't be redirected at its entry
// in the target, nil if it can: it foresees what loading the module would find.
func (b *builder) fixedEntry(fn int) *finding.Finding {
	entry, ok := b.match.Addr(fn)
	if !ok {
		return nil
	}
	code := make([]byte, b.baseObject.Symbols[fn].Size)
	if err := b.target.ReadAt(code, entry); err != nil {
		return nil
	}
	plan, err := redirect.Analyze(code, entry)
	if r := finding.As(err); r != nil {
		return &r.Findings[0]
	}
	if err != nil {
		return nil
	}
	// A breakpoint on the second byte does no harm to a jump that leads to a
	// pad (see package patcher), which there is for a first instruction of one.
	from := uint64(1)
	if n, err := redirect.Length(plan.Old); err == nil && n == 1 && plan.Encoding != redirect.DirectEncoding {
		from = 2
	}
	at := entry + uint64(plan.Offset)
	off, what := b.target.StopWithin(entry, entry+uint64(len(code)), at+from, at+redirect.JumpSize)
	if what == "" {
		return nil
	}
	return &finding.Refuse(finding.BreakpointAtEntry,
		fmt.Sprintf("%s %d bytes behind the entry, inside the %d bytes that a redirect needs: a debugger's breakpoint or step there would break the jump",
			what, off-at, redirect.JumpSize), "").Findings[0]
}
