package goruntime

// frame is one frame of a goroutine's stack (stkframe).
type frame struct {
	fn           *function
	pc           uint64
	contPC       uint64 // where it goes on, 0 if it never will
	sp, fp       uint64 // [sp, fp), the return address included
	varp         uint64 // end of the local variables
	conservative bool   // stopped where no stack map is
}

// topFrameReach is how far from the end of a stack its topmost frame begins at
// most, in bytes; another function with that flag (sigtramp) tells nothing of
// what is above.
const topFrameReach = 512

// walk visits the frames on a stack from the innermost, as the runtime's own
// collector does (unwinder in traceback.go). It returns the address up to which
// every frame was seen: the end of the part, or less if it came to a frame that
// it can't pass.
func (s *snapshot) walk(p *part, visit func(*frame)) (until uint64) {
	start, hi, words := p.Start, p.End, p.words
	pc, sp := p.pc, p.sp
	var callee uint64 // entry of the frame below
	conservative := !p.atCall
	for innermost := true; ; innermost = false {
		fn := s.findFunc(pc)
		if fn == nil || fn.pcsp == 0 || sp%8 != 0 || sp < start {
			return sp
		}
		delta, ok := s.pcValue(fn, fn.pcsp, pc)
		if !ok || delta < 0 || delta%8 != 0 {
			return sp
		}
		// At a call it has not yet written it if it is the innermost.
		if fn.flag&flagSPWrite != 0 && fn.entry != s.r.cgocallback && !(innermost && p.atCall) && fn.flag&flagTopFrame == 0 {
			return sp
		}
		f := frame{fn: fn, pc: pc, contPC: pc, sp: sp, fp: sp + uint64(delta) + 8}
		top := fn.flag&flagTopFrame != 0
		if f.fp > hi && !top || top && f.sp < hi-min(hi, topFrameReach) {
			return sp
		}
		if f.varp = f.fp - 8; f.varp > f.sp {
			f.varp -= 8 // the saved frame pointer
		}
		if callee == s.r.sigpanic {
			// It will not go on at pc but, if at all, in its deferred calls.
			f.contPC = 0
			if fn.deferreturn != 0 {
				f.contPC = fn.entry + uint64(fn.deferreturn) + 1
			}
		}
		injected := fn.entry == s.r.asyncPreempt || fn.entry == s.r.debugCall
		f.conservative = conservative || injected
		conservative = injected
		visit(&f)
		if top {
			return hi
		}
		callee = fn.entry
		pc, sp = words[(f.fp-8-start)/8], f.fp
	}
}

// stackMap tells of the words of a frame whether they are live.
type stackMap struct {
	locals, args bitmap
	objects      []stackObject
}

// bitmap is a run of words, from start, with a bit for each that holds a live
// pointer.
type bitmap struct {
	start, n uint64
	bits     []byte
}

// stackObject is a variable in a frame whose address is taken: it is live if
// something live points to it.
type stackObject struct{ start, size uint64 }

// live tells whether the word at addr holds something live. An interface value
// is two words of which only the second has its bit set, as the collector need
// not look at types: of what may be a type the bit after is asked too.
func (b *bitmap) live(addr uint64, mayBeType bool) bool {
	i := (addr - b.start) / 8
	return b.bit(i) || mayBeType && b.bit(i+1)
}

func (b *bitmap) bit(i uint64) bool { return i < b.n && b.bits[i/8]>>(i%8)&1 != 0 }

// maxFrameWords bounds a stack map: no frame has more words.
const maxFrameWords = 1 << 27

// stackMap reads the map of a frame (getStackMap). ok is false if there is
// none that can be understood.
func (s *snapshot) stackMap(f *frame) (m stackMap, ok bool) {
	if f.contPC == 0 {
		return m, true
	}
	index := int32(-1)
	if f.contPC != f.fn.entry {
		if index, ok = s.pcData(f.fn, pcdataStackMap, f.contPC-1); !ok {
			return m, false
		}
	}
	index = max(index, 0) // -1: in the prologue
	if f.varp > f.sp {
		if m.locals, ok = s.bitmap(s.funcData(f.fn, funcdataLocals), index); !ok {
			return m, false
		}
		m.locals.start = f.varp - 8*m.locals.n
	}
	switch {
	case f.fn.args == argsSizeUnknown:
		return m, false
	case f.fn.args > 0:
		if m.args, ok = s.bitmap(s.funcData(f.fn, funcdataArgs), index); !ok {
			return m, false
		}
		m.args.start = f.fp
	}
	if p := s.funcData(f.fn, funcdataStackObjs); p != 0 {
		n := s.u64(p)
		if n > maxFrameWords {
			return m, false
		}
		for i := range n {
			record := p + 8 + 16*i
			off, size := int32(s.u32(record)), s.u32(record+4)
			base := f.varp
			if off >= 0 {
				base = f.fp
			}
			if start := base + uint64(int64(off)); start >= f.sp {
				m.objects = append(m.objects, stackObject{start, uint64(size)})
			}
		}
	}
	return m, true
}

// bitmap reads entry index of the runtime.stackmap at addr.
func (s *snapshot) bitmap(addr uint64, index int32) (bitmap, bool) {
	if addr == 0 {
		return bitmap{}, false
	}
	n, bits := int32(s.u32(addr)), int32(s.u32(addr+4))
	if n <= 0 || bits < 0 || bits > maxFrameWords {
		return bitmap{}, false
	}
	if bits == 0 {
		return bitmap{}, true
	}
	if index >= n {
		return bitmap{}, false
	}
	b := bitmap{n: uint64(bits), bits: make([]byte, (bits+7)/8)}
	return b, s.read(b.bits, addr+8+uint64(index)*uint64(len(b.bits)))
}

// use says what a word on a stack is to the goroutine.
type use uint8

const (
	unused   use = iota // nothing any more
	live                // a value that is used
	unsure              // perhaps one: there is no map of that place
	returnPC            // where a frame goes on
)

// sighting is what a word on a stack is, and of which function's frame.
type sighting struct {
	use use
	fn  *function // nil if that is not known
}

// uses tells, of the words with the given indices on a stack, what they are; if
// it can't be walked all are unsure. types is where the types and itabs are
// that are looked for.
func (s *snapshot) uses(p *part, hits []int, types Range) []sighting {
	out := make([]sighting, len(hits))
	g, start, words := p.g, p.Start, p.words
	doubt := func() []sighting {
		for i := range out {
			out[i] = sighting{use: unsure}
		}
		return out
	}
	if !p.walkable || g.panics {
		return doubt()
	}
	end, in := p.End, p.Range
	var objects []stackObject
	var pointers []uint64 // live ones into the stack
	if in.Holds(g.context, 8) {
		pointers = append(pointers, g.context)
	}
	for _, w := range p.regs {
		if in.Holds(w, 1) {
			pointers = append(pointers, w)
		}
	}
	collect := func(b *bitmap) {
		for i := range b.n {
			if addr := b.start + 8*i; b.bit(i) && in.Holds(addr, 8) {
				if w := words[(addr-start)/8]; in.Holds(w, 1) {
					pointers = append(pointers, w)
				}
			}
		}
	}
	mark := func(lo, hi uint64, u func(addr uint64) use) {
		for i, h := range hits {
			if addr := start + 8*uint64(h); addr >= lo && addr < hi {
				out[i].use = max(out[i].use, u(addr))
			}
		}
	}
	constant := func(u use) func(uint64) use { return func(uint64) use { return u } }
	until := s.walk(p, func(f *frame) {
		mark(f.fp-8, f.fp, constant(returnPC))
		m, ok := s.stackMap(f)
		for i, h := range hits {
			addr := start + 8*uint64(h)
			if out[i].fn == nil && addr >= f.sp && addr < f.fp+8*m.args.n {
				out[i].fn = f.fn
			}
		}
		if f.conservative || !ok {
			mark(f.sp, f.fp-8, constant(unsure))
			args := uint64(max(f.fn.args, 0))
			mark(f.fp, f.fp+args, constant(unsure))
			for addr := f.sp; addr < min(f.fp+args, end); addr += 8 {
				if w := words[(addr-start)/8]; in.Holds(w, 1) {
					pointers = append(pointers, w)
				}
			}
		}
		for _, b := range []*bitmap{&m.locals, &m.args} {
			mark(b.start, b.start+8*b.n, func(addr uint64) use {
				if b.live(addr, types.Holds(words[(addr-start)/8], 1)) {
					return live
				}
				return unused
			})
			collect(b)
		}
		objects = append(objects, m.objects...)
	})
	if p.whole && until != end {
		return doubt()
	}
	if g.onThread() || !p.atCall {
		mark(start, p.sp, constant(unsure)) // what it has called since
	}
	mark(until, end, constant(unsure))
	// Deferred calls are found through their records, some of which are on the
	// stack.
	for d, n := g.deferred, 0; d != 0 && n < maxFrameWords; n++ {
		l := &s.r.layout.deferRecord
		mark(d+l.fn, d+l.fn+8, constant(live))
		if w := s.u64(d + l.fn); in.Holds(w, 8) {
			pointers = append(pointers, w)
		}
		d = s.u64(d + l.link)
	}
	for len(pointers) > 0 {
		p := pointers[len(pointers)-1]
		pointers = pointers[:len(pointers)-1]
		for i := range objects {
			o := &objects[i]
			if p-o.start >= o.size {
				continue
			}
			mark(o.start, o.start+o.size, constant(live))
			for addr := o.start &^ 7; addr+8 <= o.start+o.size && in.Holds(addr, 8); addr += 8 {
				if w := words[(addr-start)/8]; in.Holds(w, 1) {
					pointers = append(pointers, w)
				}
			}
			o.size = 0 // seen
			break
		}
	}
	return out
}
