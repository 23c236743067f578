package link

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

// What the linker writes where the address of a method would stand that
// nothing can call (cmd/link/internal/ld/data.go, relocsym).
const (
	prunedSymbol = "runtime.unreachableMethod" // in an itab
	prunedOffset = math.MaxUint32              // in a type: -1
)

// fills computes the writes that give pruned methods of the target the
// module's code.
func (b *binder) fills(methods []module.MethodFill) error {
	if len(methods) == 0 {
		return nil
	}
	pruned, err := b.t.Symbol(prunedSymbol)
	if err != nil {
		return err
	}
	seen := make(map[uint64]bool, len(methods))
	le := binary.LittleEndian
	for i := range methods {
		f := &methods[i]
		if f.Module != "" {
			w, err := b.fillImported(f)
			if err == nil && seen[w.Addr] {
				err = malformed("its method slot at %#x (%q) is there twice", w.Addr, f.Symbol)
			}
			if err != nil {
				return err
			}
			seen[w.Addr] = true
			b.image.Fills = append(b.image.Fills, w)
			continue
		}
		slot := b.types.Start + uint64(f.Offset)
		if f.Size != 4 && f.Size != 8 || slot%uint64(f.Size) != 0 || seen[slot] {
			return malformed("its method slot at %#x (%d bytes, %q) is none", slot, f.Size, f.Symbol)
		}
		seen[slot] = true
		if !b.types.Holds(slot, uint64(f.Size)) && !b.t.IsItab(slot, uint64(f.Size)) {
			return malformed("its method slot at %#x (%q) is not in the program's types", slot, f.Symbol)
		}
		to, err := b.address(f.Symbol)
		if err != nil {
			return err
		}
		if to == 0 {
			return malformed("its method slot at %#x leads nowhere (%q)", slot, f.Symbol)
		}
		w := Write{Addr: slot}
		if f.Size == 8 {
			w.Old, w.New = le.AppendUint64(nil, pruned), le.AppendUint64(nil, to)
			if f.Old != 0 {
				w.Old = le.AppendUint64(nil, f.Old)
			}
		} else {
			off := int64(to - b.text.Start)
			if !fits32(off) {
				return refuse(finding.OutOfRange, f.Symbol,
					fmt.Sprintf("the method at %#x is too far from the program's text at %#x", to, b.text.Start),
					"the module must lie within 2 GiB of the program")
			}
			w.Old, w.New = le.AppendUint32(nil, prunedOffset), le.AppendUint32(nil, uint32(off))
		}
		b.image.Fills = append(b.image.Fills, w)
	}
	return nil
}
