package patcher_test

import (
	"sync"
	"testing"
	"time"

	traffic "github.com/darn-dev/darn/internal/load"
)

// Slices of time take turns: one in which nothing is done, one with toggles.
// What else the machine does hits both.
const (
	slice          = 200 * time.Millisecond
	togglesASecond = 1000
)

// BenchmarkToggles measures what a thousand toggles a second do to the latency
// of a server under load, whose every answer is checked, beside the latency
// without them in the same run; and how much two halves of the time without them
// differ, which is noise.
func BenchmarkToggles(b *testing.B) {
	s := newShop(b)
	m := s.module(b, "discount", discount)
	target := s.start(b)
	url := "http://" + target.Line("addr ") + "/total"
	e, _ := attach(b, target)
	p := load(b, e, m)
	activate(b, e, p)
	deactivate(b, e, p)

	var mu sync.Mutex
	var latencies [4][]time.Duration // by the slice's number modulo 4: odd ones have toggles
	var begun time.Time              // of slice 0
	g := traffic.Start(traffic.Config{
		Clients: 4, Interval: time.Millisecond, Timeout: time.Minute,
		Requests: []traffic.Request{{URL: url, Old: "300\n", New: "270\n"}},
		Answered: func(began time.Time, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if begun.IsZero() || began.Before(begun) {
				return
			}
			// Those that belong to two slices belong to none.
			if n := began.Sub(begun) / slice; n == (began.Sub(begun)+took)/slice {
				latencies[n%4] = append(latencies[n%4], took)
			}
		},
	})
	g.ExpectEither()
	for g.Report().Requests < 1000 {
		time.Sleep(time.Millisecond) // the server gets warm
	}
	mu.Lock()
	begun = time.Now()
	mu.Unlock()
	toggles, toggling := 0, time.Duration(0)
	for n := 1; n < *pauseRounds*8; n += 2 {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * slice)))
		start, end := time.Now(), begun.Add(time.Duration(n+1)*slice)
		for due := start; due.Before(end); due = due.Add(time.Second / togglesASecond) {
			time.Sleep(time.Until(due))
			if toggles++; toggles%2 == 1 {
				activate(b, e, p)
			} else {
				deactivate(b, e, p)
			}
		}
		toggling += time.Since(start)
	}
	time.Sleep(slice)
	r := g.Stop()
	if r.Failed > 0 || r.New == 0 || r.Old == 0 {
		b.Errorf("%+v", r)
	}

	none := append(append([]time.Duration(nil), latencies[0]...), latencies[2]...)
	with := append(append([]time.Duration(nil), latencies[1]...), latencies[3]...)
	p99 := func(samples []time.Duration) float64 { return float64(quantile(samples, 0.99)) }
	b.ReportMetric(0, "ns/op")
	reportQuantiles(b, "none", none)
	reportQuantiles(b, "toggles", with)
	b.ReportMetric(p99(with)/p99(none), "p99-ratio")
	b.ReportMetric(p99(latencies[0])/p99(latencies[2]), "p99-ratio-noise")
	b.ReportMetric(float64(toggles)/toggling.Seconds(), "toggles/s")
	b.ReportMetric(float64(r.Requests), "requests")
	b.ReportMetric(float64(r.Failed), "failed")
}
