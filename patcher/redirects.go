package patcher

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// entryChange is a redirect whose bytes at the entry have to become want.
type entryChange struct {
	redirect *redirectRecord
	want     []byte
}

// entryChanges lists the redirects whose entry has to change with the switches,
// after it has put a patch that is switched on onto their stacks.
func (s *switching) entryChanges() ([]entryChange, error) {
	var changes []entryChange
	seen := map[uint64]bool{}
	for _, p := range s.changed() {
		for _, f := range p.Functions {
			d := s.reg.redirect(f.Entry)
			if p.ID == s.id && (s.on || s.leading) && !slices.Contains(d.Stack, p.ID) {
				d.Stack = append(d.Stack, p.ID)
			}
		}
	}
	for _, p := range s.changed() {
		for _, f := range p.Functions {
			if seen[f.Entry] {
				continue
			}
			seen[f.Entry] = true
			d := s.reg.redirect(f.Entry)
			want, err := s.entryBytes(d, s.will)
			if err != nil {
				return nil, err
			}
			if !bytes.Equal(want, d.Now) {
				changes = append(changes, entryChange{d, want})
			}
		}
	}
	return changes, nil
}

// entryBytes returns what has to stand at the entry of d: with stubs a jump
// to the uppermost stub, whatever is active; without, a jump to the new code
// of the uppermost active patch, or the original bytes.
func (t *transition) entryBytes(d *redirectRecord, active func(*patchRecord) bool) ([]byte, error) {
	for _, id := range slices.Backward(d.Stack) {
		p, err := t.reg.patch(id)
		if err != nil {
			return nil, err
		}
		f := p.function(d.Entry)
		if d.Encoding != redirect.DirectEncoding {
			return d.jump(f.landing())
		}
		if active(p) {
			return d.jump(f.called())
		}
	}
	return d.Old, nil
}

// stubs writes the stubs of p that are not yet linked in. Nothing runs them
// before the entries lead to them.
func (t *transition) stubs(p *patchRecord) error {
	for _, f := range p.Functions {
		d := t.reg.redirect(f.Entry)
		if d.Encoding == redirect.DirectEncoding || slices.Contains(t.e.reg.redirect(f.Entry).Stack, p.ID) {
			continue
		}
		next := d.Thunk
		if i := slices.Index(d.Stack, p.ID); i > 0 {
			below, err := t.reg.patch(d.Stack[i-1])
			if err != nil {
				return err
			}
			next = below.function(d.Entry).Stub
		}
		code, err := t.stub(p, f, next)
		if err != nil {
			return err
		}
		if err := t.lay(f.Stub, code); err != nil {
			return err
		}
		if f.Pad == 0 {
			continue
		}
		if code, err = (&redirect.Plan{Entry: f.Pad}).Jump(f.Stub); err == nil {
			err = t.lay(f.Pad, code)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stub returns the code of f's stub.
func (t *transition) stub(p *patchRecord, f *functionRecord, next uint64) ([]byte, error) {
	if rt, ok := t.e.lang.(initialiser); ok && f.marked(p) {
		return redirect.MarkedStub(f.Stub, p.Switch, f.New, next, rt.LabelsOffset(), p.Init.State+module.InitMark)
	}
	return redirect.Stub(f.Stub, p.Switch, f.called(), next)
}

// marked tells whether f's stub is to know the goroutines that initialise p. At
// the entry of a function of ABI0 they can't be known.
func (f *functionRecord) marked(p *patchRecord) bool {
	return p.Init != nil && !strings.HasSuffix(f.Symbol, ".abi0")
}

// lay writes code into a slot.
func (t *transition) lay(at uint64, code []byte) error {
	old := make([]byte, len(code))
	if err := t.e.p.ReadMemory(old, at); err != nil {
		return err
	}
	t.onUndo(func() error { return t.e.p.WriteMemory(at, old) })
	return t.e.p.WriteMemory(at, code)
}

// checkBreakpoints refuses with breakpoint-at-entry if the debugger has a
// breakpoint inside a jump that is about to be written: its byte would become
// a part of the jump's distance. On the first byte it does no harm, nor where
// the distance has that byte anyway, nor when the original bytes come back.
func (e *Engine) checkBreakpoints(h *process.Halt, entries []entryChange) error {
	for _, c := range entries {
		if bytes.Equal(c.want, c.redirect.Old) {
			continue
		}
		if err := e.lang.checkPrologue(h, c); err != nil {
			return err
		}
		at := c.redirect.at()
		for _, bp := range h.Breakpoints(at+1, at+redirect.JumpSize) {
			if c.want[bp.Addr-at] == int3 {
				continue
			}
			return finding.Refuse(finding.BreakpointAtEntry,
				fmt.Sprintf("a breakpoint at %#x (%s:%d) lies in the bytes at the entry of %s that the redirect needs",
					bp.Addr, bp.File, bp.Line, bp.FunctionName),
				"remove that breakpoint or set it on a later line, then try again")
		}
	}
	return nil
}
