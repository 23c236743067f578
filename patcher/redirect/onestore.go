package redirect

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// A redirect that is written while threads run must not be met half done, and
// nobody may find himself in the middle of it, however long ago he was
// interrupted in the function's first bytes. Both hold if one store of an
// aligned word alters nothing but the first instruction: who has passed that
// goes on in bytes that are as they were, and who has not runs the old one or
// the jump (AMD's manual, volume 2, 7.6.1, promises that of cross-modifying
// code; the JVM and the CLR count on it on Intel's processors too).
//
// A jump has five bytes. Where the first instruction is shorter, the jump's last
// bytes have to be those that are there already: then its distance is given in
// part, and it has to lead into a window. With four bytes that is 16 MiB wide,
// shared by most functions, and as good as always free: behind Go's check of the
// stack, cmp and jbe, it is 1.8 GiB above the function or 241 MiB. With one byte,
// as of push %rbp, it is a single place, of each function another one: a little
// more than a GiB above it behind most prologues.

// wordSize is how many bytes one store writes, where they are aligned to that.
const wordSize = 8

// Window is where a jump may lead, from Start up to but not including End.
type Window struct{ Start, End uint64 }

// Anywhere is how wide a window is at least, in bytes, in which every place is
// that can be reached at all; all others are narrower.
const Anywhere = 1 << 31

// OneStore returns the plan for the same function by which one store makes the
// redirect, and where its jump has to lead. If there is none it says why not:
// then the redirect of p is to be written under a halt. A function that begins
// with endbr64 loses it: Linux does not make user programs land on one.
func (p *Plan) OneStore() (single *Plan, to Window, why string) {
	q, in, why := p.inFirst()
	if q == nil {
		return nil, to, why
	}
	if reason := in.immovable(p.mayFault); reason != "" {
		return nil, to, fmt.Sprintf("% x at +0x0 %s", q.covered, reason)
	}
	return q, q.window(), ""
}

// DirectStore is OneStore for a redirect without a switch, which leads to the new code:
// its plan is as p, with DirectEncoding, but alters the first instruction only. It
// is nil if that is unknown.
func (p *Plan) DirectStore() (direct *Plan, to Window) {
	q, _, _ := p.inFirst()
	if q == nil {
		return nil, to
	}
	q.Encoding, q.Reason = DirectEncoding, p.Reason
	return q, q.window()
}

// inFirst returns a plan that alters nothing but the first instruction, and that.
func (p *Plan) inFirst() (q *Plan, in inst, why string) {
	q = &Plan{Entry: p.Entry, Encoding: SingleEncoding, Old: p.Old, Single: true, mayFault: p.mayFault}
	if p.Offset > 0 {
		q.Old = slices.Concat(endbr64, p.Old[:JumpSize-len(endbr64)])
	}
	first := slices.Concat(q.Old[:min(len(q.Old), p.Offset)], p.covered)
	in, err := decode(first)
	if err != nil {
		return nil, in, "its first instruction is unknown"
	}
	q.Span, q.covered = in.len, bytes.Clone(first[:in.len])
	q.StackCheck = in.stackCheck()
	return q, in, ""
}

// Reaches tells whether a jump from p's entry to an address alters no more of it than
// one store may. It needs no more of p than Entry, Span and Old, for a plan of
// OneStore or DirectStore.
func (p *Plan) Reaches(to uint64) bool {
	w := p.window() // which may begin below 0
	return to-w.Start < w.End-w.Start
}

// window is where a jump leads of which no more than the first instruction's first
// bytes can be chosen, and those that one store writes.
func (p *Plan) window() Window {
	end := p.Entry + JumpSize
	altered := min(p.Span, JumpSize, wordSize-int(p.Entry%wordSize))
	if altered == JumpSize {
		return Window{end - (1 << 31), end + math.MaxInt32}
	}
	free := uint64(1) << (8 * (altered - 1)) // how many distances
	given := uint32(0)
	for i := altered; i < JumpSize; i++ {
		given |= uint32(p.Old[i]) << (8 * (i - 1))
	}
	start := end + uint64(int64(int32(given)))
	return Window{start, start + free}
}
