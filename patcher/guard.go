package patcher

import (
	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/resident"
)

// GuardMain must be the first thing that main, or TestMain, calls in a program
// that uses process.StartGuard: see process.GuardMain.
func GuardMain() { process.GuardMain(known, evict) }

// evict ends the resident thread: a Darn that attaches must not take it for one of the
// program's.
func evict(p *process.Process) {
	a, err := arena.Open(p)
	if err != nil {
		return // there is none, or it is unusable, which the next Darn says
	}
	defer a.Close()
	_ = resident.Evict(p, a) // it ends by itself if not at once
}

// known tells the guardian of a process what patches have put into it. The
// registry is the target's to forge: what comes of it is where the guardian
// does not write, or what it puts in place of an int3.
func known(pid int) process.Known {
	var k process.Known
	data, err := arena.Peek(pid)
	if err != nil || data == nil {
		return k
	}
	r, err := parseRegistry(data)
	if err != nil {
		return k
	}
	if k.Modules, err = arena.File(pid); err != nil {
		k.Modules = ""
	}
	for _, b := range r.Blocks {
		k.Stubs = append(k.Stubs, process.Span{Start: b.Addr, End: b.Addr + b.Size})
	}
	for _, d := range r.Redirects {
		k.Texts = append(k.Texts, process.KnownText{Addr: d.at(), Variants: [][]byte{d.Now, d.Old}})
	}
	if r.Pending == nil {
		return k
	}
	for i := range k.Texts {
		t := &k.Texts[i]
		for _, w := range r.Pending.Writes {
			if w.Addr == t.Addr && len(w.New) == len(t.Variants[0]) {
				t.Variants = append(t.Variants, w.New)
			}
		}
	}
	return k
}
