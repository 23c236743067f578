package loaded

import (
	"bytes"
	"debug/elf"
	"errors"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/frame"
	"github.com/go-delve/delve/pkg/dwarf/op"
)

// The numbers of registers in unwind tables (System V psABI for x86-64).
const (
	regRBP    = 6
	regRSP    = 7
	regPC     = 16
	registers = 17
)

// Registers are a thread's registers, or those that a frame will find when it is
// returned to, by their numbers in unwind tables: the general ones and the
// program counter.
type Registers [registers]uint64

// PC is the program counter.
func (r *Registers) PC() uint64 { return r[regPC] }

// SP is the stack pointer.
func (r *Registers) SP() uint64 { return r[regRSP] }

// ErrNoFrame says that nothing is known of the frames of the code at an address.
var ErrNoFrame = errors.New("no unwind information")

// frames are an object's unwind tables.
type frames struct{ list frame.FrameDescriptionEntries }

// Frames makes an object of memory that has no file: where it is, and the
// .eh_frame in it.
func Frames(name string, memory ranger, section []byte, addr uint64) *Object {
	return &Object{Path: name, Memory: []ranger{memory}, read: true, frames: parseFrames(section, addr, 0)}
}

// Prepare reads the unwind tables, which takes some milliseconds for a large
// object, so that it need not happen under a halt.
func (x *Object) Prepare() { _ = x.find(0) }

// Begins returns where the unwind tables say that functions begin.
func (x *Object) Begins() []uint64 {
	_ = x.find(0)
	var begins []uint64
	for _, f := range x.frames.list {
		begins = append(begins, f.Begin())
	}
	return begins
}

// find returns the entry for an address in the process, or nil.
func (x *Object) find(pc uint64) *frame.FrameDescriptionEntry {
	if x.frames == nil {
		x.frames = &frames{}
		if s := x.elf.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS {
			if data, err := s.Data(); err == nil {
				x.frames = parseFrames(data, s.Addr, x.Bias)
			}
		}
	}
	f, err := x.frames.list.FDEForPC(pc)
	if err != nil {
		return nil
	}
	return f
}

// parseFrames parses a section .eh_frame at an address, in an object that lies
// bias bytes higher.
func parseFrames(data []byte, addr, bias uint64) (f *frames) {
	// What a process has loaded may be anything; the parser trusts it.
	defer func() {
		if recover() != nil {
			f = &frames{}
		}
	}()
	list, err := frame.Parse(bytes.Clone(data), le, 0, 8, addr)
	if err != nil {
		return &frames{}
	}
	for _, e := range list {
		e.Translate(bias)
	}
	slices.SortStableFunc(list, func(a, b *frame.FrameDescriptionEntry) int {
		switch {
		case a.Begin() < b.Begin():
			return -1
		case a.Begin() > b.Begin():
			return 1
		}
		return 0
	})
	return &frames{list}
}

// Step is one step up a stack.
type Step struct {
	// Caller are the registers of the frame above. At is where its program
	// counter is saved, CFA the address above the frame.
	Caller  Registers
	At, CFA uint64
	// Last tells that there is no frame above.
	Last bool
	// Signal tells that a signal interrupted the frame above, which goes on at
	// its program counter, not behind a call.
	Signal bool
}

// Step takes a step up from the frame that has the registers r. exact tells that
// r's program counter is the instruction that the frame goes on with, not the
// one behind a call. read reads the process's memory.
func (x *Object) Step(r *Registers, exact bool, read func(buf []byte, addr uint64) error) (s Step, err error) {
	defer func() {
		if recover() != nil {
			err = ErrNoFrame
		}
	}()
	at := r.PC()
	if !exact {
		at--
	}
	entry := x.find(at)
	if entry == nil {
		return s, ErrNoFrame
	}
	c, err := entry.EstablishFrame(at)
	if err != nil {
		return s, err
	}
	s.Signal = strings.Contains(entry.CIE.Augmentation, "S")
	word := func(addr uint64) (uint64, error) {
		var b [8]byte
		err := read(b[:], addr)
		return le.Uint64(b[:]), err
	}
	compute := func(expression []byte, initial ...uint64) (uint64, error) {
		regs := make([]*op.DwarfRegister, registers)
		for i := range regs {
			regs[i] = op.DwarfRegisterFromUint64(r[i])
		}
		d := op.NewDwarfRegisters(0, regs, le, regPC, regRSP, regRBP, 0)
		program := expression
		for _, v := range initial {
			program = append(le.AppendUint64([]byte{byte(op.DW_OP_const8u)}, v), program...)
		}
		v, _, err := op.ExecuteStackProgram(*d, program, 8, func(b []byte, addr uint64) (int, error) {
			return len(b), read(b, addr)
		})
		return uint64(v), err
	}
	switch c.CFA.Rule {
	case frame.RuleExpression:
		if s.CFA, err = compute(c.CFA.Expression); err != nil {
			return s, err
		}
	case frame.RuleCFA:
		if c.CFA.Reg >= registers {
			return s, ErrNoFrame
		}
		s.CFA = r[c.CFA.Reg] + uint64(c.CFA.Offset)
	default:
		return s, ErrNoFrame
	}
	s.Caller = *r
	s.Caller[regRSP] = s.CFA
	for n, rule := range c.Regs {
		if n >= registers {
			continue
		}
		var v uint64
		switch rule.Rule {
		case frame.RuleUndefined:
			if n == regPC {
				s.Last = true
			}
			continue
		case frame.RuleSameVal:
			continue
		case frame.RuleOffset:
			addr := s.CFA + uint64(rule.Offset)
			if n == regPC {
				s.At = addr
			}
			v, err = word(addr)
		case frame.RuleValOffset:
			v = s.CFA + uint64(rule.Offset)
		case frame.RuleRegister:
			if rule.Reg >= registers {
				return s, ErrNoFrame
			}
			v = r[rule.Reg]
		case frame.RuleExpression:
			if v, err = compute(rule.Expression, s.CFA); err == nil {
				if n == regPC {
					s.At = v
				}
				v, err = word(v)
			}
		case frame.RuleValExpression:
			v, err = compute(rule.Expression, s.CFA)
		default:
			return s, ErrNoFrame
		}
		if err != nil {
			return s, err
		}
		s.Caller[n] = v
	}
	if _, known := c.Regs[regPC]; !known && !s.Last {
		return s, ErrNoFrame
	}
	return s, nil
}

// FramePointer takes a step up from a frame that has its frame pointer in %rbp.
func FramePointer(r *Registers, read func(buf []byte, addr uint64) error) (s Step, err error) {
	var b [16]byte
	if err := read(b[:], r[regRBP]); err != nil {
		return s, err
	}
	s.Caller = *r
	s.Caller[regRBP], s.Caller[regPC] = le.Uint64(b[:]), le.Uint64(b[8:])
	s.At, s.CFA = r[regRBP]+8, r[regRBP]+16
	s.Caller[regRSP] = s.CFA
	return s, nil
}
