package patcher

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// notCounted is the number of frames in old code that nobody has counted.
const notCounted = -1

// zone is a piece of code in which it matters whether somebody is.
type zone struct {
	goruntime.Range
	kind zoneKind
	// function is the one whose calls run the code, if it is old; in is the
	// patch whose code it is, nil if it is the program's own.
	function *functionRecord
	in       *patchRecord
	// beside tells that it is not the function's own code, but Lost with it.
	beside bool
	// closures, if not empty, is the function of whose closures, and of nothing
	// else in the range, the zone is.
	closures string
}

type zoneKind int

const (
	// written: the middle of what a jump is written over.
	written zoneKind = iota
	// between: a stub. Who is there asks the switches one after the other.
	between
	// old code is what calls run that came before a patch was activated.
	old
)

// holds tells whether x is in the zone.
func (z *zone) holds(x *goruntime.Holder) bool {
	if !z.Holds(x.Value, 1) {
		return false
	}
	rest, ok := strings.CutPrefix(x.Function, z.closures)
	return z.closures == "" || ok && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "-range"))
}

// oldCode returns the zones of code that calls of p's functions may be in that
// p does not serve: the program's own and that of other patches, but for those
// that stay active above p.
func (r *registry) oldCode(p *patchRecord, active func(*patchRecord) bool) []zone {
	var zones []zone
	for _, f := range p.Functions {
		d := r.redirect(f.Entry)
		zones = append(zones, f.oldCode()...)
		for _, q := range r.Patches {
			g := q.function(f.Entry)
			if g != nil && g.Stub != 0 {
				zones = append(zones, zone{Range: goruntime.Range{Start: g.thunk(), End: min(g.thunk()+redirect.ThunkSize, slotOf(g.Stub)+slotSize)}, kind: old, function: f})
			}
			above := slices.Index(d.Stack, q.ID) > slices.Index(d.Stack, p.ID)
			if q.ID == p.ID || g == nil || above && active(q) {
				continue
			}
			zones = append(zones, q.code(f, g)...)
		}
	}
	return zones
}

// oldCode returns the zones of the program's own code that f replaces.
func (f *functionRecord) oldCode() []zone {
	// Who is at the very beginning has not begun, and goes on to the jump.
	zones := []zone{{Range: goruntime.Range{Start: f.Entry + 1, End: f.Entry + f.Size}, kind: old, function: f}}
	for _, r := range f.Pieces {
		zones = append(zones, zone{Range: r, kind: old, function: f})
	}
	for _, r := range f.Lost {
		zones = append(zones, zone{Range: r, kind: old, function: f, beside: true})
	}
	return zones
}

// code returns the zones of p's new code of g, closures included, as code that
// calls of f run.
func (p *patchRecord) code(f, g *functionRecord) []zone {
	return []zone{
		{Range: goruntime.Range{Start: g.New, End: g.New + g.NewSize}, kind: old, function: f, in: p},
		{Range: goruntime.Range{Start: p.Base, End: p.Base + p.Size}, kind: old, function: f, in: p, closures: runtimeName(g.Symbol)},
	}
}

// runtimeName returns how the runtime names a function: without the types that
// a generic one was instantiated with.
func runtimeName(symbol string) string {
	from, to := strings.Index(symbol, "["), strings.LastIndex(symbol, "]")
	if from < 0 || to < from {
		return symbol
	}
	return symbol[:from] + "[...]" + symbol[to+1:]
}

func slotRange(addr uint64) goruntime.Range {
	return goruntime.Range{Start: slotOf(addr), End: slotOf(addr) + slotSize}
}

// zones returns where it matters for the switching whether somebody is.
func (s *switching) zones() []zone {
	var zones []zone
	for _, c := range s.entries {
		// A redirect that is already a jump is one instruction: nobody can be in
		// the middle of it.
		if d := c.redirect; bytes.Equal(d.Now, d.Old) && !d.Single {
			zones = append(zones, zone{Range: d.inside(), kind: written})
		}
	}
	if !s.on {
		return zones
	}
	p := s.patch()
	zones = append(zones, s.reg.oldCode(p, s.will)...)
	for _, q := range s.changed() {
		for _, f := range q.Functions {
			if q != p && p.function(f.Entry) == nil {
				zones = append(zones, q.code(f, f)...)
			}
			for _, id := range s.reg.redirect(f.Entry).Stack {
				if x, err := s.reg.patch(id); err == nil && x.function(f.Entry).Stub != 0 {
					g := x.function(f.Entry)
					zones = append(zones, zone{Range: goruntime.Range{Start: g.Stub, End: g.thunk()}, kind: between})
				}
			}
		}
	}
	return zones
}

// holdup is somebody who is in old code.
type holdup struct {
	goruntime.Holder
	zone *zone
}

// look returns a reason to try again if a thread or goroutine is in the middle
// of bytes that are about to change or of the stubs whose switches are, and who
// is in old code. It counts the frames there.
func (s *switching) look(h *process.Halt) (retry *finding.Refusal, held []holdup, err error) {
	zones := s.zones()
	if s.on {
		s.patch().resetCount()
	}
	found, err := s.e.find(h, zones)
	for _, x := range found {
		switch x.zone.kind {
		case written:
			return midEntry(x.Holder), nil, nil
		case between:
			retry = finding.Refuse(finding.InUse,
				fmt.Sprintf("%s, in a stub that asks which code to run", x.Holder), "try again")
		case old:
			held = append(held, x)
		}
	}
	count(held)
	return retry, held, err
}

// find returns who is in the zones; in several at once if they overlap.
func (e *Engine) find(h *process.Halt, zones []zone) ([]holdup, error) {
	if len(zones) == 0 {
		return nil, nil
	}
	ranges := make([]goruntime.Range, len(zones))
	for i, z := range zones {
		ranges[i] = z.Range
	}
	holders, err := e.lang.Positions(h, ranges...)
	if err != nil {
		return nil, err
	}
	var found []holdup
	for i := range holders {
		for j := range zones {
			if zones[j].holds(&holders[i]) {
				found = append(found, holdup{holders[i], &zones[j]})
			}
		}
	}
	return found, nil
}

// count adds the frames among those who are in old code to the counts of the
// functions. The frames of a goroutine that runs can't be walked: there every
// word on its stack that looks like one counts.
func count(held []holdup) {
	for _, x := range held {
		if x.Frame || x.Goroutine != 0 {
			x.zone.function.OldFrames++
		}
	}
}

func (p *patchRecord) resetCount() {
	for _, f := range p.Functions {
		f.OldFrames = 0
	}
}

// uncount forgets the counts of the patches that have a function in common with
// those that were switched, but for one that was counted with the switching.
func (r *registry) uncount(switched []*patchRecord, counted *patchRecord) {
	entries := map[uint64]bool{}
	for _, p := range switched {
		for _, f := range p.Functions {
			entries[f.Entry] = true
		}
	}
	for _, p := range r.Patches {
		for _, f := range p.Functions {
			if entries[f.Entry] && p != counted {
				f.OldFrames = notCounted
			}
		}
	}
}

// settled tells whether nobody was in code that p replaces when that was last
// looked at. Then nobody ever will be, as long as nothing is switched.
func (p *patchRecord) settled() bool {
	return !slices.ContainsFunc(p.Functions, func(f *functionRecord) bool { return f.OldFrames != 0 })
}

// recountPatience is for how long a recount waits to halt the target.
const recountPatience = time.Second

// recount counts anew the frames in the code that active patches replace, under
// a halt, if there may be any. What can't be counted now stays as it was.
func (e *Engine) recount(ctx context.Context) {
	active := func(p *patchRecord) bool { return e.state(p) == Active }
	var zones []zone
	var watched []*patchRecord
	for _, p := range e.reg.Patches {
		if active(p) && !p.settled() {
			watched = append(watched, p)
			zones = append(zones, e.reg.oldCode(p, active)...)
		}
	}
	if len(watched) == 0 {
		return
	}
	e.lang.Prepare()
	ctx, cancel := context.WithTimeout(ctx, recountPatience)
	defer cancel()
	_ = e.p.HaltFor(ctx, "frames in old code are counted", func(h *process.Halt) error {
		found, err := e.find(h, zones)
		if err != nil {
			return err
		}
		for _, p := range watched {
			p.resetCount()
		}
		count(found)
		return nil
	})
}

// midEntry is the reason to try again if somebody is in the middle of bytes
// that have to change.
func midEntry(holder goruntime.Holder) *finding.Refusal {
	return finding.Refuse(finding.InUse,
		fmt.Sprintf("%s, inside the bytes of an entry that have to change", holder),
		"try again")
}
