package arena

import (
	"fmt"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

const (
	// Reach is how far code in an arena may be from code outside, in bytes: as far as
	// a rel32 operand leads, less room for the length of an instruction.
	Reach = 1<<31 - pageSize
	// usualSize and leastSize bound the size of an arena. The image of a big
	// Go program spans a few hundred MiB of address space.
	usualSize = 1 << 30
	leastSize = 64 << 20
	// leastAddress is where programs without privileges may map
	// (vm.mmap_min_addr is 64 KiB).
	leastAddress = 1 << 20
)

// Plan chooses the place of an arena: within 2 GiB of every byte of text and
// above it, as high as possible so that the program's heap can grow. The target
// may run or be stopped, and is not touched. Base, Size, Alloc, Free and
// NewSwitch work at once, the rest after Reserve. It's refused with
// out-of-range if there is no room near text.
func Plan(p *process.Process, text Range) (*Arena, error) { return plan(p, text, place) }

// PlanAround is Plan, but if there is no room above text it takes some below.
func PlanAround(p *process.Process, text Range) (*Arena, error) {
	return plan(p, text, func(maps []process.Mapping, text Range) (base, size uint64, ok bool) {
		if base, size, ok = place(maps, text); !ok {
			base, size, ok = placeBelow(maps, text)
		}
		return base, size, ok
	})
}

func plan(p *process.Process, text Range, place func([]process.Mapping, Range) (base, size uint64, ok bool)) (*Arena, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	base, size, ok := place(maps, text)
	if !ok {
		return nil, finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("process %d has no free %d MiB of addresses near its text at %#x, within 2 GiB of it", p.Pid(), leastSize>>20, text.Start),
			"the program, or what it loads, is mapped too densely to be patched")
	}
	return &Arena{p: p, pid: p.Pid(), base: base, size: size, file: -1}, nil
}

// place finds the highest free room, of the usual size or, if there's none, of
// half of it and so on.
func place(maps []process.Mapping, text Range) (base, size uint64, ok bool) {
	limit := text.Start + Reach
	for size := uint64(usualSize); size >= leastSize; size /= 2 {
		top := limit // of the gap
		for i := len(maps) - 1; i >= -1; i-- {
			bottom := text.End
			if i >= 0 {
				bottom = max(bottom, maps[i].End)
			}
			// A page is left free on either side.
			if bottom < top && top-bottom >= size+2*pageSize {
				if base := (top - pageSize - size) &^ (pageSize - 1); base >= bottom+pageSize {
					return base, size, true
				}
			}
			if i >= 0 {
				top = min(limit, maps[i].Start)
			}
			if top <= text.End {
				break
			}
		}
	}
	return 0, 0, false
}

// placeBelow finds the highest free room below text.
func placeBelow(maps []process.Mapping, text Range) (base, size uint64, ok bool) {
	limit := uint64(leastAddress)
	if text.End > Reach {
		limit = max(limit, text.End-Reach)
	}
	for size := uint64(usualSize); size >= leastSize; size /= 2 {
		top := text.Start // of the gap
		for i := len(maps) - 1; i >= -1; i-- {
			bottom := limit
			if i >= 0 {
				bottom = max(bottom, maps[i].End)
			}
			if bottom < top && top-bottom >= size+2*pageSize {
				return (top - pageSize - size) &^ (pageSize - 1), size, true
			}
			if i >= 0 {
				top = min(top, maps[i].Start)
			}
			if top <= limit {
				break
			}
		}
	}
	return 0, 0, false
}
