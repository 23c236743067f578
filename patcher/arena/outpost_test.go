package arena

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// An outpost is where it was asked for, is found by the next Darn, and goes with the
// arena; also one that was mapped and then forgotten.
func TestOutposts(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	before := maps(t, p)
	a := reserve(t, p)
	// Beyond the arena, where nothing of the program's can be.
	window := Range{Start: a.Base() + a.Size() + 16<<20, End: a.Base() + a.Size() + 32<<20}
	var outposts [2]Outpost
	for i := range outposts {
		o := &outposts[i]
		o.Size = 2 * pageSize
		var err error
		if o.Addr, o.Home, err = a.AllocOutside(window, o.Size); err != nil {
			t.Fatal(err)
		}
		if o.Addr < window.Start || o.Addr+o.Size > window.End {
			t.Errorf("the outpost %+v is not in the window %+v", o, window)
		}
		copy(a.View(o.Home, 5), "hello")
		halt(t, p, func(h *process.Halt) error { return a.Map(h, o.Addr, o.Size, unix.PROT_READ|unix.PROT_EXEC) })
		b := make([]byte, 5)
		if err := p.ReadMemory(b, o.Addr); err != nil || string(b) != "hello" {
			t.Errorf("at the outpost stands %q, %v", b, err)
		}
	}
	if outposts[0].Addr == outposts[1].Addr || outposts[0].Home == outposts[1].Home {
		t.Errorf("two outposts are at one place: %+v", outposts)
	}
	// A page that has to be right behind another outpost may be.
	next := Range{Start: outposts[0].Addr + outposts[0].Size, End: outposts[0].Addr + outposts[0].Size + pageSize}
	if outposts[1].Addr == next.Start {
		next = Range{Start: outposts[1].Addr + outposts[1].Size, End: outposts[1].Addr + outposts[1].Size + pageSize}
	}
	if addr, _, err := a.AllocOutside(next, pageSize); err != nil || addr != next.Start {
		t.Errorf("behind an outpost, at %#x: %#x, %v", next.Start, addr, err)
	}
	_ = a.Close()

	a, err := Open(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	if err := a.ClaimOutside(outposts[0]); err != nil {
		t.Fatal(err)
	}
	if err := a.ClaimOutside(outposts[0]); err == nil {
		t.Error("an outpost could be claimed twice")
	}
	halt(t, p, func(h *process.Halt) error { return a.Unmap(h, outposts[0].Addr, outposts[0].Size) })
	for i, o := range outposts {
		there := slices.ContainsFunc(maps(t, p), func(m process.Mapping) bool { return m.Start == o.Addr && strings.HasPrefix(m.Perms, "r-x") })
		if there != (i == 1) {
			t.Errorf("outpost %d is there: %v", i, there)
		}
	}
	halt(t, p, a.Release)
	if now := maps(t, p); !slices.Equal(now, before) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, before)
	}
	target.MustLive()
}

// What the target has mapped there meanwhile stays.
func TestAnOutpostWhosePlaceIsTakenIsRefused(t *testing.T) {
	target := start(t, "cthreads.c", "ready")
	p := attach(t, target)
	a := reserve(t, p)
	where := a.Base() + a.Size() + 16<<20
	addr, _, err := a.AllocOutside(Range{Start: where, End: where + 1<<20}, pageSize)
	if err != nil {
		t.Fatal(err)
	}
	halt(t, p, func(h *process.Halt) error {
		_, err := h.Syscall(unix.SYS_MMAP, addr, pageSize, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED, ^uint64(0), 0)
		return err
	})
	before := maps(t, p)
	mustSay(t, p.Halt(t.Context(), func(h *process.Halt) error { return a.Map(h, addr, pageSize, unix.PROT_READ) }),
		"has mapped something", string(finding.OutOfRange))
	if now := maps(t, p); !slices.Equal(now, before) {
		t.Errorf("the maps are\n%v\nwere\n%v", now, before)
	}
	if _, _, err := a.AllocOutside(Range{Start: addr, End: addr + pageSize}, pageSize); finding.CodeOf(err) != finding.OutOfRange {
		t.Errorf("a place that is taken: %v", err)
	}
	target.MustLive()
}
