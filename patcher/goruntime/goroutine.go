package goruntime

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/process"
)

// Status is the state of a goroutine (atomicstatus, without _Gscan). The
// numbers have been the same since Go 1.4; Delve has them by heart too.
type Status uint32

// The states that matter here.
const (
	idle      Status = 0
	runnable  Status = 1
	running   Status = 2
	syscall   Status = 3
	waiting   Status = 4
	dead      Status = 6
	copystack Status = 8
	preempted Status = 9
	leaked    Status = 10
	deadExtra Status = 11

	scanBit = 0x1000
)

// String names a state as runtime.Stack does.
func (s Status) String() string {
	switch s {
	case idle:
		return "idle"
	case runnable:
		return "runnable"
	case running:
		return "running"
	case syscall:
		return "syscall"
	case waiting:
		return "waiting"
	case dead, deadExtra:
		return "dead"
	case copystack:
		return "copystack"
	case preempted:
		return "preempted"
	case leaked:
		return "leaked"
	}
	return fmt.Sprintf("status %d", uint32(s))
}

// Goroutine is one goroutine of a halted target.
type Goroutine struct {
	ID     uint64
	Status Status
	Addr   uint64 // of its g
	Stack  Range  // all of it
	// PC and SP are where it goes on, if it does not run; in a system call,
	// where it will return from that.
	PC, SP uint64
	// Thread is the m it runs on, 0 if none.
	Thread int

	context   uint64 // sched.ctxt
	schedSP   uint64
	deferred  uint64 // _defer
	panics    bool
	syscallSP uint64
}

// Dead tells whether g is only kept for reuse: what it holds means nothing.
func (g *Goroutine) Dead() bool {
	return g.Status == dead || g.Status == idle || g.Status == deadExtra
}

// onThread tells whether its registers are in a thread and not in its g.
func (g *Goroutine) onThread() bool {
	return g.Status == running || g.Status == syscall || g.Status == copystack
}

// String names g as a goroutine trace does.
func (g *Goroutine) String() string { return fmt.Sprintf("goroutine %d [%s]", g.ID, g.Status) }

// machine is an m: a thread as the runtime knows it.
type machine struct {
	addr        uint64
	id          int // of the thread
	g0, gsignal Goroutine
	curg        uint64
}

// Goroutines returns every goroutine of a halted target, dead ones included,
// in the order of their creation.
func (r *Runtime) Goroutines(h *process.Halt) ([]Goroutine, error) {
	machines, err := r.machines()
	if err != nil {
		return nil, err
	}
	return r.goroutines(machines)
}

func (r *Runtime) goroutines(machines []machine) ([]Goroutine, error) {
	// As atomicAllG does: allglen never grows before allgptr leads to that
	// many.
	n, err := r.word(r.allglen)
	if err != nil {
		return nil, err
	}
	array, err := r.word(r.allgptr)
	if err != nil {
		return nil, err
	}
	addrs, err := r.words(array, n)
	if err != nil {
		return nil, err
	}
	gs, err := r.readGs(addrs)
	if err != nil {
		return nil, err
	}
	threads := make(map[uint64]int, len(machines))
	for i := range machines {
		threads[machines[i].curg] = machines[i].id
	}
	for i := range gs {
		if gs[i].onThread() {
			gs[i].Thread = threads[gs[i].Addr]
		}
	}
	return gs, nil
}

// readGs reads many g structures.
func (r *Runtime) readGs(addrs []uint64) ([]Goroutine, error) {
	l := &r.layout.g
	raw, err := r.readEach(addrs, l.end)
	if err != nil {
		return nil, err
	}
	gs := make([]Goroutine, len(addrs))
	for i := range gs {
		b := raw[i]
		g := &gs[i]
		*g = Goroutine{
			ID: le.Uint64(b[l.id:]), Addr: addrs[i],
			Status:  Status(le.Uint32(b[l.status:]) &^ scanBit),
			Stack:   Range{Start: le.Uint64(b[l.stackLo:]), End: le.Uint64(b[l.stackHi:])},
			PC:      le.Uint64(b[l.schedPC:]),
			SP:      le.Uint64(b[l.schedSP:]),
			context: le.Uint64(b[l.schedCtxt:]), deferred: le.Uint64(b[l.deferred:]),
			panics:    le.Uint64(b[l.panicked:]) != 0,
			syscallSP: le.Uint64(b[l.syscallSP:]),
		}
		g.schedSP = g.SP
		if g.syscallSP != 0 {
			g.PC, g.SP = le.Uint64(b[l.syscallPC:]), g.syscallSP
		}
		if g.Stack.Start > g.Stack.End || g.Stack.End-g.Stack.Start > maxSlice {
			return nil, wrong("goroutine %d has a stack from %#x to %#x", g.ID, g.Stack.Start, g.Stack.End)
		}
	}
	return gs, nil
}

// readEach reads size bytes at each address. Structures of one kind lie close
// together, so neighbours are read as one.
func (r *Runtime) readEach(addrs []uint64, size uint64) ([][]byte, error) {
	const gap = 1024 // bytes read for nothing cost less than one more request
	order := make([]int, len(addrs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(addrs[a], addrs[b]) })
	out := make([][]byte, len(addrs))
	var requests []request
	for i := 0; i < len(order); {
		start := addrs[order[i]]
		end, j := start+size, i+1
		for j < len(order) && addrs[order[j]]-end < gap && addrs[order[j]]>>21 == start>>21 {
			end = addrs[order[j]] + size
			j++
		}
		buf := make([]byte, end-start)
		requests = append(requests, request{start, buf})
		for ; i < j; i++ {
			off := addrs[order[i]] - start
			out[order[i]] = buf[off : off+size]
		}
	}
	return out, r.readAll(requests)
}

// maxThreads bounds the list of threads against a loop in it.
const maxThreads = 1 << 16

// machines reads the list of threads.
func (r *Runtime) machines() ([]machine, error) {
	l := &r.layout.m
	addr, err := r.word(r.allm)
	if err != nil {
		return nil, err
	}
	var ms []machine
	var gs []uint64
	buf := make([]byte, l.end)
	for addr != 0 {
		if len(ms) == maxThreads {
			return nil, wrong("the list of threads does not end")
		}
		if err := r.mem.ReadMemory(buf, addr); err != nil {
			return nil, err
		}
		ms = append(ms, machine{addr: addr, id: int(le.Uint64(buf[l.procid:])), curg: le.Uint64(buf[l.curg:])})
		gs = append(gs, le.Uint64(buf[l.g0:]), le.Uint64(buf[l.gsignal:]))
		addr = le.Uint64(buf[l.next:])
	}
	present := slices.DeleteFunc(slices.Clone(gs), func(g uint64) bool { return g == 0 })
	read, err := r.readGs(present)
	if err != nil {
		return nil, err
	}
	byAddr := make(map[uint64]Goroutine, len(read))
	for _, g := range read {
		byAddr[g.Addr] = g
	}
	for i := range ms {
		ms[i].g0, ms[i].gsignal = byAddr[gs[2*i]], byAddr[gs[2*i+1]]
	}
	return ms, nil
}
