package goruntime

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
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
	runs       map[int]*Goroutine // by thread
	mappings   []process.Mapping
	// stacks are the parts of threads' own stacks that are in use.
	stacks []part
}

// part is a piece of a stack.
type part struct {
	Range
	words []uint64
	g     *Goroutine // whose stack it is; of a thread's own, an empty one
	// walkable: its frames begin at sp, and the first goes on at pc.
	walkable bool
	pc, sp   uint64
	// atCall tells that the first frame is at a call, where its stack map is
	// true; a thread may be stopped anywhere. Then it may have in registers,
	// regs, what its stack map doesn't know of.
	atCall bool
	regs   []uint64
	// whole: where the frames begin is known by hearsay; what is not confirmed
	// by finding the end of the stack from there is not believed.
	whole  bool
	thread int    // 0 if none
	what   string // of a thread's own: which stack
}

// survey looks at every thread and goroutine. limit bounds what is looked at
// of a thread's stack that has no known end, in bytes.
func (r *Runtime) survey(h *process.Halt, limit uint64) (*survey, error) {
	s := &survey{r: r, snapshot: r.snapshot(), byThread: make(map[int]*machine), runs: make(map[int]*Goroutine)}
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
	for i := range s.goroutines {
		if g := &s.goroutines[i]; g.Thread != 0 {
			s.runs[g.Thread] = g
		}
	}
	return s, s.threadStacks(limit)
}

// mapping returns the mapping that holds addr, or nil.
func (s *survey) mapping(addr uint64) *process.Mapping {
	if i := s.mappingIndex(addr); i >= 0 {
		return &s.mappings[i]
	}
	return nil
}

func (s *survey) mappingIndex(addr uint64) int {
	i := sort.Search(len(s.mappings), func(i int) bool { return s.mappings[i].End > addr })
	if i == len(s.mappings) || s.mappings[i].Start > addr {
		return -1
	}
	return i
}

// deadStack returns what of the memory below a stack pointer is nothing but
// stack that is not in use. That is known of a mapping with a guard page below
// it, as threads' stacks have, and of the one that the kernel names so; a
// program may have stacks in other places, between other things.
func (s *survey) deadStack(sp uint64) Range {
	i := s.mappingIndex(sp)
	if i < 0 {
		return Range{}
	}
	m := &s.mappings[i]
	guarded := i > 0 && s.mappings[i-1].End == m.Start && strings.HasPrefix(s.mappings[i-1].Perms, "---")
	if !guarded && m.Path != "[stack]" {
		return Range{}
	}
	return Range{Start: m.Start, End: sp &^ 7}
}

// current returns the goroutine that thread id runs, or nil.
func (s *survey) current(id int) *Goroutine { return s.runs[id] }

// threadStacks finds and reads the parts of the threads' own stacks that are
// in use: of a Go thread its g0 stack and its signal stack, of any other the
// one it is on.
func (s *survey) threadStacks(limit uint64) error {
	for i := range s.threads {
		t := &s.threads[i]
		var g0 Goroutine
		var gsignal, curg Range
		if m := s.byThread[t.ID]; m != nil {
			g0, gsignal = m.g0, m.gsignal.Stack
			if g := s.current(t.ID); g != nil {
				curg = g.Stack
			}
		}
		// From sched.sp up are the frames that made the thread, below it what
		// was called on the g0 stack since (mcall, systemstack).
		upper := part{g: &Goroutine{}, pc: g0.PC, sp: g0.SP, walkable: true, atCall: true, whole: true, what: "its scheduler stack"}
		if g0.Stack.Holds(g0.SP, 8) {
			upper.Range = Range{Start: g0.SP, End: g0.Stack.End}
		}
		lower := part{g: &Goroutine{}, pc: t.PC, sp: t.SP, regs: t.Regs, what: upper.what}
		switch {
		case g0.Stack.Holds(t.SP, 0):
			lower.Range, lower.walkable = Range{Start: t.SP, End: g0.Stack.End}, true
			if upper.Start > t.SP {
				lower.End = upper.Start
			} else {
				upper.Range = Range{}
			}
		case gsignal.Holds(t.SP, 0):
			lower.Range, lower.what = Range{Start: t.SP, End: gsignal.End}, "its signal stack"
		case curg.Holds(t.SP, 0):
		default:
			lower.Range, lower.what = Range{Start: t.SP, End: t.SP + limit}, "its stack"
		}
		if err := s.addStack(t, lower, s.redZone(t)); err != nil {
			return err
		}
		if gsignal.Holds(t.SP, 0) && len(s.stacks) > 0 {
			// The signal may have come on the g0 stack: then the stack pointer
			// there stands in the signal's frame.
			low := lowest(s.stacks[len(s.stacks)-1].words, g0.Stack)
			if low != 0 && (upper.End == 0 || low < upper.Start) {
				upper.Range, upper.walkable = Range{Start: low, End: g0.Stack.End}, false
			}
		}
		if err := s.addStack(t, upper, 0); err != nil {
			return err
		}
	}
	return nil
}

// addStack reads a part of a thread's own stack, with some bytes below it.
func (s *survey) addStack(t *process.Thread, p part, below uint64) error {
	if m := s.mapping(p.Start); m != nil && p.Start != 0 {
		p.End = min(p.End, m.End)
		p.Start = max(p.Start-min(p.Start, below), m.Start)
	}
	p.Start, p.End = p.Start&^7, p.End&^7
	if p.End <= p.Start {
		return nil
	}
	buf := make([]byte, p.End-p.Start)
	if err := s.r.mem.ReadMemory(buf, p.Start); err != nil {
		return fmt.Errorf("stack of thread %d: %w", t.ID, err)
	}
	p.words, p.thread = scan.Words(buf), t.ID
	s.stacks = append(s.stacks, p)
	return nil
}

// redZone returns how many bytes below its stack pointer a thread may use: Go
// code, which expects a signal's frame there at any time, uses none.
func (s *survey) redZone(t *process.Thread) uint64 {
	if s.snapshot.findFunc(t.PC) != nil {
		return 0
	}
	return redZone
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

// live returns the part of g's stack that is in use, without its words.
func (s *survey) live(g *Goroutine) part {
	p := part{Range: g.Stack, g: g, pc: g.PC, sp: g.SP, atCall: true, thread: g.Thread}
	if g.Dead() {
		return part{}
	}
	if !g.onThread() {
		if g.Stack.Holds(g.SP, 0) {
			p.Start, p.walkable = max(g.Stack.Start, g.SP-redZone), true
		}
		return p
	}
	t := s.thread(g)
	if t == nil || g.Status == copystack {
		return p
	}
	low := t.SP
	if !g.Stack.Holds(t.SP, 0) {
		// The thread is on another stack by now. Whatever switched has saved
		// the stack pointer: in sched, in a register, or on that other stack.
		// The lowest candidate is not above it.
		candidates := append([]uint64{g.schedSP, g.syscallSP}, t.Regs...)
		for i := range s.stacks {
			if p := &s.stacks[i]; p.thread == t.ID {
				candidates = append(candidates, lowest(p.words, g.Stack))
			}
		}
		if low = lowest(candidates, g.Stack); low == 0 {
			return p
		}
	} else if s.snapshot.findFunc(t.PC) != nil {
		p.Start, p.pc, p.sp, p.walkable, p.atCall, p.regs = t.SP, t.PC, t.SP, true, false, t.Regs
		return p
	}
	p.Start, p.walkable = max(g.Stack.Start, low-redZone), g.Status == syscall && g.Stack.Holds(g.syscallSP, 8)
	return p
}

// thread returns the thread that runs g, or nil.
func (s *survey) thread(g *Goroutine) *process.Thread {
	i := slices.IndexFunc(s.threads, func(t process.Thread) bool { return t.ID == g.Thread })
	if i < 0 {
		return nil
	}
	return &s.threads[i]
}

// readStacks reads of every goroutine the part of its stack that is in use.
func (s *survey) readStacks() ([]part, error) {
	var parts []part
	var total uint64
	for i := range s.goroutines {
		p := s.live(&s.goroutines[i])
		p.Start, p.End = p.Start&^7, p.End&^7
		if p.Start < p.End {
			parts = append(parts, p)
			total += p.End - p.Start
		}
	}
	buf := make([]byte, total)
	requests := make([]request, len(parts))
	for i := range parts {
		p := &parts[i]
		n := p.End - p.Start
		requests[i] = request{p.Start, buf[:n:n]}
		p.words = scan.Words(buf[:n])
		buf = buf[n:]
	}
	return parts, s.r.readAll(requests)
}

// queuesCleanups tells whether a thread may have put a cleanup of an object into
// the queue of those to run, and not have counted it yet, or be about to do so,
// with a signal come in between.
func (s *survey) queuesCleanups() bool {
	return slices.ContainsFunc(s.threads, func(t process.Thread) bool {
		if m := s.byThread[t.ID]; m != nil && m.gsignal.Stack.Holds(t.SP, 0) {
			return true
		}
		return strings.HasPrefix(s.snapshot.nameAt(t.PC), "runtime.(*cleanup")
	})
}
