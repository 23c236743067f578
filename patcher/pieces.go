package patcher

import (
	"debug/elf"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/clink"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
)

// piece is a run of pages to be mapped in the target with one protection.
type piece struct {
	addr, size uint64
	prot       int
	segments   []link.Segment // what it's filled with
}

// pieces joins neighbouring segments of the same protection, so that the halt
// has few system calls: the holes between them cost address space only.
func pieces(image *link.Image) []piece {
	var ps []piece
	for _, s := range image.Segments {
		prot, end := protection(s.Flags), s.Addr+s.Size
		if n := len(ps); n > 0 && ps[n-1].prot == prot {
			ps[n-1].size = end - ps[n-1].addr
			ps[n-1].segments = append(ps[n-1].segments, s)
			continue
		}
		ps = append(ps, piece{s.Addr, s.Size, prot, []link.Segment{s}})
	}
	return ps
}

func protection(f elf.ProgFlag) int {
	prot := unix.PROT_READ
	if f&elf.PF_W != 0 {
		prot |= unix.PROT_WRITE
	}
	if f&elf.PF_X != 0 {
		prot |= unix.PROT_EXEC
	}
	return prot
}

// fill copies the segments into the arena through Darn's own mapping, which
// the target does not notice.
func fill(a *arena.Arena, ps []piece) {
	for _, p := range ps {
		for _, s := range p.segments {
			copy(a.View(s.Addr, uint64(len(s.Data))), s.Data)
		}
	}
}

// moduleSize returns the bytes of address space that m spans.
func moduleSize(m *module.Module) uint64 {
	if m.Shared != nil {
		return clink.Span(m)
	}
	last := m.Segments[len(m.Segments)-1]
	return last.Addr + last.Size
}
