package redirect

import (
	"testing"
	"time"
)

// calledWays are the ways to call a function that BenchmarkCall compares: where its
// entry leads, "" if it has its original bytes, and whether the switch is on.
var calledWays = []struct {
	name, to string
	on       bool
}{
	{"plain", "", false},
	{"inactive", "", false}, // nothing was switched for a while
	{"active", "new", true}, // the same
	{"stub-inactive", "stub", false},
	{"stub-active", "stub", true},
	// The same of a function whose entry one store can lead to few places only.
	{"padded-inactive", "pad", false},
	{"padded-active", "pad", true},
}

// BenchmarkCall measures a call of a function as it is, and by how much longer
// it takes if the function is redirected, with the switch off and on. They
// take turns, a tenth of a millisecond each, and the fastest turn of each counts:
// in it nobody else had the processor.
//
// A jump to another page takes one cycle of recent processors. There is one straight
// to the new code. Through the stub there are two: to it, and from it to the new code
// or from the thunk back. See also patcher.BenchmarkCall, of a program that is patched.
func BenchmarkCall(b *testing.B) {
	const turns, calls = 1000, 50000
	s := newSelf(b)
	single, _, why := s.plan(b, dear).OneStore()
	if single == nil {
		b.Fatal(why)
	}
	// The new code is on another page than the old one, and the stub on a third.
	code := s.read(b, uint64(entryOf(dearer)), dearerSize)
	s.next += 4096 - s.next%4096
	in := install(b, s, s.plan(b, dear), s.place(b, dearerSize))
	b.Cleanup(func() { in.restore(b) })
	s.next += 4096 - s.next%4096
	in.writeStub(b, 0)
	s.write(b, in.newCode, code)
	s.next += 4096 - s.next%4096
	pad := s.place(b, FarJumpSize)
	s.write(b, pad, FarJump(pad, in.stub))
	to := map[string]uint64{"stub": in.stub, "pad": pad, "new": in.newCode}
	if !single.Reaches(in.newCode) {
		b.Fatal("the entry does not reach the new code by one store")
	}
	fastest := make([]time.Duration, len(calledWays))
	for range turns {
		for i, c := range calledWays {
			if in.restore(b); c.to != "" {
				jump, err := single.Jump(to[c.to])
				if err != nil {
					b.Fatal(err)
				}
				s.write(b, single.Entry, jump)
			}
			in.set(b, c.on)
			if got := dear(1, 2); (got == dearer(1, 2)) != c.on {
				b.Fatalf("%s: the function returns %d", c.name, got)
			}
			took := timeCalls(calls)
			if fastest[i] == 0 || took < fastest[i] {
				fastest[i] = took
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range calledWays {
		ns := float64(fastest[i].Nanoseconds()) / calls
		if i > 0 {
			b.ReportMetric(ns-float64(fastest[0].Nanoseconds())/calls, c.name+"-more-ns/call")
		} else {
			b.ReportMetric(ns, c.name+"-ns/call")
		}
	}
}

// dear begins with an instruction of seven bytes, so that a jump to anywhere is in it.
//
//go:noinline
func dear(a, b int) int { return a*1000 + b }

//go:noinline
func dearer(a, b int) int { return a*2000 + b }

// dearerSize has room for the code of dearer, which refers to nothing else.
const dearerSize = 16

// timeCalls is the same code for all of them, so that its place in memory
// makes no difference.
//
//go:noinline
func timeCalls(calls int) time.Duration {
	begun := time.Now()
	for range calls {
		_ = dear(1, 2)
	}
	return time.Since(begun)
}

// BenchmarkAnalyze measures a plan for every function of the go command.
func BenchmarkAnalyze(b *testing.B) {
	im := readImage(b, goCommand(b))
	size := 0
	for _, f := range im.funcs {
		size += len(f.code)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		for _, f := range im.funcs {
			_, _ = Analyze(f.code, f.addr)
		}
	}
}
