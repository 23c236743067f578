package patcher_test

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/internal/meter"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

var (
	pauseRounds = flag.Int("pauses", 1, "how many rounds BenchmarkPause makes with each program, and BenchmarkToggles")
	pauseTime   = flag.Duration("pauses.time", time.Minute, "after which BenchmarkPause begins no more rounds with a program")
)

// noGDB says once that there is none.
var noGDB sync.Once

// perRound is how often a round does what takes milliseconds.
const perRound = 10

// pauseTarget is one row of targets: a program with so many threads or
// goroutines.
type pauseTarget struct {
	name, exe, module string
	function          string // that the module replaces
	kept              string // the module of a patch that stays
	start             func(testing.TB) *meter.Meter
}

// pauseTargets builds the programs and their patches: later there may be no
// children.
func pauseTargets(b *testing.B) []pauseTarget {
	c := targettest.Build(b, "meter.c")
	cKept := cModule(b, "int kept(int n) { return n + 8; }")
	cModule := cModule(b, "int answer(int n) { return n + 43; }")
	g := newProgram(b, "meter")
	gModule := g.module(b, "answer", edit{"kept(n) + 42", "kept(n) + 43"})
	gKept := g.module(b, "kept", edit{"return n * 7", "return n * 8"})
	var targets []pauseTarget
	for _, n := range []int{2, 16, 64, 256} {
		targets = append(targets, pauseTarget{
			fmt.Sprintf("c/threads=%d", n), c, cModule, "answer", cKept,
			func(t testing.TB) *meter.Meter { return meter.StartC(t, c, n) },
		})
	}
	for _, n := range []int{10, 1000, 50000} {
		targets = append(targets, pauseTarget{
			fmt.Sprintf("go/goroutines=%d", n), g.exe, gModule, "main.answer", gKept,
			func(t testing.TB) *meter.Meter { return meter.StartGo(t, g.exe, n) },
		})
	}
	return targets
}

// BenchmarkPause measures what operations of Darn's and of other tools do to a
// program's time, as the program sees it: for each operation the distribution
// of the longest gap of any busy and of any waiting thread around it, beside
// that of no operation, all in one run, interleaved.
func BenchmarkPause(b *testing.B) {
	for _, target := range pauseTargets(b) {
		var p *pauses // made once, however often the benchmark is run
		b.Run(target.name, func(b *testing.B) {
			if p == nil {
				p = new(pauses)
				begun := time.Now()
				for n := 0; n < *pauseRounds && (n == 0 || time.Since(begun) < *pauseTime); n++ {
					p.round(b, target)
				}
			}
			for _, o := range p.operations {
				b.Run("op="+o.name, o.report)
			}
		})
	}
}

// pauses is what was measured on one target.
type pauses struct {
	operations []*operation // in the order in which they were first made
}

// operation is what was measured of one operation, sample by sample.
type operation struct {
	name           string
	busy, waiting  []time.Duration // the longest gaps of a thread of the kind
	any            []time.Duration // the longer one
	took           []time.Duration
	receipt        []time.Duration // the halts in it, by its receipt
	beyond         []time.Duration // by how much the meter saw more
	halts, threads int             // the most in a receipt
}

// measure makes an operation once. It may return a receipt.
func (p *pauses) measure(b *testing.B, m *meter.Meter, name string, op func() (*patcher.Receipt, error)) error {
	b.Helper()
	i := slices.IndexFunc(p.operations, func(o *operation) bool { return o.name == name })
	if i < 0 {
		i = len(p.operations)
		p.operations = append(p.operations, &operation{name: name})
	}
	o := p.operations[i]
	var receipt *patcher.Receipt
	var took time.Duration
	var err error
	gaps := m.During(func() {
		begun := time.Now()
		receipt, err = op()
		took = time.Since(begun)
	})
	m.Target.MustLive()
	o.busy, o.waiting = append(o.busy, gaps.Busy), append(o.waiting, gaps.Waiting)
	o.any, o.took = append(o.any, gaps.Longest()), append(o.took, took)
	if receipt != nil {
		halt := time.Duration(receipt.HaltMicros) * time.Microsecond
		o.receipt = append(o.receipt, halt)
		if receipt.Halts <= 1 { // else it is the sum of several gaps
			o.beyond = append(o.beyond, gaps.Longest()-halt)
		}
		o.halts, o.threads = max(o.halts, receipt.Halts), max(o.threads, receipt.ThreadsHalted)
	}
	return err
}

// report prints the distributions as metrics; it runs nothing.
func (o *operation) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(o.took)), "samples")
	for name, samples := range map[string][]time.Duration{
		"busy": o.busy, "waiting": o.waiting, "any": o.any, "took": o.took, "receipt": o.receipt, "beyond-receipt": o.beyond,
	} {
		if len(samples) > 0 {
			reportQuantiles(b, name, samples)
		}
	}
	if len(o.receipt) > 0 {
		b.ReportMetric(float64(o.halts), "halts")
		b.ReportMetric(float64(o.threads), "threads-halted")
	}
}

// reportQuantiles prints p50, p99 and the maximum in microseconds.
func reportQuantiles(b *testing.B, name string, samples []time.Duration) {
	for q, of := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(float64(quantile(samples, of).Nanoseconds())/1000, name+"-"+q+"-µs")
	}
}

// quantile returns the smallest sample that at least the share q of them does
// not exceed.
func quantile(samples []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[max(int(math.Ceil(q*float64(len(sorted)))), 1)-1]
}

// without makes an operation of one that has no receipt.
func without(op func() error) func() (*patcher.Receipt, error) {
	return func() (*patcher.Receipt, error) { return nil, op() }
}

// round does all operations to a new process.
func (p *pauses) round(b *testing.B, target pauseTarget) {
	m := target.start(b)
	defer m.Target.Kill()
	pid := m.Target.Pid()
	do := func(name string, op func() (*patcher.Receipt, error)) {
		b.Helper()
		if err := p.measure(b, m, name, op); err != nil {
			b.Fatalf("%s: %v", name, err)
		}
	}
	for range perRound {
		do("nothing", without(func() error { return nil }))
		do("neighbour", without(func() error { compute(20 * time.Millisecond); return nil }))
		do("ptrace", without(func() error { return meter.StopAll(pid, func() {}) }))
	}
	if err := p.measure(b, m, "gdb", without(func() error { return meter.GDB(target.exe, pid, target.function) })); errors.Is(err, meter.ErrNoGDB) {
		p.operations = slices.DeleteFunc(p.operations, func(o *operation) bool { return o.name == "gdb" })
		// A benchmark that has others in it does not show its log.
		noGDB.Do(func() { fmt.Fprintln(os.Stderr, err, "and so is not measured") })
	} else if err != nil {
		b.Fatal(err)
	}

	var d *meter.Delve
	do("delve-attach", without(func() (err error) { d, err = meter.AttachDelve(pid); return err }))
	for range perRound {
		do("delve-halt", without(d.Halt))
	}
	if err := d.Detach(); err != nil {
		b.Fatal(err)
	}
	p.darn(b, m, target, "darn-", do)
	p.darn(b, m, target, "darn-alone-", do, patcher.WithoutResident())
}

// darn does all of Darn's operations, whose names begin with prefix.
func (p *pauses) darn(b *testing.B, m *meter.Meter, target pauseTarget, prefix string, named func(string, func() (*patcher.Receipt, error)), options ...func(*patcher.Engine)) {
	do := func(name string, op func() (*patcher.Receipt, error)) {
		b.Helper()
		named(prefix+name, op)
	}
	var proc *process.Process
	var e *patcher.Engine
	do("attach", func() (r *patcher.Receipt, err error) {
		if proc, err = process.Attach(m.Target.Pid()); err != nil {
			return nil, err
		}
		counted := proc.Measure()
		if e, err = patcher.Open(proc, options...); err != nil {
			return nil, errors.Join(err, proc.Close())
		}
		halts := proc.AttachHalt().Add(counted())
		return &patcher.Receipt{Halts: halts.Halts, HaltMicros: halts.Total.Microseconds(), ThreadsHalted: halts.ThreadsHalted}, nil
	})
	defer proc.Close()
	defer e.Close()
	var patch *patcher.Patch
	load := func(module string) func() (*patcher.Receipt, error) {
		return func() (r *patcher.Receipt, err error) {
			patch, r, err = e.Load(b.Context(), module)
			return r, err
		}
	}
	off := func() (r *patcher.Receipt, err error) {
		_, r, err = e.Deactivate(b.Context(), patch.ID)
		return r, err
	}
	on := func() (r *patcher.Receipt, err error) {
		_, r, err = e.Activate(b.Context(), patch.ID, patcher.ActivateOptions{})
		return r, err
	}
	// Somebody may be in the new code just now. An attempt that is refused for that
	// halts too, and counts.
	unload := func(name string) {
		for {
			err := p.measure(b, m, prefix+name, func() (*patcher.Receipt, error) { return e.Unload(b.Context(), patch.ID) })
			if err == nil {
				break
			}
			if c := finding.CodeOf(err); c != finding.InUse && c != finding.GCTimeout {
				b.Fatal(err)
			}
		}
	}
	// The patch that stays keeps the arena, and the thread that Darn has in the
	// program.
	do("load-first", load(target.kept))
	kept := patch
	for range perRound {
		do("load", load(target.module))
		do("activate", on)
		do("toggle", off)
		do("toggle", on)
		do("toggle", off)
		unload("unload")
	}
	patch = kept
	unload("unload-last")
	do("detach", without(func() error { return errors.Join(e.Close(), proc.Close()) }))
}

// compute takes a processor's time and touches nothing.
func compute(d time.Duration) {
	for begun := time.Now(); time.Since(begun) < d; {
	}
}
