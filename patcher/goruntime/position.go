package goruntime

import (
	"fmt"

	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
)

// Positions returns where threads and goroutines of a halted target are or
// will return to, as far as it lies in one of the ranges: if there is none,
// nobody is there and nobody returns there. It never misses one. A dead word
// on a stack whose frames can't be walked, as that of a running goroutine, may
// be among what it finds; then let the target run a little, and look again.
//
// That threads' registers are not enough is a fact with a crash behind it: a
// goroutine preempted by a signal keeps its program counter on its stack, at
// any instruction.
func (r *Runtime) Positions(h *process.Halt, ranges ...Range) ([]Holder, error) {
	s, err := r.survey(h, signalReach)
	if err != nil {
		return nil, err
	}
	in := scan.NewSet(ranges)
	found := s.registers(in)
	err = s.frames(in, func(holder Holder) { found = append(found, holder) })
	return found, err
}

// frames calls found for every goroutine that is in the set, and for every
// frame that returns there.
func (s *survey) frames(in *scan.Set, found func(Holder)) error {
	for i := range s.goroutines {
		if g := &s.goroutines[i]; !g.Dead() && !g.onThread() && in.Holds(g.PC) {
			found(s.atPC(g))
		}
	}
	return s.onStacks(in, Range{}, func(p *part, at int, seen sighting) {
		switch seen.use {
		case returnPC:
			found(s.returning(p, at))
		case unsure:
			found(s.onStack(p, at, seen.fn))
		}
	})
}

// onStacks calls hit for every word on a stack of a thread or goroutine that is
// in the set, with what it is there; see snapshot.uses.
func (s *survey) onStacks(in *scan.Set, types Range, hit func(p *part, at int, seen sighting)) error {
	parts, err := s.readStacks()
	if err != nil {
		return err
	}
	for _, parts := range [][]part{s.stacks, parts} {
		for i := range parts {
			p := &parts[i]
			var hits []int
			in.Scan(p.words, func(at int) { hits = append(hits, at) })
			if len(hits) == 0 {
				continue
			}
			for k, seen := range s.snapshot.uses(p, hits, types) {
				hit(p, hits[k], seen)
			}
		}
	}
	return nil
}

// registers returns the threads' registers that lie in the set.
func (s *survey) registers(in *scan.Set) []Holder {
	var found []Holder
	for i := range s.threads {
		t := &s.threads[i]
		if in.Holds(t.PC) {
			found = append(found, Holder{Thread: t.ID, Value: t.PC, Frame: true, Function: s.snapshot.nameAt(t.PC),
				Where: fmt.Sprintf("thread %d%s is in %s", t.ID, s.running(t.ID), s.snapshot.nameAt(t.PC))})
		}
		for _, w := range t.Regs {
			if in.Holds(w) {
				found = append(found, Holder{Thread: t.ID, Value: w, Function: s.snapshot.nameAt(w),
					Where: fmt.Sprintf("thread %d%s has %s in a register", t.ID, s.running(t.ID), s.snapshot.describe(w))})
			}
		}
	}
	return found
}

// running says what a thread runs, in brackets.
func (s *survey) running(id int) string {
	if g := s.current(id); g != nil {
		return fmt.Sprintf(" (%v)", g)
	}
	return ""
}

// atPC is a goroutine that goes on in the set.
func (s *survey) atPC(g *Goroutine) Holder {
	return Holder{Goroutine: g.ID, Thread: g.Thread, Value: g.PC, Frame: true, Function: s.snapshot.nameAt(g.PC),
		Where: fmt.Sprintf("%v is in %s", g, s.snapshot.nameAt(g.PC))}
}

// owner says whose stack a part is.
func (p *part) owner() string {
	if p.what != "" {
		return fmt.Sprintf("thread %d", p.thread)
	}
	return p.g.String()
}

// holder starts a Holder for a word on a stack.
func (p *part) holder(at int) Holder {
	h := Holder{Thread: p.thread, Value: p.words[at], At: p.Start + 8*uint64(at)}
	if p.what == "" {
		h.Goroutine = p.g.ID
	}
	return h
}

// onStack is a word on a stack; fn, if known, is the function whose frame it
// is in.
func (s *survey) onStack(p *part, at int, fn *function) Holder {
	h := p.holder(at)
	h.Function = s.snapshot.nameAt(h.Value)
	place := fmt.Sprintf("at sp%+#x", int64(h.At-p.sp))
	switch {
	case p.what != "":
		place = "on " + p.what
	case p.g.onThread():
		place = fmt.Sprintf("on its stack at %#x", h.At)
	}
	in := ""
	if fn != nil {
		in = " in " + s.snapshot.name(fn)
	}
	h.Where = fmt.Sprintf("%s%s has %s %s", p.owner(), in, s.snapshot.describe(h.Value), place)
	return h
}

// returning is a frame that will be returned to.
func (s *survey) returning(p *part, at int) Holder {
	h := p.holder(at)
	h.Frame = true
	h.Function = s.snapshot.nameAt(h.Value - 1)
	h.Where = fmt.Sprintf("%s is in %s", p.owner(), h.Function)
	return h
}
