package redirect

import (
	"testing"
	"time"
)

// calledWays are the ways to call a function that BenchmarkCall compares.
var calledWays = []struct {
	name                         string
	redirected, padded, switched bool
}{
	{"plain", false, false, false},
	{"inactive", true, false, false}, // through stub and thunk
	{"active", true, false, true},    // through the stub, to code that costs the same
	// The same of a function whose entry one store can lead to few places only.
	{"padded-inactive", true, true, false},
	{"padded-active", true, true, true},
}

// BenchmarkCall measures a call of a function as it is, and by how much longer
// it takes if the function is redirected, with the switch off and on. They
// take turns, a tenth of a millisecond each, and the fastest turn of each counts:
// in it nobody else had the processor.
//
// A jump to another page takes one cycle of recent processors, and there are two in
// each way but those with a pad: to the stub, and from it to the new code or from
// the thunk back.
func BenchmarkCall(b *testing.B) {
	const turns, calls = 1000, 50000
	s := newSelf(b)
	in := s.redirect(b, oldLeaf, newLeaf)
	s.next += 4096 - s.next%4096
	pad := s.place(b, FarJumpSize)
	s.write(b, pad, FarJump(pad, in.stub))
	fastest := make([]time.Duration, len(calledWays))
	for range turns {
		for i, c := range calledWays {
			if in.restore(b); c.redirected {
				to := in.stub
				if c.padded {
					to = pad
				}
				jump, err := in.plan.Jump(to)
				if err != nil {
					b.Fatal(err)
				}
				s.write(b, in.plan.Entry+uint64(in.plan.Offset), jump)
				in.set(b, c.switched)
			}
			if got := oldLeaf(1, 2); (got == newLeaf(1, 2)) != c.switched {
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
		if c.redirected {
			b.ReportMetric(ns-float64(fastest[0].Nanoseconds())/calls, c.name+"-more-ns/call")
		} else {
			b.ReportMetric(ns, c.name+"-ns/call")
		}
	}
}

// timeCalls is the same code for all of them, so that its place in memory
// makes no difference.
//
//go:noinline
func timeCalls(calls int) time.Duration {
	begun := time.Now()
	for range calls {
		_ = oldLeaf(1, 2)
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
