package goruntime

import (
	"fmt"
	"sort"

	"github.com/darn-dev/darn/patcher/process"
)

const (
	// redZone is what x86-64 code may use below its stack pointer, in bytes
	// (System V psABI).
	redZone = 128
	// signalReach bounds what lies above the stack pointer of a thread whose
	// stack has no known end: frames of signal handlers, in bytes.
	signalReach = 32 << 10
)

// survey is where all threads and goroutines of a halted target are.
type survey struct {
	r          *Runtime
	snapshot   *snapshot
	threads    []process.Thread
	machines   []machine
	goroutines []Goroutine
	byThread   map[int]*machine
	mappings   []process.Mapping
	// stacks are the parts of threads' own stacks that are in use.
	stacks []part
}

// part is a piece of a stack.
type part struct {
	Range
	thread int
	g      *Goroutine // nil for a thread's own
	words  []uint64
	what   string // of a thread's own: which stack
}

// survey looks at every thread and goroutine. limit bounds what is looked at
// of a thread's stack that has no known end, in bytes.
func (r *Runtime) survey(h *process.Halt, limit uint64) (*survey, error) {
	s := &survey{r: r, snapshot: r.snapshot(), byThread: make(map[int]*machine)}
	var err error
	if s.threads, err = h.Threads(); err != nil {
		return nil, err
	}
	if s.mappings, err = h.Process().Maps(); err != nil {
		return nil, err
	}
	if s.machines, err = r.machines(); err != nil {
		return nil, err
	}
	if s.goroutines, err = r.goroutines(s.machines); err != nil {
		return nil, err
	}
	for i := range s.machines {
		s.byThread[s.machines[i].id] = &s.machines[i]
	}
	return s, s.threadStacks(limit)
}

// mapping returns the mapping that holds addr, or nil.
func (s *survey) mapping(addr uint64) *process.Mapping {
	i := sort.Search(len(s.mappings), func(i int) bool { return s.mappings[i].End > addr })
	if i == len(s.mappings) || s.mappings[i].Start > addr {
		return nil
	}
	return &s.mappings[i]
}

// current returns the goroutine that thread id runs, or nil.
func (s *survey) current(id int) *Goroutine {
	for i := range s.goroutines {
		if g := &s.goroutines[i]; g.Thread == id && g.Thread != 0 {
			return g
		}
	}
	return nil
}

// threadStacks finds and reads the parts of the threads' own stacks that are
// in use: of a Go thread its g0 stack and its signal stack, of any other the
// one it is on.
func (s *survey) threadStacks(limit uint64) error {
	add := func(t *process.Thread, what string, start, end uint64) error {
		if m := s.mapping(start); m != nil {
			end = min(end, m.End)
			start = max(start-min(start, redZone), m.Start)
		}
		start, end = start&^7, end&^7
		if end <= start {
			return nil
		}
		buf := make([]byte, end-start)
		if err := s.r.mem.ReadMemory(buf, start); err != nil {
			return err
		}
		s.stacks = append(s.stacks, part{Range: Range{Start: start, End: end}, thread: t.ID, words: asWords(buf), what: what})
		return nil
	}
	for i := range s.threads {
		t := &s.threads[i]
		var g0, gsignal, curg Range
		var sched uint64
		if m := s.byThread[t.ID]; m != nil {
			g0, gsignal, sched = m.g0.Stack, m.gsignal.Stack, m.g0.schedSP
			if g := s.current(t.ID); g != nil {
				curg = g.Stack
			}
		}
		var err error
		switch {
		case g0.Holds(t.SP, 0):
			err = add(t, "its scheduler stack", t.SP, g0.End)
			sched = 0
		case gsignal.Holds(t.SP, 0):
			if err = add(t, "its signal stack", t.SP, gsignal.End); err == nil {
				// The signal may have come on the g0 stack: then the stack
				// pointer there stands in the signal's frame.
				if low := lowest(s.stacks[len(s.stacks)-1].words, g0); low != 0 && (sched == 0 || low < sched) {
					sched = low
				}
			}
		case curg.Holds(t.SP, 0):
		default:
			err = add(t, "its stack", t.SP, t.SP+min(limit, 1<<40))
		}
		if err == nil && sched != 0 && g0.Holds(sched, 0) {
			err = add(t, "its scheduler stack", sched, g0.End)
		}
		if err != nil {
			return fmt.Errorf("stack of thread %d: %w", t.ID, err)
		}
	}
	return nil
}

// lowest returns the lowest word that lies in r, or 0.
func lowest(words []uint64, r Range) uint64 {
	var low uint64
	for _, w := range words {
		if r.Holds(w, 8) && (low == 0 || w < low) {
			low = w
		}
	}
	return low
}

// live returns the part of g's stack that is in use, and whether its lower end
// is where g's frames begin, so that they can be walked.
func (s *survey) live(g *Goroutine) (in Range, walkable bool) {
	if g.Dead() {
		return Range{}, false
	}
	if !g.onThread() {
		start := max(g.Stack.Start, g.SP-redZone)
		if !g.Stack.Holds(g.SP, 0) {
			return g.Stack, false
		}
		return Range{Start: start, End: g.Stack.End}, true
	}
	// Its stack pointer is in its thread; if that is on another stack by now,
	// whatever switched has saved it: in sched, in a register, or on that
	// other stack. The lowest candidate is not above it.
	low := lowest([]uint64{g.schedSP, g.syscallSP}, g.Stack)
	for i := range s.threads {
		t := &s.threads[i]
		if t.ID != g.Thread || g.Thread == 0 {
			continue
		}
		if g.Stack.Holds(t.SP, 0) {
			low = t.SP
			break
		}
		consider := func(words []uint64) {
			if w := lowest(words, g.Stack); w != 0 && (low == 0 || w < low) {
				low = w
			}
		}
		consider(t.Regs)
		for j := range s.stacks {
			if s.stacks[j].thread == t.ID {
				consider(s.stacks[j].words)
			}
		}
	}
	if low == 0 || g.Status == copystack {
		return g.Stack, false
	}
	walkable = g.Status == syscall && g.Stack.Holds(g.syscallSP, 8)
	return Range{Start: max(g.Stack.Start, low-redZone), End: g.Stack.End}, walkable
}

// readStacks reads of every goroutine the part of its stack that choose
// returns.
func (s *survey) readStacks(choose func(g *Goroutine) Range) ([]part, error) {
	var parts []part
	var total uint64
	for i := range s.goroutines {
		g := &s.goroutines[i]
		in := choose(g)
		in.Start, in.End = in.Start&^7, in.End&^7
		if in.Start < in.End {
			parts = append(parts, part{Range: in, g: g, thread: g.Thread})
			total += in.End - in.Start
		}
	}
	buf := make([]byte, total)
	requests := make([]request, len(parts))
	for i := range parts {
		p := &parts[i]
		n := p.End - p.Start
		requests[i] = request{p.Start, buf[:n:n]}
		p.words = asWords(buf[:n])
		buf = buf[n:]
	}
	return parts, s.r.readAll(requests)
}
