package arena

import (
	"testing"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

func TestPlaceIsTheHighestRoomInReach(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	text := Range{4 * mib, 8 * mib}
	limit := text.Start + uint64(Reach)
	mapped := func(ranges ...uint64) (ms []process.Mapping) {
		for i := 0; i < len(ranges); i += 2 {
			ms = append(ms, process.Mapping{Start: ranges[i], End: ranges[i+1]})
		}
		return ms
	}
	for name, c := range map[string]struct {
		maps []process.Mapping
		base uint64
		size uint64
	}{
		"nothing else is mapped":              {mapped(text.Start, 16*mib, 768*gib, 769*gib), limit - pageSize - gib, gib},
		"something is mapped at the very top": {mapped(text.Start, 16*mib, limit-mib, limit+mib), limit - mib - pageSize - gib, gib},
		"the highest gap is too small":        {mapped(text.Start, 16*mib, 1700*mib, 1701*mib), 1700*mib - pageSize - gib, gib},
		"no gap has the usual size":           {mapped(text.Start, 16*mib, 600*mib, 601*mib, 1200*mib, 1201*mib), limit - pageSize - 512*mib, 512 * mib},
		"a small gap only":                    {mapped(text.Start, 1900*mib), limit - pageSize - 128*mib, 128 * mib},
		"no room":                             {mapped(text.Start, 2040*mib), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			base, size, ok := place(c.maps, text)
			if base != c.base || size != c.size || ok != (c.size != 0) {
				t.Errorf("[%#x, +%d MiB), want [%#x, +%d MiB)", base, size/mib, c.base, c.size/mib)
			}
			for _, m := range c.maps {
				if ok && base < m.End && m.Start < base+size {
					t.Errorf("[%#x, +%#x) overlaps [%#x, %#x)", base, size, m.Start, m.End)
				}
			}
		})
	}
}

func TestAllocDoesNotOverlap(t *testing.T) {
	a := &Arena{base: 1 << 30, size: leastSize}
	var got []Range
	alloc := func(n uint64) Range {
		t.Helper()
		addr, err := a.Alloc(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := Range{addr, addr + roundUp(n)}
		if r.Start < a.base+poolAt || r.End > a.base+a.size || r.Start%pageSize != 0 {
			t.Fatalf("%#x is not in the pool", r)
		}
		for _, o := range got {
			if r.Start < o.End && o.Start < r.End {
				t.Fatalf("%#x overlaps %#x", r, o)
			}
		}
		got = append(got, r)
		return r
	}
	for n := uint64(1); n < 100; n++ {
		alloc(n * 1000)
	}
	hole := got[50]
	a.Free(hole.Start, hole.End-hole.Start)
	got = append(got[:50], got[51:]...)
	if again := alloc(hole.End - hole.Start); again != hole {
		t.Errorf("%#x was freed, %#x was given", hole, again)
	}
	if err := a.Claim(hole.Start, 1); err == nil {
		t.Error("a range could be claimed twice")
	}
	_, err := a.Alloc(leastSize, 0)
	mustSay(t, err, "has no 65536 KiB left in one piece", string(finding.OutOfRange))
}

func TestClaimOutsideIsRefused(t *testing.T) {
	a := &Arena{base: 1 << 30, size: leastSize}
	for _, r := range []Range{
		{0, 4096}, {a.base, 4096}, {a.base + poolAt - 4096, 8192}, {a.base + poolAt + 1, 4096},
		{a.base + a.size - 4096, 8192}, {a.base + poolAt, 0}, {a.base + poolAt, ^uint64(0) - 8191}, {^uint64(0) - 4095, 4096},
	} {
		if err := a.Claim(r.Start, r.End); err == nil {
			t.Errorf("[%#x, +%#x) could be claimed", r.Start, r.End)
		}
	}
	for _, addr := range []uint64{0, a.base - 1, a.base + switchesSize, ^uint64(0)} {
		if err := a.ClaimSwitch(addr); err == nil {
			t.Errorf("switch %#x could be claimed", addr)
		}
	}
}

func TestSwitchesRunOut(t *testing.T) {
	a := &Arena{base: 1 << 30, size: leastSize}
	seen := make(map[uint64]bool)
	for range switchesSize {
		addr, err := a.NewSwitch()
		if err != nil || seen[addr] {
			t.Fatalf("switch %#x: %v", addr, err)
		}
		seen[addr] = true
	}
	_, err := a.NewSwitch()
	mustSay(t, err, "all 4096 switches are in use", string(finding.OutOfRange))
	a.FreeSwitch(a.base + 77)
	if addr, err := a.NewSwitch(); err != nil || addr != a.base+77 {
		t.Errorf("switch %#x: %v", addr, err)
	}
}

func TestAllocKeepsAboveAnAddress(t *testing.T) {
	const base = 1 << 32
	a := &Arena{base: base, size: usualSize, file: -1}
	alloc := func(size, above, want uint64) {
		t.Helper()
		if got, err := a.Alloc(size, above); err != nil || got != want {
			t.Fatalf("%#x bytes above %#x: %#x, %v; want %#x", size, above, got, err, want)
		}
	}
	pool := uint64(base + poolAt)
	alloc(2*pageSize, 0, pool)
	alloc(pageSize, pool+4*pageSize, pool+4*pageSize)
	alloc(pageSize, 0, pool+2*pageSize) // the gap
	alloc(2*pageSize, pool+3*pageSize, pool+5*pageSize)
	alloc(pageSize, pool, pool+3*pageSize)
	if _, err := a.Alloc(pageSize, base+usualSize); err == nil {
		t.Error("there is room above the end")
	}
}
