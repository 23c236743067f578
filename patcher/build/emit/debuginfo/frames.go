package debuginfo

// frameCommon is what a CIE has in place of an offset.
const frameCommon = 0xffffffff

// writeFrames writes .debug_frame for the patch's functions and stubs.
func (w *writer) writeFrames() error {
	data := w.Sections["frame"]
	common := map[uint64]int{} // the program's CIEs -> where they are
	last := uint64(0)
	add := func(to int, addr, size uint64, code []byte) {
		// As everywhere in Go, a multiple of the size of an address.
		pad := -(4 + 4 + 16 + len(code)) & (addressSize - 1)
		w.frame = le.AppendUint32(le.AppendUint32(w.frame, uint32(4+16+len(code)+pad)), uint32(to))
		w.frame = append(le.AppendUint64(le.AppendUint64(w.frame, addr), size), code...)
		w.frame = append(w.frame, make([]byte, pad)...) // nops
	}
	for at := 0; at < len(data); {
		b := buf(data, at, len(data))
		start := uint64(at)
		size := b.uint(4)
		if size < 4 || size > uint64(len(data)-b.at) {
			return malformed("the frame at %#x has no end", at)
		}
		at = b.at + int(size)
		b = buf(data, b.at, at)
		of := b.uint(4)
		if of == frameCommon {
			common[start], last = len(w.frame), start
			w.frame = append(w.frame, data[start:at]...)
			continue
		}
		to, ok := common[of]
		if !ok {
			return malformed("the frame at %#x is of none that is known", start)
		}
		addr, n := b.uint(addressSize), b.uint(addressSize)
		if f, ok := w.patch.begins(addr); ok && !b.bad {
			add(to, f.To, n, data[b.at:at])
		}
	}
	if to, ok := common[last]; ok {
		for _, s := range w.patch.Stubs {
			add(to, s.Addr, s.Size, nil)
		}
	}
	return nil
}
