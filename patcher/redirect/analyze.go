package redirect

import (
	"bytes"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

// endbr64 marks where an indirect branch may land. It stays at the entry.
var endbr64 = []byte{0xF3, 0x0F, 0x1E, 0xFA}

// Analyze decides how the function that consists of code and runs at entry is
// redirected. code must be the whole function, from its entry to its end (its
// padding may follow), because a branch from anywhere in it may lead into the
// bytes that the redirect overwrites. Two kinds are not seen: branches from
// other functions, which compilers make only to entries, and those through a
// jump table, which would need a loop whose every way back to a head in the
// first bytes is an entry of the table.
//
// Branches to the entry itself, such as the one after Go's call of morestack,
// are welcome: whatever state they bring is the state of a call, as the code
// at the entry can't tell them apart.
//
// Refused with entry-too-short, with entry-branch-target, and with
// unsupported-target if a part of the function cannot be decoded.
func Analyze(code []byte, entry uint64) (*Plan, error) { return analyze(code, entry, false) }

// AnalyzeC is Analyze for a function of a C program. There an instruction that
// may fault can run elsewhere: nobody but a handler of SIGSEGV sees at which
// address the fault was.
func AnalyzeC(code []byte, entry uint64) (*Plan, error) { return analyze(code, entry, true) }

func analyze(code []byte, entry uint64, mayFault bool) (*Plan, error) {
	p := &Plan{Entry: entry, Encoding: JumpEncoding, mayFault: mayFault}
	if bytes.HasPrefix(code, endbr64) {
		p.Offset = len(endbr64)
	}
	if len(code) < p.Offset+JumpSize {
		return nil, finding.Refuse(finding.EntryTooShort,
			fmt.Sprintf("the function at %#x has %d bytes, and a redirect needs %d", entry, len(code), p.Offset+JumpSize),
			"patch its callers instead")
	}
	p.Old = bytes.Clone(code[p.Offset : p.Offset+JumpSize])
	if err := p.cover(code[p.Offset:]); err != nil {
		return nil, err
	}
	if err := p.checkBranches(code); err != nil {
		return nil, err
	}
	return p, nil
}

// cover finds the whole instructions that the redirect covers and whether
// they may run elsewhere. code starts at p.Offset.
func (p *Plan) cover(code []byte) error {
	ended := false // nothing runs on past the instructions seen so far
	for p.Span < JumpSize {
		in, err := decode(code[p.Span:])
		if err != nil && ended {
			p.Span = JumpSize // padding or data: whatever is there never runs
			break
		}
		if err != nil {
			return undecodable(p.Entry, p.Offset+p.Span, err)
		}
		if !ended && p.Reason == "" {
			if why := in.immovable(p.mayFault); why != "" {
				p.Encoding = DirectEncoding
				p.Reason = fmt.Sprintf("% x at +%#x %s", code[p.Span:p.Span+in.len], p.Offset+p.Span, why)
			}
		}
		p.Single = p.Span == 0 && in.len >= JumpSize
		p.Span += in.len
		ended = ended || in.ends()
	}
	p.covered = bytes.Clone(code[:p.Span])
	return nil
}

// checkBranches refuses a function with a branch to, or the address of, a byte
// between those that the redirect overwrites.
func (p *Plan) checkBranches(code []byte) error { return p.CheckPiece(code, p.Entry) }

// CheckPiece is refused with entry-branch-target if code at an address, a part of
// the function that the compiler put elsewhere, leads into the bytes that the
// redirect overwrites, and with unsupported-target if it can't be decoded.
func (p *Plan) CheckPiece(code []byte, at uint64) error {
	refs, err := Refs(code, at)
	if e, ok := err.(*DecodeError); ok {
		return undecodable(at, e.Offset, fmt.Errorf("%s", e.Reason))
	}
	jmp := p.Entry + uint64(p.Offset)
	for _, r := range refs {
		if r.Target > jmp && r.Target < jmp+JumpSize {
			return finding.Refuse(finding.EntryBranchTarget,
				fmt.Sprintf("the instruction at +%#x of the function at %#x leads to +%#x, among the bytes that a redirect overwrites",
					at+uint64(r.Offset)-p.Entry, p.Entry, r.Target-p.Entry),
				"patch its callers instead")
		}
	}
	return nil
}

func undecodable(entry uint64, off int, why error) error {
	return finding.Refuse(finding.UnsupportedTarget,
		fmt.Sprintf("the function at %#x cannot be decoded at +%#x (%v), so a branch into its entry cannot be ruled out", entry, off, why),
		"patch its callers instead")
}
