package goruntime

import (
	"strings"

	"github.com/go-delve/delve/pkg/dwarf/godwarf"
)

// bookkeeping is where the runtime keeps, outside the heap, maps of bits and
// numbers about the heap, and what it has freed: they refer to nothing, but some
// look as if they did.
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
	// specials are the addresses of the runtime.fixallocs of what belongs to single
	// objects, as finalizers do: what they have freed keeps its content.
	specials           []uint64
	freeSize, freeList uint64 // fixalloc.size, list
	finalizers         queue
	cleanups           queue // since Go 1.25
}

// queue is a list of blocks of what has to be run: see freed.
type queue struct {
	list                   uint64 // where the pointer to the first block is; 0 if there is no such queue
	next, count, functions uint64 // offsets in a block
	functionSize           uint64
	blockSize              uint64
}

// read finds it in a halted target. mheap is the variable runtime.mheap_.
func (b *bookkeeping) read(f *fields, mheap place) {
	b.readFreed(f, mheap)
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

// readFreed finds where the runtime keeps what it has freed and not cleared.
func (b *bookkeeping) readFreed(f *fields, mheap place) {
	if t := f.typ("runtime.fixalloc"); t != nil {
		b.freeSize, b.freeList = f.at(t, "size", nil), f.at(t, "list", nil)
	}
	if s, ok := mheap.typ.(*godwarf.StructType); ok {
		for _, field := range s.Field {
			if strings.HasPrefix(field.Name, "special") && field.Type.Common().Name == "runtime.fixalloc" {
				b.specials = append(b.specials, mheap.addr+uint64(field.ByteOffset))
			}
		}
	}
	if len(b.specials) == 0 {
		f.fail("runtime.mheap_ has no specials")
	}
	all := f.variable("runtime.allfin")
	if block, ok := all.typ.(*godwarf.PtrType); ok {
		b.finalizers.read(f, all.addr, godwarf.ResolveTypedef(block.Type), "alllink", "cnt", "fin")
	} else {
		f.fail("runtime.allfin is no pointer")
	}
	if q := f.optional("runtime.gcCleanups"); q.addr != 0 {
		b.cleanups.read(f, f.in(q, "all"), f.typ("runtime.cleanupBlock"), "cleanupBlockHeader.alllink", "cleanupBlockHeader.n", "cleanups")
	}
}

// read reads the layout of a block from its type and the names of its fields.
func (q *queue) read(f *fields, list uint64, block godwarf.Type, next, count, functions string) {
	q.list, q.next, q.count, q.functions = list, f.at(block, next, nil), f.at(block, count, nil), f.at(block, functions, &q.blockSize)
	_, t, _ := fieldOf(block, functions)
	array, ok := t.(*godwarf.ArrayType)
	if !ok {
		f.fail("the functions to run are no array")
		return
	}
	q.functionSize = uint64(array.Type.Size())
}

// freed returns where stands what the runtime has freed: the specials that its
// allocators will give out again, and finalizers and cleanups that have run or
// were moved to another block, behind those in their block that have not (as
// markroot in runtime/mgcmark.go counts them). queueing tells that a thread may
// have put a cleanup into a block which it has not counted yet.
func (h *heap) freed(queueing bool) (ranges []Range, err error) {
	b := &h.s.r.bookkeeping
	for _, alloc := range b.specials {
		size := h.s.u64(alloc + b.freeSize)
		at := h.s.u64(alloc + b.freeList)
		for n := 0; at != 0; n++ {
			if n > maxSlice || size > heapPage {
				return nil, wrong("the list of free blocks of %d bytes at %#x has no end", size, alloc)
			}
			ranges = append(ranges, Range{Start: at, End: at + size})
			at = h.s.u64(at) // mlink.next
		}
	}
	for _, q := range []*queue{&b.finalizers, &b.cleanups} {
		if q.list == 0 || queueing && q == &b.cleanups {
			continue
		}
		at := h.s.u64(q.list)
		for n := 0; at != 0; n++ {
			if n > maxSlice {
				return nil, wrong("the list of functions to run at %#x has no end", q.list)
			}
			end := at + q.blockSize
			if start := at + q.functions + uint64(h.s.u32(at+q.count))*q.functionSize; start < end {
				ranges = append(ranges, Range{Start: start, End: end})
			}
			at = h.s.u64(at + q.next)
		}
	}
	return ranges, nil
}

// bookkeeping returns where the runtime's maps and numbers about the heap are,
// and what it has freed.
func (h *heap) bookkeeping(queueing bool) ([]Range, error) {
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
	freed, err := h.freed(queueing)
	if err != nil {
		return nil, err
	}
	ranges = append(ranges, freed...)
	l := &r.layout.span
	for at := range h.spans {
		// Of an mspan only the type of its big object refers to anything.
		ranges = append(ranges, Range{Start: at, End: at + l.largeType}, Range{Start: at + l.largeType + 8, End: at + l.size})
	}
	return ranges, nil
}
