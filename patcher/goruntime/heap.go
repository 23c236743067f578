package goruntime

const (
	// heapPage is the runtime's own page, in bytes (pageSize, the same since
	// Go 1.4).
	heapPage = 8192
	// spanInUse is mSpanInUse: a span of objects, neither free nor used by the
	// runtime itself (for stacks).
	spanInUse = 1
	// arenaBase: the arenas are numbered from -1<<47 up (arenaBaseOffset on
	// amd64).
	arenaBase = 1 << 47
)

// heap finds objects on the heap of a halted target.
type heap struct {
	s      *snapshot
	arenas uint64          // address of the array of *heapArena
	spans  map[uint64]bool // every mspan there ever was
	// bitmaps tells that pointerBit is right: see checkBitmaps.
	bitmaps bool
}

func (s *snapshot) heap() (*heap, error) {
	spans, err := s.r.slice(s.r.allspans)
	if err != nil {
		return nil, err
	}
	h := &heap{s: s, arenas: s.u64(s.r.arenas), spans: make(map[uint64]bool, len(spans))}
	for _, at := range spans {
		h.spans[at] = true
	}
	return h, nil
}

// object is a place on the heap.
type object struct {
	start, size uint64
	// noPointers: the collector does not look at it (spanClass.noscan).
	noPointers bool
	// span is where its span starts, bitmap that of the words in the span that
	// are pointers; 0 if there is none.
	span, bitmap uint64
}

// arena returns the address of the heapArena that describes addr, 0 if addr is
// not in one.
func (h *heap) arena(addr uint64) uint64 {
	return h.arenaAt((addr + arenaBase) / (h.s.r.layout.arena.pages * heapPage))
}

func (h *heap) arenaAt(index uint64) uint64 {
	if h.arenas == 0 || index >= h.s.r.arenaCount {
		return 0
	}
	return h.s.u64(h.arenas + 8*index)
}

// span returns the address of the mspan for an address in an arena.
func (h *heap) span(arena, addr uint64) uint64 {
	return h.s.u64(arena + h.s.r.layout.arena.spans + 8*(addr/heapPage%h.s.r.layout.arena.pages))
}

// object returns the object that holds addr. ok is false if none does: if the
// slot or the whole span is free, or a stack.
func (h *heap) object(addr uint64) (o object, ok bool) {
	arena := h.arena(addr)
	if arena == 0 {
		return o, false
	}
	span := h.span(arena, addr)
	l := &h.s.r.layout.span
	if span == 0 || h.s.u8(span+l.state) != spanInUse {
		return o, false
	}
	start, size := h.s.u64(span+l.start), h.s.u64(span+l.elem)
	n := uint64(h.s.u16(span + l.count))
	if addr < start || size == 0 || addr >= start+h.s.u64(span+l.pages)*heapPage {
		return o, false
	}
	i := (addr - start) / size
	if i >= n {
		return o, false
	}
	// Below the index everything is taken; from there on a bit says it, set
	// when the span was last swept.
	if i >= uint64(h.s.u16(span+l.free)) && h.s.u8(h.s.u64(span+l.allocBits)+i/8)>>(i%8)&1 == 0 {
		return o, false
	}
	o = object{start: start + i*size, size: size, noPointers: h.s.u8(span+l.class)&1 != 0, span: start}
	// As spanHeapBitsRange in runtime/mbitmap.go has it.
	if length := h.s.u64(span+l.pages) * heapPage; size <= bitmapSize && !o.noPointers {
		o.bitmap = start + length - length/64
		if size >= 16 {
			o.bitmap -= l.inlineMarks
		}
	}
	return o, true
}

// bitmapSize is the size up to which objects are described by a bitmap at the
// end of their span (minSizeForMallocHeader in runtime/malloc.go), in bytes.
const bitmapSize = 512

// pointerBit tells whether the collector takes the word at addr, in o, for a
// pointer.
func (h *heap) pointerBit(o object, addr uint64) bool {
	n := (addr - o.span) / 8
	return addr-o.start < o.size && h.s.u8(o.bitmap+n/8)>>(n%8)&1 != 0
}

// checkBitmaps tells whether the bitmaps are where they are looked for: those
// of goroutines' structures, whose pointers are known, must be right.
func (h *heap) checkBitmaps(goroutines []Goroutine) bool {
	l := &h.s.r.layout.g
	checked := 0
	for i := range goroutines {
		o, ok := h.object(goroutines[i].Addr)
		if !ok || o.bitmap == 0 || o.start != goroutines[i].Addr {
			continue
		}
		for _, off := range []uint64{l.m, l.deferred, l.panicked} {
			if !h.pointerBit(o, o.start+off) {
				return false
			}
		}
		for _, off := range []uint64{l.stackLo, l.stackHi, l.schedSP, l.schedPC, l.id} {
			if h.pointerBit(o, o.start+off) {
				return false
			}
		}
		checked++
	}
	return checked > 0
}

// noReference tells whether a word in o that looks like an address can't be
// one: what the collector does not take for a pointer is, but for the code of a
// closure, where it starts, and for the type of an interface, before its value.
// Objects are as long as their size class says, and behind what they hold stands
// what was left of others.
func (h *heap) noReference(o object, addr, value uint64, code bool) bool {
	if !h.bitmaps || o.bitmap == 0 || h.pointerBit(o, addr) {
		return false
	}
	closure := code && addr == o.start
	iface := value%8 == 0 && h.pointerBit(o, addr+8)
	return !closure && !iface
}

// staleType tells whether addr is the largeType of an mspan that has no big
// object at present: spans are reused, for small objects too, and keep the type
// of the big object that was there until the next one comes.
func (h *heap) staleType(addr uint64) bool {
	l := &h.s.r.layout.span
	span := addr - l.largeType
	return h.spans[span] && (h.s.u8(span+l.state) != spanInUse || h.s.u8(span+l.class)>>1 != 0)
}
