// Package goruntime is what the Go runtime of a target must be told when a
// module comes or goes, and what it can be asked: where its goroutines are,
// and who holds an address.
//
// It reads and changes the runtime's own structures from outside, under a
// halt. The names in the comments are those of Go's own source, in
// src/runtime.
package goruntime

import (
	"fmt"

	"github.com/go-delve/delve/pkg/dwarf/godwarf"

	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/process"
)

// Runtime is the Go runtime of one process. It holds nothing of the process's
// changing state, so that it can be used as long as the process lives, by one
// goroutine at a time.
type Runtime struct {
	pid    int
	mem    *process.Process
	layout layout

	// Variables of the runtime, by address.
	allgptr, allglen, allm                         uint64
	allp                                           uint64
	gcphase, numgc, lastGC, gcPercent              uint64
	forcegcperiod, sweepState                      uint64
	schedLock, sysmonwait, sysmonnote              uint64
	scavengerStop, scavengerWake                   uint64
	itabTable, itabLock                            uint64
	itabTableInit                                  uint64
	modulesSlice, lastmoduledata                   uint64
	firstmoduledata                                uint64
	pinnedTypemaps                                 uint64
	arenas, arenaCount                             uint64
	enableGC                                       uint64
	allspans                                       uint64
	bookkeeping                                    bookkeeping
	buckets                                        [3]uint64 // of the profiles; 0: the program has none
	emptyTypeAssert, emptyInterfaceSwitch          uint64
	unreachableMethod                              uint64
	asyncPreempt, sigpanic, cgocallback, debugCall uint64

	// Symbols names variables for Holders. Whoever has the executable open
	// sets it; else it is opened when a name is first needed.
	Symbols *exe.Executable
	bias    uint64
	path    string
}

// Open reads the layout of the runtime of a halted Go process. It is refused
// with unsupported-target if the program's debugging information lacks what is
// needed.
func Open(h *process.Halt) (*Runtime, error) {
	p := h.Process()
	r := &Runtime{pid: p.Pid(), mem: p, bias: p.LoadBias(), path: p.ExePath()}
	f := &fields{h: h, r: r}
	r.layout.read(f)

	r.allgptr, r.allglen, r.allm = f.variable("runtime.allgptr").addr, f.variable("runtime.allglen").addr, f.variable("runtime.allm").addr
	r.allp = f.variable("runtime.allp").addr
	r.gcphase = f.variable("runtime.gcphase").addr
	memstats := f.variable("runtime.memstats")
	r.enableGC = f.in(memstats, "enablegc")
	r.numgc, r.lastGC = f.in(memstats, "numgc"), f.in(memstats, "last_gc_nanotime")
	r.gcPercent = f.in(f.variable("runtime.gcController"), "gcPercent.value")
	r.forcegcperiod = f.variable("runtime.forcegcperiod").addr
	r.sweepState = f.in(f.variable("runtime.sweep"), "active.state.value")
	sched := f.variable("runtime.sched")
	r.schedLock, r.sysmonwait, r.sysmonnote = f.in(sched, "lock.key"), f.in(sched, "sysmonwait.u.value"), f.in(sched, "sysmonnote.key")
	scavenger := f.variable("runtime.scavenger")
	r.scavengerStop, r.scavengerWake = f.in(scavenger, "shouldStop"), f.in(scavenger, "sysmonWake.value")
	r.itabTable, r.itabLock = f.variable("runtime.itabTable").addr, f.in(f.variable("runtime.itabLock"), "key")
	r.itabTableInit = f.variable("runtime.itabTableInit").addr
	r.modulesSlice, r.lastmoduledata = f.variable("runtime.modulesSlice").addr, f.symbol("runtime.lastmoduledatap")
	r.firstmoduledata = f.symbol("runtime.firstmoduledata")
	r.pinnedTypemaps = f.variable("runtime.pinnedTypemaps").addr
	r.emptyTypeAssert = f.optional("runtime.emptyTypeAssertCache").addr
	r.emptyInterfaceSwitch = f.optional("runtime.emptyInterfaceSwitchCache").addr
	mheap := f.variable("runtime.mheap_")
	r.arenas, r.allspans = f.in(mheap, "arenas"), f.in(mheap, "allspans")
	r.arenaCount = r.countArenas(f, mheap)
	r.bookkeeping.read(f, mheap)
	for i, name := range []string{"runtime.mbuckets", "runtime.bbuckets", "runtime.xbuckets"} {
		r.buckets[i] = f.optional(name).addr
	}
	fns := f.functions("runtime.unreachableMethod", "runtime.asyncPreempt", "runtime.sigpanic", "runtime.cgocallback", "runtime.debugCallV2")
	r.unreachableMethod, r.asyncPreempt, r.sigpanic, r.cgocallback, r.debugCall = fns[0], fns[1], fns[2], fns[3], fns[4]
	if r.unreachableMethod == 0 || r.asyncPreempt == 0 || r.sigpanic == 0 {
		f.fail("the functions are at %#x", fns)
	}
	if f.err != nil {
		return nil, f.err
	}
	return r, nil
}

// countArenas returns the number of entries of the second level of
// mheap.arenas; on linux/amd64 the first has one.
func (r *Runtime) countArenas(f *fields, mheap place) uint64 {
	_, t, ok := fieldOf(mheap.typ, "arenas")
	first, isArray := t.(*godwarf.ArrayType)
	if !ok || !isArray || first.Count != 1 {
		f.fail("runtime.mheap_.arenas is not an array of one")
		return 0
	}
	p, isPtr := godwarf.ResolveTypedef(first.Type).(*godwarf.PtrType)
	if !isPtr {
		f.fail("runtime.mheap_.arenas does not lead to arrays")
		return 0
	}
	second, isArray := godwarf.ResolveTypedef(p.Type).(*godwarf.ArrayType)
	if !isArray || uint64(second.Count)*r.layout.arena.pages*heapPage != 1<<48 {
		f.fail("runtime.mheap_.arenas does not cover 48 bits of addresses")
		return 0
	}
	return uint64(second.Count)
}

// Idle tells whether the collector rests and nobody holds the lock that guards
// the table of itabs. Only then may the writes of Register and Unregister be
// made; if it's not so (false and no error), let the target run for a
// millisecond and halt it again.
func (r *Runtime) Idle(*process.Halt) (bool, error) {
	phase, err := r.word32(r.gcphase)
	if err != nil {
		return false, err
	}
	lock, err := r.word(r.itabLock)
	if err != nil {
		return false, err
	}
	return phase == 0 && lock == 0, nil
}

// Started tells whether the program has come so far that its runtime is set up.
// Before that it has no list of modules, and no collector. The target must be
// halted.
func (r *Runtime) Started(*process.Halt) (bool, error) {
	var enabled [1]byte
	err := r.mem.ReadMemory(enabled[:], r.enableGC)
	return enabled[0] != 0, err
}

// executable returns the target's executable, which it opens if need be.
func (r *Runtime) executable() (*exe.Executable, error) {
	if r.Symbols == nil {
		x, err := exe.Open(r.path)
		if err != nil {
			return nil, err
		}
		r.Symbols = x
	}
	return r.Symbols, nil
}

// wrong is the error for a runtime that contradicts itself.
func wrong(format string, args ...any) error {
	return fmt.Errorf("the program's Go runtime is not as expected: "+format, args...)
}
