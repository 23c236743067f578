package object

import (
	"debug/elf"
	"sort"

	"github.com/darn-dev/darn/patcher/redirect"
)

// Refs returns every reference that leaves a function, sorted by offset and
// with exact targets: the file's relocations, and synthetic ones for the calls,
// jumps and address computations from text to text that the linker resolved
// itself, recovered by decoding the code. The error tells of code that can't be
// decoded; the references up to there and the file's relocations are returned
// all the same.
func (o *Object) Refs(fn int) ([]Reloc, error) {
	s := &o.Symbols[fn]
	own := o.Relocs(fn)
	decoded, err := redirect.Refs(o.Content(fn), s.Offset)
	refs := make([]Reloc, 0, len(own)+len(decoded)/2)
	i := 0
	for _, d := range decoded {
		at := s.Offset + uint64(d.Field)
		for i < len(own) && own[i].Offset < at {
			refs = append(refs, own[i])
			i++
		}
		if i < len(own) && own[i].Offset == at {
			r := own[i]
			if r.pcRelative() {
				r.Target.Offset = o.Symbols[r.Symbol].Offset + uint64(r.Addend-d.Addend())
			}
			refs = append(refs, r)
			i++
			continue
		}
		if d.Size == 4 && (d.Target < s.Offset || d.Target >= s.Offset+s.Size) {
			if sym, ok := o.functionAt(d.Target); ok {
				refs = append(refs, Reloc{Offset: at, Type: elf.R_X86_64_PC32, Symbol: sym, Size: 4, Synthetic: true,
					Addend: int64(d.Target-o.Symbols[sym].Offset) + d.Addend(), Target: Place{o.Text, d.Target}})
			}
		}
	}
	return append(refs, own[i:]...), err
}

// functionAt returns the function whose code holds the offset in .text.
func (o *Object) functionAt(off uint64) (int, bool) {
	i := sort.Search(len(o.Functions), func(i int) bool { return o.Symbols[o.Functions[i]].Offset > off })
	if i == 0 {
		return 0, false
	}
	s := &o.Symbols[o.Functions[i-1]]
	return o.Functions[i-1], off-s.Offset < s.Size
}
