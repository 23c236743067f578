package arena

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// Outpost is memory of the arena that the target has somewhere else than in the
// reservation: where it must be to be reached by a jump that can't be chosen
// freely. Its memory in the file is where Home would be.
type Outpost struct {
	Addr, Size uint64 // in the target
	Home       uint64
}

// stackRoom is left free below the stack, which grows.
const stackRoom = 64 << 20

// AllocOutside is AllocIn for a range outside the reservation, where nothing is
// mapped yet: of which it takes the first free piece, with a free page on either
// side, but for other outposts. The target may map something
// there until Map is called, which then fails with ErrTaken. home is to be kept for
// ClaimOutside.
func (a *Arena) AllocOutside(within Range, size uint64) (addr, home uint64, err error) {
	maps, err := a.p.Maps()
	if err != nil {
		return 0, 0, err
	}
	size = roundUp(size)
	if home, err = a.Alloc(size, 0); err != nil {
		return 0, 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := []Range{{Start: a.base - pageSize, End: a.base + a.size + pageSize}}
	for _, o := range a.outposts {
		taken = append(taken, Range{Start: o.Addr, End: o.Addr + o.Size})
	}
	for _, m := range maps {
		r := Range{Start: m.Start, End: m.End}
		if (fileID{m.Device, m.Inode}) != a.id {
			r.Start, r.End = r.Start-pageSize, r.End+pageSize // as around the arena
		}
		if m.Path == "[stack]" {
			r.Start -= stackRoom
		}
		taken = append(taken, r)
	}
	slices.SortFunc(taken, func(x, y Range) int {
		if x.Start < y.Start {
			return -1
		}
		return 1
	})
	addr = max(roundUp(within.Start), leastAddress)
	for _, r := range taken {
		if r.End <= addr {
			continue
		}
		if r.Start >= addr && r.Start-addr >= size {
			break
		}
		addr = r.End
	}
	if end := min(within.End, lastAddress); addr > end || end-addr < size {
		a.taken = slices.DeleteFunc(a.taken, func(x Range) bool { return x.Start == home })
		return 0, 0, finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("process %d has nothing free in [%#x, %#x)", a.pid, within.Start, within.End), "")
	}
	a.outposts = append(a.outposts, Outpost{Addr: addr, Size: size, Home: home})
	return addr, home, nil
}

// lastAddress is where user space ends.
const lastAddress = 1<<47 - pageSize

// ClaimOutside is Claim for what an earlier Darn had from AllocOutside.
func (a *Arena) ClaimOutside(o Outpost) error {
	if o.Addr%pageSize != 0 || o.Addr < leastAddress || o.Addr > lastAddress || o.Size == 0 || o.Size > lastAddress-o.Addr {
		return fmt.Errorf("[%#x, +%#x) can't be memory of the arena", o.Addr, o.Size)
	}
	if err := a.Claim(o.Home, o.Size); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o.Size = roundUp(o.Size)
	a.outposts = append(a.outposts, o)
	return nil
}

// outpost returns the outpost that is all of a range, nil if there is none.
func (a *Arena) outpost(addr, n uint64) *Outpost {
	i := slices.IndexFunc(a.outposts, func(o Outpost) bool { return o.Addr == addr && o.Size == n })
	if i < 0 {
		return nil
	}
	return &a.outposts[i]
}

// mapOutpost maps an outpost, never in the place of something else.
func (a *Arena) mapOutpost(c process.Caller, o *Outpost, prot int) error {
	if err := a.checkDescriptor(); err != nil {
		return err
	}
	const flags = unix.MAP_PRIVATE | unix.MAP_FIXED_NOREPLACE
	got, err := c.Syscall(unix.SYS_MMAP, o.Addr, o.Size, uint64(prot), flags, a.fd, o.Home-a.base)
	if err == nil && got != o.Addr { // a kernel before 4.17 takes the address for a hint
		_, err = c.Syscall(unix.SYS_MUNMAP, got, o.Size)
		err = errors.Join(unix.EEXIST, err)
	}
	if errors.Is(err, unix.EEXIST) {
		return takenError{finding.Refuse(finding.OutOfRange,
			fmt.Sprintf("process %d has mapped something at %#x meanwhile", a.pid, o.Addr), "try again")}
	}
	if err != nil {
		return a.refused("map the arena", err)
	}
	return nil
}

// unmapOutpost takes the mapping away.
func (a *Arena) unmapOutpost(c process.Caller, o *Outpost) error {
	if err := a.unmapWithin(c, Range{Start: o.Addr, End: o.Addr + o.Size}); err != nil {
		return err
	}
	return a.punch(o.Home, o.Size)
}

// unmapOutposts takes all of them away, also what a Darn has mapped that was killed
// before it could note it.
func (a *Arena) unmapOutposts(c process.Caller) error {
	for _, r := range []Range{{End: a.base}, {Start: a.base + a.size, End: lastAddress}} {
		if err := a.unmapWithin(c, r); err != nil {
			return err
		}
	}
	return nil
}

// unmapWithin unmaps what of the arena's file is mapped in a range; what a
// registry says is there may be something else.
func (a *Arena) unmapWithin(c process.Caller, r Range) error {
	maps, err := process.ReadMaps(a.pid)
	if err != nil {
		return err
	}
	for _, m := range maps {
		if start, end := max(m.Start, r.Start), min(m.End, r.End); start < end && (fileID{m.Device, m.Inode}) == a.id {
			if _, err := c.Syscall(unix.SYS_MUNMAP, start, end-start); err != nil {
				return a.refused("unmap a part of the arena", err)
			}
		}
	}
	return nil
}
