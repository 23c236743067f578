package redirect

import (
	"encoding/binary"
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
)

// Jump returns the JumpSize bytes to write at p.Entry+p.Offset: a jmp to a
// stub, or with DirectEncoding to the new code. Refused with out-of-range if
// to is more than 2 GiB away. It needs no more of p than Entry and Offset.
func (p *Plan) Jump(to uint64) ([]byte, error) {
	return jmp32(p.Entry+uint64(p.Offset), to)
}

// Thunk returns the code, at most ThunkSize bytes, that does at address at
// what the covered instructions do at the entry and then goes on behind them.
// Refused with out-of-range if at is more than 2 GiB from the function or
// from anything that those instructions refer to. It is an error to ask for
// it with DirectEncoding, or of a Plan that is not from Analyze.
func (p *Plan) Thunk(at uint64) ([]byte, error) {
	if p.Encoding == DirectEncoding {
		return nil, fmt.Errorf("redirect: the function at %#x has no thunk: %s", p.Entry, p.Reason)
	}
	if len(p.covered) == 0 {
		return nil, fmt.Errorf("redirect: the function at %#x has not been analyzed", p.Entry)
	}
	old := p.Entry + uint64(p.Offset)
	var out []byte
	for off := 0; off < len(p.covered); {
		in, err := decode(p.covered[off:])
		if err != nil {
			return nil, undecodable(p.Entry, p.Offset+off, err)
		}
		moved, err := in.move(p.covered, off, old, at+uint64(len(out)))
		if err != nil {
			return nil, err
		}
		out = append(out, moved...)
		if in.ends() {
			return out, nil
		}
		off += in.len
	}
	back, err := jmp32(at+uint64(len(out)), old+uint64(p.Span))
	if err != nil {
		return nil, err
	}
	return append(out, back...), nil
}

// move returns the instruction at code[off:], where code is at address old,
// for the address at.
func (in *inst) move(code []byte, off int, old, at uint64) ([]byte, error) {
	text := code[off : off+in.len]
	r, ok := in.ref(code, off, old)
	if !ok {
		return text, nil
	}
	if r.Branch() {
		op := []byte{0xE9}
		if r.Kind == Cond { // short and near jcc have the condition in the same bits
			op = []byte{0x0F, 0x80 | in.op&0x0F}
		}
		disp, err := rel32("what the entry branches to", at+uint64(len(op)+4), r.Target)
		return append(op, disp...), err
	}
	d := int64(r.Target - at - uint64(in.len))
	if d != int64(int32(d)) {
		return nil, finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("what the entry refers to at %#x is more than 2 GiB away from %#x", r.Target, at),
			"load the patch into an arena within 2 GiB of the target's text and data")
	}
	moved := append([]byte(nil), text...)
	binary.LittleEndian.PutUint32(moved[r.Field-off:], uint32(int32(d)))
	return moved, nil
}
