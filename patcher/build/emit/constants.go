package emit

import (
	"debug/elf"
	"slices"
)

// constantEnd returns an address behind the nameless constant at addr, which
// may lie behind its end: a string in go:string.*, or one of the small constants
// that share runtime.gcbits.* with pointer masks of the same bytes. The linker
// does not say how long one is, but sorts them by size
// (cmd/link/internal/ld/data.go, dodataSect): each is at least as long as those
// before it, and ends where another begins. Where code slices a string, a
// "beginning" may lie within one; as it is nearer than the length of those
// before, it is passed over. One more constant is taken in for the first one of
// a length, which this can't tell.
func (b *builder) constantEnd(container int, addr uint64) uint64 {
	ends, ok := b.constants[container]
	if !ok {
		ends = b.findConstants(container)
		b.constants[container] = ends
	}
	if end, ok := ends[addr]; ok {
		return end
	}
	const widest = 64 // bytes that an instruction loads
	return min(addr+widest, b.new.symbol(container)+b.New.Symbols[container].Size)
}

// findConstants returns where each constant of a container ends at the latest.
func (b *builder) findConstants(container int) map[uint64]uint64 {
	lo := b.new.symbol(container)
	hi := lo + b.New.Symbols[container].Size
	var starts []uint64
	for i := range b.New.Sections {
		sec := &b.New.Sections[i]
		for k := range sec.Relocs {
			r := &sec.Relocs[k]
			if addr := b.new.addr(r.Target); addr >= lo && addr < hi && (r.Type == elf.R_X86_64_64 || isLea(sec.Data, r.Offset)) {
				starts = append(starts, addr)
			}
		}
	}
	slices.Sort(starts)
	starts = append(slices.Compact(starts), hi)
	ends := map[uint64]uint64{}
	longest := uint64(0)
	for i, start := range starts[:len(starts)-1] {
		j := i + 1
		for j < len(starts)-1 && starts[j]-start < longest {
			j++
		}
		longest = max(longest, starts[j]-start)
		ends[start] = starts[min(j+1, len(starts)-1)]
	}
	return ends
}

// isLea tells whether the 4-byte field at off is the displacement of a lea
// relative to the instruction pointer.
func isLea(code []byte, off uint64) bool {
	return off >= 2 && off < uint64(len(code)) && code[off-2] == 0x8d && code[off-1]&0xc7 == 0x05
}
