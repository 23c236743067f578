package patcher

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// entryChange is a redirect whose bytes at the entry have to become want.
type entryChange struct {
	redirect *redirectRecord
	want     []byte
}

// plan puts a patch that is switched on, or led, onto the stacks of its redirects
// and says what has to change for that, and with the switches, at the entries and
// in the stubs.
func (s *switching) plan() error {
	if s.on || s.leading {
		if err := s.stack(s.patch()); err != nil {
			return err
		}
	}
	var err error
	s.entries, err = s.entryChanges()
	return err
}

// stack puts p onto the stacks of its redirects, for good at its first activation,
// and lists the writes that link the stubs accordingly. They are in such an order
// that whoever comes between two of them finds a way through the stubs: each leads
// to one from which on all is as it will be.
func (s *switching) stack(p *patchRecord) error {
	first := s.on && p.Led
	var pads []goruntime.Write
	for _, f := range p.Functions {
		d := s.reg.redirect(f.Entry)
		was := slices.Clone(d.Stack)
		if i := slices.Index(d.Stack, p.ID); i < 0 || first {
			if i >= 0 {
				d.Stack = slices.Delete(d.Stack, i, i+1)
			}
			at := len(d.Stack)
			for s.on && at > 0 && s.reg.led(d.Stack[at-1]) {
				at--
			}
			d.Stack = slices.Insert(d.Stack, at, p.ID)
		}
		if d.Encoding == redirect.DirectEncoding {
			continue
		}
		// Last, since it leads to all: where the entry leads to.
		pad, err := s.repoint(d, was)
		if err != nil {
			return err
		}
		pads = append(pads, pad...)
		for _, id := range d.Stack {
			if !slices.Contains(was, id) {
				continue // stubs writes it
			}
			w, err := s.link(d, id, was)
			if err != nil {
				return err
			}
			if !bytes.Equal(w.Old, w.New) {
				s.links = append(s.links, w)
			}
		}
	}
	s.links = append(s.links, pads...)
	p.Led = s.leading
	return nil
}

// repoint returns the write that makes the pad of d, if it has one that is in use,
// lead to the uppermost patch of its stack, after that was another one.
func (t *transition) repoint(d *redirectRecord, was []string) ([]goruntime.Write, error) {
	if d.Pad == 0 || len(was) == 0 || len(d.Stack) == 0 {
		return nil, nil // stubs writes it, or nothing leads to it
	}
	w := goruntime.Write{Addr: redirect.FarJumpTo(d.Pad)}
	for _, x := range []struct {
		field *[]byte
		stack []string
	}{{&w.Old, was}, {&w.New, d.Stack}} {
		p, err := t.e.reg.patch(x.stack[len(x.stack)-1])
		if err != nil {
			return nil, err
		}
		*x.field = binary.LittleEndian.AppendUint64(nil, p.function(d.Entry).landing())
	}
	if bytes.Equal(w.Old, w.New) {
		return nil, nil
	}
	return []goruntime.Write{w}, nil
}

// led tells whether a patch is Led.
func (r *registry) led(id string) bool {
	p, err := r.patch(id)
	return err == nil && p.Led
}

// link returns the write that makes the stub of a patch on d go on to the one
// below it, after its place was that in another stack.
func (t *transition) link(d *redirectRecord, id string, was []string) (w goruntime.Write, err error) {
	p, err := t.reg.patch(id)
	if err != nil {
		return w, err
	}
	w.Addr = p.function(d.Entry).thunk() - redirect.StubNextSize
	for _, x := range []struct {
		field *[]byte
		stack []string
	}{{&w.Old, was}, {&w.New, d.Stack}} {
		next, err := t.below(d, id, x.stack)
		if err != nil {
			return w, err
		}
		if *x.field, err = redirect.StubNext(w.Addr, next); err != nil {
			return w, err
		}
	}
	return w, nil
}

// below is where the stub of a patch on a stack of d goes on to: the stub of the
// next patch, or the patch's own thunk.
func (t *transition) below(d *redirectRecord, id string, stack []string) (uint64, error) {
	i := slices.Index(stack, id)
	if i > 0 {
		id = stack[i-1]
	}
	p, err := t.reg.patch(id)
	if err != nil {
		return 0, err
	}
	if i > 0 {
		return p.function(d.Entry).Stub, nil
	}
	return p.function(d.Entry).thunk(), nil
}

// entryChanges lists the redirects whose entry has to change with the switches.
func (s *switching) entryChanges() ([]entryChange, error) {
	var changes []entryChange
	seen := map[uint64]bool{}
	for _, p := range s.changed() {
		for _, f := range p.Functions {
			if seen[f.Entry] {
				continue
			}
			seen[f.Entry] = true
			d := s.reg.redirect(f.Entry)
			want, err := s.reg.entryBytes(d, s.will)
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
func (r *registry) entryBytes(d *redirectRecord, active func(*patchRecord) bool) ([]byte, error) {
	for _, id := range slices.Backward(d.Stack) {
		p, err := r.patch(id)
		if err != nil {
			return nil, err
		}
		f := p.function(d.Entry)
		if d.Pad != 0 {
			return d.jump(d.Pad)
		}
		if d.Encoding != redirect.DirectEncoding {
			return d.jump(f.landing())
		}
		if active(p) {
			return d.jump(f.direct())
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
		next, err := t.below(d, p.ID, d.Stack)
		if err != nil {
			return err
		}
		code, err := t.stub(p, f, next)
		if err != nil {
			return err
		}
		if err := t.lay(f.Stub, code); err != nil {
			return err
		}
		if d.Pad != 0 && len(t.e.reg.redirect(f.Entry).Stack) == 0 {
			if err := t.lay(d.Pad, redirect.FarJump(d.Pad, f.landing())); err != nil {
				return err
			}
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
	if rt, ok := t.e.lang.(initialiser); ok && f.Marked {
		return redirect.MarkedStub(f.Stub, p.Switch, f.New, next, rt.LabelsOffset(), p.Init.State+module.InitMark)
	}
	return redirect.Stub(f.Stub, p.Switch, f.called(), next)
}

// knowsGoroutine tells whether it is sure that callers of f enter it by the ABI
// that has the goroutine in a register: Go's compiler has made it, and it is not
// what leads assembly there. A function of assembly has a name like any other.
func knowsGoroutine(f *module.Function) bool {
	file, _, _ := strings.Cut(f.OldSource, ":")
	return (strings.HasSuffix(file, ".go") || file == "<autogenerated>") && !strings.HasSuffix(f.Symbol, ".abi0")
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
