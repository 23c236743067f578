package patcher_test

import (
	"fmt"
	"testing"
)

// BenchmarkCall measures calls in a running program: of a function that was never
// patched, and by how much longer they take while a patch of it is active, and after
// that was deactivated, when nothing was switched for a tenth of a second. The fastest
// turns of a tenth of a millisecond count: in those nobody else had the processor.
func BenchmarkCall(b *testing.B) {
	const rounds = 8
	s, m := newDearer(b)
	target := startCalls(b, s)
	functions := []struct {
		name     string
		old, new int // what it returns
	}{{"leaf", 1002, 2002}, {"checked", 3001, 4001}}
	fastest := map[string]float64{}
	measure := func(what string, active bool) {
		for _, f := range functions {
			want, got, ns, calls := f.old, 0, 0.0, 0.0
			if active {
				want = f.new
			}
			if _, err := fmt.Sscan(target.Get("/"+f.name), &got, &ns, &calls); err != nil || got != want {
				b.Fatalf("%s returns %d, not %d (%v)", f.name, got, want, err)
			}
			name := f.name + what
			if ns /= calls; fastest[name] == 0 || ns < fastest[name] {
				fastest[name] = ns
			}
		}
	}
	for range rounds {
		measure("", false)
	}
	e, _ := attach(b, target)
	p := load(b, e, m)
	for range rounds {
		activate(b, e, p)
		straight(b, e, p.ID)
		measure("-active", true)
		deactivate(b, e, p)
		straight(b, e, p.ID)
		measure("-inactive", false)
	}
	for _, f := range functions {
		plain := fastest[f.name]
		b.ReportMetric(plain, f.name+"-ns/call")
		for _, what := range []string{"-inactive", "-active"} {
			b.ReportMetric(fastest[f.name+what]-plain, f.name+what+"-more-ns/call")
		}
	}
	b.ReportMetric(0, "ns/op")
}
