package goruntime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
)

// findable tells whether a search in the table finds every entry.
func findable(t *itabTable, infos []itabInfo) bool {
	for i, e := range t.entries {
		if e != 0 && t.search(infos[i].hash, func(x uint64) bool { return x == 0 || x == e }) != i {
			return false
		}
	}
	return true
}

func TestMendKeepsEveryEntryFindable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		size := 1 << (3 + r.IntN(6))
		table := &itabTable{entries: make([]uint64, size)}
		hashes := map[uint64]uint32{}
		for n := 1 + r.IntN(size-size/8); n > 0; n-- {
			itab := uint64(n)
			hashes[itab] = uint32(r.IntN(size)) & uint32(r.Uint64()) // many collide
			table.insert(itab, hashes[itab])
		}
		infos := make([]itabInfo, size)
		left := map[uint64]bool{}
		for i, e := range table.entries {
			if e == 0 {
				continue
			}
			if r.IntN(3) == 0 {
				table.entries[i] = 0
				continue
			}
			left[e] = true
			infos[i] = itabInfo{addr: e, hash: hashes[e]}
		}
		table.mend(infos)
		n := 0
		for i, e := range table.entries {
			if e != infos[i].addr {
				t.Fatal("entries and infos have parted")
			}
			if e != 0 {
				n++
				if !left[e] {
					t.Fatalf("%d is back", e)
				}
			}
		}
		if n != len(left) {
			t.Fatalf("%d entries, want %d", n, len(left))
		}
		if !findable(table, infos) {
			t.Fatal("an entry can't be found")
		}
	}
}

func TestTheRuntimesTableIsUnderstood(t *testing.T) {
	s := start(t, nil)
	s.halt(func(h *process.Halt) error {
		table, err := s.rt.table()
		if err != nil {
			return err
		}
		infos, err := s.rt.itabs(table.entries)
		if err != nil {
			return err
		}
		n := len(slices.DeleteFunc(slices.Clone(table.entries), func(e uint64) bool { return e == 0 }))
		if uint64(n) != table.count || n < 50 {
			t.Errorf("%d entries, and the table says %d", n, table.count)
		}
		if !findable(table, infos) {
			t.Error("an entry can't be found")
		}
		return nil
	})
}

func TestItabFindsWhatTheRuntimeHasMade(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "link-types")})
	target.Line("ready ")
	var itab uint64
	fmt.Sscanf(target.Line("dynamic "), "%x", &itab)
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s := &subject{Target: target, t: t, p: p}
	s.halt(func(h *process.Halt) (err error) {
		s.rt, err = Open(h)
		return err
	})
	pair, err := s.rt.words(itab, 2)
	if err != nil {
		t.Fatal(err)
	}
	inter, typ := pair[link.ITabInter/8], pair[link.ITabType/8]
	if got, ok, err := s.rt.Itab(inter, typ); got != itab || !ok || err != nil {
		t.Errorf("got %#x, %v, %v; want %#x", got, ok, err, itab)
	}
	if got, ok, err := s.rt.Itab(inter, inter); ok || err != nil {
		t.Errorf("a pair that nobody has: got %#x, %v, %v", got, ok, err)
	}
}
