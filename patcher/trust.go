package patcher

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// The registry is in memory that the target's owner can write, and a program that
// goes astray may too. So no address in it is written to, or made a place that code
// jumps to, that is not where Darn's own things are: in the memory that the
// registry says is Darn's, which has to be that of the arena, or else at the entry
// of a function of the program, or in data of the program.

// checkPlaces makes sure that what is Darn's lies in the memory that is. It is
// about the registry alone; see Engine.checkPlaces for the target.
func (r *registry) checkPlaces() error {
	const page = 4096
	code := newPlaces(r.Blocks)
	data := newPlaces(r.Data)
	patches := make(map[uint64]*patchRecord, len(r.Patches))
	for _, p := range r.Patches {
		patches[p.Base] = p
		if sum, err := hex.DecodeString(p.Module); err != nil || len(sum) != 32 {
			return damaged("the module of patch %s has the hash %q", p.ID, p.Module)
		}
		own := newPlaces([]block{{Addr: p.Base, Size: (p.Size + page - 1) &^ (page - 1)}})
		ranges := slices.Concat(p.Go.Segments, p.Go.Text)
		if p.Go.Bridges != (goruntime.Range{}) {
			ranges = append(ranges, p.Go.Bridges)
		}
		addresses := slices.Clone(p.Go.Entries)
		for _, at := range []uint64{p.Go.Moduledata, p.Go.Frames} {
			if at != 0 {
				addresses = append(addresses, at)
			}
		}
		if p.Init != nil {
			addresses = append(addresses, p.Init.Start)
			ranges = append(ranges, goruntime.Range{Start: p.Init.State, End: p.Init.State + module.InitStateSize})
		}
		for _, f := range p.Functions {
			addresses = append(addresses, f.called())
			ranges = append(ranges, goruntime.Range{Start: f.New, End: f.New + f.NewSize})
			pad := uint64(redirect.JumpSize)
			if f.Stub == 0 {
				pad = redirect.FarJumpSize
			}
			if f.Stub != 0 && !code.holds(f.Stub, f.stubSize()) || f.Pad != 0 && !code.holds(f.Pad, pad) {
				return damaged("the stub of %s of patch %s is not in Darn's code", f.Symbol, p.ID)
			}
		}
		for _, at := range addresses {
			if !own.holds(at, 1) {
				return damaged("%#x is not in patch %s", at, p.ID)
			}
		}
		for _, x := range ranges {
			if x.End < x.Start || !own.holds(x.Start, x.End-x.Start) {
				return damaged("[%#x, %#x) is not in patch %s", x.Start, x.End, p.ID)
			}
		}
		if p.Go.Size > (p.Size+page-1)&^(page-1) {
			return damaged("patch %s is registered with %d bytes", p.ID, p.Go.Size)
		}
	}
	for _, d := range r.Redirects {
		if d.Pad != 0 && !code.holds(d.Pad, redirect.FarJumpSize) {
			return damaged("the pad of the entry at %#x is not in Darn's code", d.Entry)
		}
	}
	for _, b := range append([]goruntime.Block{r.Runtime.List, r.Runtime.Table}, r.Runtime.Retired...) {
		if b != (goruntime.Block{}) && !data.holds(b.Addr, b.Size) {
			return damaged("a list at %#x is not in Darn's data", b.Addr)
		}
	}
	for _, m := range r.Runtime.Modules {
		if p := patches[m.Base]; p == nil || m.Moduledata != p.Go.Moduledata || m.Range() != p.Go.Range() {
			return damaged("the module at %#x is no patch's", m.Base)
		}
	}
	writes := []goruntime.Write{}
	if r.Pending != nil {
		writes = append(writes, r.Pending.Writes...)
	}
	for _, m := range r.registrations() {
		writes = append(writes, m.Fills...)
	}
	for _, w := range writes {
		if len(w.Old) != 0 && len(w.Old) != len(w.New) {
			return damaged("%d bytes at %#x were changed to %d", len(w.Old), w.Addr, len(w.New))
		}
	}
	return nil
}

// registrations are what the runtime was told, of which the registry has copies.
func (r *registry) registrations() []*goruntime.Registration {
	all := slices.Clone(r.Runtime.Modules)
	for _, p := range r.Patches {
		all = append(all, p.Go)
	}
	return all
}

// places are ranges of addresses, sorted, that do not overlap.
type places []goruntime.Range

func newPlaces(blocks []block) places {
	var ps places
	for _, b := range blocks {
		if b.Addr+b.Size > b.Addr {
			ps = append(ps, b.span())
		}
	}
	slices.SortFunc(ps, func(x, y goruntime.Range) int {
		if x.Start < y.Start {
			return -1
		}
		return 1
	})
	return ps
}

// holds tells whether one of the places has all of n bytes.
func (ps places) holds(addr, n uint64) bool {
	i, found := slices.BinarySearchFunc(ps, addr, func(x goruntime.Range, addr uint64) int {
		switch {
		case x.End <= addr:
			return -1
		case x.Start > addr:
			return 1
		}
		return 0
	})
	return found && n <= ps[i].End-addr
}

// checkPlaces makes sure, by what the target has mapped and by its program, that
// the memory which the registry says is Darn's is the arena's, that what it says
// are entries of functions are, and that what else it has written down to be
// changed back is data.
func (e *Engine) checkPlaces() error {
	if len(e.reg.Patches) == 0 && e.reg.Pending == nil {
		return nil
	}
	maps, err := e.p.Maps()
	if err != nil {
		return err
	}
	own := slices.Concat(e.reg.Blocks, e.reg.Data, e.reg.Lost)
	for _, p := range e.reg.Patches {
		own = append(own, block{Addr: p.Base, Size: p.Size})
	}
	for _, b := range own {
		if m := e.arena.Foreign(maps, b.Addr, b.Size); m != nil {
			return damaged("[%#x, +%#x) is not Darn's: %s is mapped at %#x", b.Addr, b.Size, describeMapping(m), m.Start)
		}
	}
	mine := newPlaces(own)
	entries := make(map[uint64]*redirectRecord, len(e.reg.Redirects))
	for _, d := range e.reg.Redirects {
		if err := e.checkEntry(maps, d, mine); err != nil {
			return err
		}
		entries[d.at()] = d
	}
	for _, r := range e.reg.registrations() {
		for _, w := range r.Fills {
			if m := at(maps, w.Addr, len(w.New)); m == nil || m.Perms[2] == 'x' || m.Perms[3] != 'p' {
				return damaged("the slot of a method at %#x is not in data of the program", w.Addr)
			}
		}
	}
	if e.reg.Pending == nil {
		return nil
	}
	for _, w := range e.reg.Pending.Writes {
		if len(w.Old) == 0 || mine.holds(w.Addr, uint64(len(w.New))) {
			continue // it stays, or is Darn's
		}
		m := at(maps, w.Addr, len(w.New))
		switch {
		case m == nil || m.Perms[3] != 'p':
			return damaged("nothing that could be changed is at %#x", w.Addr)
		case m.Perms[2] != 'x':
		case entries[w.Addr] == nil || len(w.New) != redirect.JumpSize:
			return damaged("at %#x is no entry that was redirected", w.Addr)
		case !entries[w.Addr].leads(w.Old, mine) || !entries[w.Addr].leads(w.New, mine):
			return damaged("the entry at %#x was never as the journal says", w.Addr)
		}
	}
	return nil
}

// checkEntry makes sure that what the registry says of an entry can be true: code
// of the program or of a library is there, a function begins there and the bytes to
// be put back are the program's, as far as its file says so, and what stands there
// now leads to Darn's code.
func (e *Engine) checkEntry(maps []process.Mapping, d *redirectRecord, mine places) error {
	m := at(maps, d.at(), redirect.JumpSize)
	if m == nil && bytes.Equal(d.Now, d.Old) {
		return nil // of a library that is gone: nothing can be written there
	}
	if m == nil || m.Perms[1] == 'w' || m.Perms[2] != 'x' || m.Perms[3] != 'p' || m.Inode == 0 || mine.holds(d.at(), 1) {
		return damaged("no code of the program is at the entry %#x", d.Entry)
	}
	if !d.leads(d.Now, mine) {
		return damaged("the entry at %#x leads to no code of Darn's", d.Entry)
	}
	if !e.lang.isEntry(d.Entry) {
		return damaged("no function of the program begins at %#x", d.Entry)
	}
	was := make([]byte, len(d.Old))
	if err := e.exe.ReadCode(was, d.at()-e.p.LoadBias()); err == nil && !bytes.Equal(was, d.Old) {
		return damaged("at the entry %#x the program has % x, not % x", d.Entry, was, d.Old)
	}
	return nil
}

// leads tells whether bytes may stand at the entry: those of the program, or a jump
// to code of Darn's.
func (d *redirectRecord) leads(b []byte, mine places) bool {
	if bytes.Equal(b, d.Old) {
		return true
	}
	to, ok := redirect.JumpTarget(d.at(), b)
	return ok && mine.holds(to, 1)
}

// at returns the mapping that has all of n bytes, nil if there is none.
func at(maps []process.Mapping, addr uint64, n int) *process.Mapping {
	i := slices.IndexFunc(maps, func(m process.Mapping) bool { return m.Start <= addr && addr < m.End })
	if i < 0 || uint64(n) > maps[i].End-addr {
		return nil
	}
	return &maps[i]
}

func describeMapping(m *process.Mapping) string {
	if m.Path == "" {
		return "memory of the program"
	}
	return m.Path
}
