package goruntime

import "github.com/go-delve/delve/pkg/dwarf/godwarf"

// bookkeeping is where the runtime keeps, outside the heap, maps of bits and
// numbers about the heap: they refer to nothing, but some look as if they did.
// A span of 32 objects, for instance, has a mark bitmap of as many bits.
type bookkeeping struct {
	bitArenas       [4]uint64 // the lists of gcBitsArenas
	bitNext         uint64    // gcBitsArena.next
	bitSize         uint64    // of a gcBitsArena
	arenas          uint64    // mheap_.heapArenas, a slice of indexes
	arenaSize       uint64    // of a heapArena
	checkmarks      uint64    // heapArena.checkmarks
	checkmarksSize  uint64    // of what that leads to
	summaries       uint64    // mheap_.pages.summary, an array of slices
	summaryLevels   uint64
	summarySize     uint64 // of an element
	chunks          uint64 // mheap_.pages.chunks, an array of pointers
	chunksLen       uint64
	chunksBlockSize uint64 // of what one leads to
}

// read finds it in a halted target. mheap is the variable runtime.mheap_.
func (b *bookkeeping) read(f *fields, mheap place) {
	lists := f.variable("runtime.gcBitsArenas")
	for i, name := range []string{"free", "next", "current", "previous"} {
		b.bitArenas[i] = f.in(lists, name)
	}
	if t := f.typ("runtime.gcBitsArena"); t != nil {
		b.bitNext, b.bitSize = f.at(t, "next", nil), uint64(t.Size())
	}
	if t := f.typ("runtime.heapArena"); t != nil {
		b.arenaSize, b.checkmarks = uint64(t.Size()), f.at(t, "checkmarks", nil)
	}
	if t := f.typ("runtime.checkmarksMap"); t != nil {
		b.checkmarksSize = uint64(t.Size())
	}
	name := "heapArenas"
	if _, _, ok := fieldOf(mheap.typ, name); !ok {
		name = "allArenas" // up to Go 1.24
	}
	b.arenas = f.in(mheap, name)
	b.summaries = f.in(mheap, "pages.summary")
	b.chunks = f.in(mheap, "pages.chunks")
	if f.err != nil {
		return
	}
	_, t, _ := fieldOf(mheap.typ, "pages.summary")
	levels, ok := t.(*godwarf.ArrayType)
	if !ok || levels.Count < 1 {
		f.fail("runtime.mheap_.pages.summary is not an array")
		return
	}
	slice, ok := godwarf.ResolveTypedef(levels.Type).(*godwarf.SliceType)
	if !ok {
		f.fail("runtime.mheap_.pages.summary does not hold slices")
		return
	}
	b.summaryLevels, b.summarySize = uint64(levels.Count), uint64(slice.ElemType.Size())
	_, t, _ = fieldOf(mheap.typ, "pages.chunks")
	chunks, ok := t.(*godwarf.ArrayType)
	if !ok {
		f.fail("runtime.mheap_.pages.chunks is not an array")
		return
	}
	block, ok := godwarf.ResolveTypedef(chunks.Type).(*godwarf.PtrType)
	if !ok {
		f.fail("runtime.mheap_.pages.chunks does not hold pointers")
		return
	}
	b.chunksLen, b.chunksBlockSize = uint64(chunks.Count), uint64(block.Type.Size())
}

// bookkeeping returns where the runtime's maps and numbers about the heap are.
func (h *heap) bookkeeping() ([]Range, error) {
	r := h.s.r
	b := &r.bookkeeping
	var ranges []Range
	for _, list := range b.bitArenas {
		at, err := r.word(list)
		for n := 0; at != 0; n++ {
			if err != nil {
				return nil, err
			}
			if n > maxSlice {
				return nil, wrong("the list of mark bits at %#x has no end", list)
			}
			ranges = append(ranges, Range{Start: at, End: at + b.bitSize})
			at, err = r.word(at + b.bitNext)
		}
		if err != nil {
			return nil, err
		}
	}
	indexes, err := r.slice(b.arenas)
	if err != nil {
		return nil, err
	}
	for _, i := range indexes {
		at := h.arenaAt(i)
		ranges = append(ranges, Range{Start: at, End: at + b.arenaSize})
		marks, err := r.word(at + b.checkmarks)
		if err != nil {
			return nil, err
		}
		if marks != 0 {
			ranges = append(ranges, Range{Start: marks, End: marks + b.checkmarksSize})
		}
	}
	summaries, err := r.words(b.summaries, 3*b.summaryLevels)
	if err != nil {
		return nil, err
	}
	for ; len(summaries) > 0; summaries = summaries[3:] {
		ranges = append(ranges, Range{Start: summaries[0], End: summaries[0] + summaries[2]*b.summarySize})
	}
	blocks, err := r.words(b.chunks, b.chunksLen)
	if err != nil {
		return nil, err
	}
	for _, at := range blocks {
		if at != 0 {
			ranges = append(ranges, Range{Start: at, End: at + b.chunksBlockSize})
		}
	}
	l := &r.layout.span
	for at := range h.spans {
		// Of an mspan only the type of its big object refers to anything.
		ranges = append(ranges, Range{Start: at, End: at + l.largeType}, Range{Start: at + l.largeType + 8, End: at + l.size})
	}
	return ranges, nil
}
