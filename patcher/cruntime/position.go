package cruntime

import (
	"debug/elf"
	"fmt"
	"sort"
	"strings"

	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/loaded"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/scan"
)

const (
	// redZone is what x86-64 code may use below its stack pointer, in bytes
	// (System V psABI).
	redZone = 128
	// maxFrames bounds a walk against a stack that leads in a circle.
	maxFrames = 1 << 16
	// maxRest bounds rest, in bytes: what else a mapping may hold is searched as
	// memory.
	maxRest = 64 << 20
	// heapAlign is where the GNU C library begins heaps, behind memory that can't
	// be touched as below a stack.
	heapAlign = 64 << 20
)

// stack is what is known of a thread's stack.
type stack struct {
	thread *process.Thread
	frames []place
	// rest is where the stack goes on when its frames can't be walked further:
	// every word there may be a return address. Empty if the walk has come to
	// the end.
	rest link.Range
	// walked is what the frames take up: there every frame is known. What lies
	// above may be the stack of somebody else, such as a coroutine.
	walked []link.Range
}

// place is a program counter on a stack.
type place struct {
	pc    uint64
	at    uint64 // where it is saved, 0 for a register
	exact bool   // the next instruction, not the one behind a call
}

// stacks walks the stacks of all threads.
func (r *Runtime) stacks(h *process.Halt) ([]stack, []process.Mapping, error) {
	threads, err := h.Threads()
	if err != nil {
		return nil, nil, err
	}
	maps, err := r.p.Maps()
	if err != nil {
		return nil, nil, err
	}
	stacks := make([]stack, len(threads))
	for i := range threads {
		stacks[i] = r.walk(&threads[i], maps)
	}
	return stacks, maps, nil
}

// registers converts a thread's registers.
func registers(t *process.Thread) loaded.Registers {
	var r loaded.Registers
	for i, n := range []int{0, 3, 2, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} { // rax rbx rcx rdx rsi rdi rbp rsp r8…
		r[n] = t.Regs[i]
	}
	r[16] = t.PC
	return r
}

// walk walks one stack.
func (r *Runtime) walk(t *process.Thread, maps []process.Mapping) stack {
	s := stack{thread: t, frames: []place{{pc: t.PC, exact: true}}}
	regs, exact := registers(t), true
	s.walked = []link.Range{{Start: (t.SP - redZone) &^ 7, End: t.SP}}
	for range maxFrames {
		step, err := r.step(&regs, exact)
		if err != nil {
			break
		}
		if step.Last {
			s.passed(regs.SP(), step.CFA)
			return s
		}
		// A signal handler may have a stack of its own; a stack that does not
		// grow else is none.
		if !step.Signal && step.Caller.SP() <= regs.SP() {
			break
		}
		if !step.Signal {
			s.passed(regs.SP(), step.Caller.SP())
		}
		regs, exact = step.Caller, step.Signal
		s.frames = append(s.frames, place{regs.PC(), step.At, exact})
	}
	if i := mappingAt(maps, regs.SP()); i >= 0 {
		start := max(regs.SP()-redZone, maps[i].Start) &^ 7
		s.rest = link.Range{Start: start, End: min(maps[i].End, start+maxRest)}
	}
	return s
}

// passed notes a frame that was walked.
func (s *stack) passed(sp, end uint64) {
	last := &s.walked[len(s.walked)-1]
	switch {
	case end <= sp:
	case last.End == sp:
		last.End = end
	default:
		s.walked = append(s.walked, link.Range{Start: sp, End: end})
	}
}

// step goes one frame up.
func (r *Runtime) step(regs *loaded.Registers, exact bool) (loaded.Step, error) {
	pc := regs.PC()
	for _, b := range r.bridges {
		if b.Holds(pc, 1) && !exact { // at its call
			return loaded.FramePointer(regs, r.p.ReadMemory)
		}
	}
	if o := r.object(pc); o != nil {
		return o.Step(regs, exact, r.p.ReadMemory)
	}
	return loaded.Step{}, loaded.ErrNoFrame
}

func mappingAt(maps []process.Mapping, addr uint64) int {
	i := sort.Search(len(maps), func(i int) bool { return maps[i].End > addr })
	if i == len(maps) || maps[i].Start > addr {
		return -1
	}
	return i
}

// Positions returns where threads of a halted program are or will return to, as
// far as it lies in one of the ranges. Stacks are walked by the program's unwind
// tables; where those end (code that was made at run time, assembly without
// tables) every word that looks like an address there counts. What the program
// has put aside in memory of its own to go on with later, such as coroutines, is
// not seen.
func (r *Runtime) Positions(h *process.Halt, ranges ...link.Range) ([]goruntime.Holder, error) {
	stacks, _, err := r.stacks(h)
	if err != nil {
		return nil, err
	}
	return r.positions(stacks, scan.NewSet(ranges))
}

func (r *Runtime) positions(stacks []stack, in *scan.Set) (found []goruntime.Holder, err error) {
	for i := range stacks {
		s := &stacks[i]
		for _, f := range s.frames {
			if !in.Holds(f.pc) && (f.exact || !in.Holds(f.pc-1)) {
				continue
			}
			verb := "will return to"
			if f.at == 0 {
				verb = "is in"
			}
			name := r.nameAt(f.pc, f.exact)
			value := f.pc
			if !in.Holds(value) {
				value-- // a call that never returns ends its function
			}
			found = append(found, goruntime.Holder{Thread: s.thread.ID, Value: value, At: f.at, Frame: true, Function: name,
				Where: fmt.Sprintf("thread %d %s %s", s.thread.ID, verb, name)})
		}
		for _, w := range s.thread.Regs {
			if in.Holds(w) {
				found = append(found, goruntime.Holder{Thread: s.thread.ID, Value: w, Function: r.nameAt(w, true),
					Where: fmt.Sprintf("thread %d has %s in a register", s.thread.ID, r.nameAt(w, true))})
			}
		}
		if s.rest.End == 0 {
			continue
		}
		buf := make([]byte, (s.rest.End-s.rest.Start)&^7)
		if err := r.p.ReadMemory(buf, s.rest.Start); err != nil {
			return nil, err
		}
		words := scan.Words(buf)
		in.Scan(words, func(i int) {
			at := s.rest.Start + 8*uint64(i)
			found = append(found, goruntime.Holder{Thread: s.thread.ID, Value: words[i], At: at, Function: r.nameAt(words[i], true),
				Where: fmt.Sprintf("thread %d has %s on its stack at %#x, whose frames can't be walked there", s.thread.ID, r.nameAt(words[i], true), at)})
		})
	}
	return found, nil
}

// nameAt names the code at addr.
func (r *Runtime) nameAt(addr uint64, exact bool) string {
	at := addr
	if !exact {
		at--
	}
	if o := r.object(at); o != nil {
		if f, ok := o.FunctionAt(at); ok {
			return f.Name
		}
		if o.Path != "" {
			return fmt.Sprintf("%s+%#x", o.Name(), at-o.Bias)
		}
	}
	return fmt.Sprintf("%#x", addr)
}

// References returns who holds an address in a module: threads that are in it or
// will return to it, their registers, and words in memory that can be written. Every
// word that leads into the module counts; memory that was freed can hold some.
// On what is walked of a stack only frames count, and words that lead to a
// function or variable: old return addresses are left there. What the kernel holds
// can't be seen: a module that can have given it something stays.
func (r *Runtime) References(h *process.Halt, _ *goruntime.Ledger, m *goruntime.Registration, _ []link.Write, _ []goruntime.Range) (holders []goruntime.Holder, cleanup []link.Write, err error) {
	stacks, maps, err := r.stacks(h)
	if err != nil {
		return nil, nil, err
	}
	in := scan.NewSet([]link.Range{m.Range()})
	text := scan.NewSet(m.Text)
	entries, known := r.entries(m)
	if holders, err = r.positions(stacks, in); err != nil {
		return nil, nil, err
	}
	if m.Unseen != "" {
		holders = append(holders, goruntime.Holder{Value: m.Base, Where: m.Unseen})
	}
	var live []link.Range
	skip := []link.Range{m.Range()}
	for i := range stacks {
		live = append(live, stacks[i].walked...)
		skip = append(skip, deadStack(maps, stacks[i].thread))
	}
	onStack, skipped := scan.NewSet(live), scan.NewSet(skip)
	for i := range maps {
		x := &maps[i]
		if !strings.HasPrefix(x.Perms, "rw") || strings.HasPrefix(x.Path, "/dev/") && !strings.HasPrefix(x.Path, "/dev/zero") {
			continue
		}
		err := scan.Memory(r.p, x, in, func(addr, value uint64) {
			if skipped.Holds(addr) {
				return
			}
			if known && text.Holds(value) && !entries[value] && onStack.Holds(addr) {
				return
			}
			holders = append(holders, goruntime.Holder{Value: value, At: addr,
				Where: fmt.Sprintf("%s has %#x", r.memory(addr, x), value)})
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return holders, nil, nil
}

// entries returns where functions of a module begin; known is false if only what
// the dynamic linker knows is known of it.
func (r *Runtime) entries(m *goruntime.Registration) (entries map[uint64]bool, known bool) {
	entries = make(map[uint64]bool, len(m.Entries))
	for _, e := range m.Entries {
		entries[e] = true
	}
	// A module without symbols has unwind tables for its static functions too.
	o := r.modules[m.Base]
	if o == nil {
		return entries, false
	}
	begins := o.Begins()
	for _, e := range begins {
		entries[e] = true
	}
	return entries, len(begins) > 0
}

// deadStack is what lies below a thread's stack pointer in the mapping that is its
// stack. The C library keeps what it knows of a thread on the stack that it made
// for it, above all frames; a stack that the program made itself has others beside
// it, or the heap.
func deadStack(maps []process.Mapping, t *process.Thread) link.Range {
	i := mappingAt(maps, t.SP)
	if i < 0 {
		return link.Range{}
	}
	own := t.SP < t.FSBase && t.FSBase < maps[i].End && maps[i].Start%heapAlign != 0
	guarded := i > 0 && maps[i-1].End == maps[i].Start && strings.HasPrefix(maps[i-1].Perms, "---")
	if !(own && guarded) && maps[i].Path != "[stack]" {
		return link.Range{}
	}
	return link.Range{Start: maps[i].Start, End: (t.SP - redZone) &^ 7}
}

// memory describes a place in memory.
func (r *Runtime) memory(addr uint64, m *process.Mapping) string {
	if o := r.objects.At(addr); o != nil {
		for _, s := range o.Symbols() {
			if s.Type == elf.STT_OBJECT && addr-s.Addr < s.Size {
				return fmt.Sprintf("variable %s", s.Name)
			}
		}
	}
	what := m.Path
	if what == "" {
		what = fmt.Sprintf("memory mapped at %#x to %#x", m.Start, m.End)
	}
	return fmt.Sprintf("%s at %#x", what, addr)
}
