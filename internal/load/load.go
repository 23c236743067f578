// Package load keeps an HTTP server under steady load and checks every answer,
// so that a patch can be shown not to lose or spoil a single request.
package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is one request and the answers that are right for it.
type Request struct {
	URL string
	// Old and New are the whole bodies before and after the patch.
	Old, New string
}

// Config says how to load a server.
type Config struct {
	Clients  int           // keep-alive connections, each with one request in flight
	Interval time.Duration // between two requests of a client
	Timeout  time.Duration // after which a request has failed
	Requests []Request     // asked in turn
	// Answered, if not nil, is told of every request when it is answered or
	// has failed; by several goroutines at once.
	Answered func(began time.Time, took time.Duration)
}

// Report is what a Generator has counted so far.
type Report struct {
	Requests int           // answered or failed
	Failed   int           // no answer, a status other than 200, or a wrong body
	Old, New int           // answers that only the old, or only the new code gives
	Slowest  time.Duration // the longest time from request to answer since Lap
	Failures []string      // the first few, in words
}

// Generator loads a server until it is stopped.
type Generator struct {
	cfg    Config
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	report Report
	expect expectation
	since  time.Time   // a request begun after it must meet expect
	began  []time.Time // of each client's latest request
}

type expectation int

const (
	either expectation = iota
	onlyOld
	onlyNew
)

// Start begins to load. Every request must get the old answer until Expect
// says otherwise.
func Start(cfg Config) *Generator {
	ctx, cancel := context.WithCancel(context.Background())
	g := &Generator{cfg: cfg, cancel: cancel, expect: onlyOld, began: make([]time.Time, cfg.Clients)}
	for i := range cfg.Clients {
		g.done.Go(func() { g.client(ctx, i) })
	}
	return g
}

// ExpectEither accepts both answers from now on: call it before a switch.
func (g *Generator) ExpectEither() { g.setExpect(either) }

// ExpectOld accepts only old answers to requests that begin from now on.
func (g *Generator) ExpectOld() { g.setExpect(onlyOld) }

// ExpectNew accepts only new answers to requests that begin from now on.
func (g *Generator) ExpectNew() { g.setExpect(onlyNew) }

func (g *Generator) setExpect(e expectation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expect, g.since = e, time.Now()
}

// Report returns the counts so far.
func (g *Generator) Report() Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.report
	r.Failures = append([]string(nil), r.Failures...)
	return r
}

// Lap begins a new lap: it waits until the requests in flight are answered and
// returns the Slowest of the lap that ends. It must not be called after Stop.
func (g *Generator) Lap() time.Duration {
	now := time.Now()
	for !g.allBeganAfter(now) {
		time.Sleep(time.Millisecond)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	slowest := g.report.Slowest
	g.report.Slowest = 0
	return slowest
}

// allBeganAfter reports whether every client has begun a request after t: then
// what it asked before is answered and counted.
func (g *Generator) allBeganAfter(t time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !slices.ContainsFunc(g.began, func(began time.Time) bool { return began.Before(t) })
}

// Stop lets requests in flight finish and returns the final counts.
func (g *Generator) Stop() Report {
	g.cancel()
	g.done.Wait()
	return g.Report()
}

// client asks over a connection of its own until ctx ends.
func (g *Generator) client(ctx context.Context, n int) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: g.cfg.Timeout}
	for i := n; ctx.Err() == nil; i++ {
		request := g.cfg.Requests[i%len(g.cfg.Requests)]
		start := time.Now()
		g.mu.Lock()
		g.began[n] = start
		g.mu.Unlock()
		body, err := get(client, request.URL)
		g.count(request, start, body, err)
		select {
		case <-ctx.Done():
		case <-time.After(g.cfg.Interval):
		}
	}
}

// count books one answer.
func (g *Generator) count(request Request, start time.Time, body string, err error) {
	took := time.Since(start)
	if g.cfg.Answered != nil {
		g.cfg.Answered(start, took)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.report
	r.Requests++
	r.Slowest = max(r.Slowest, took)
	// A request in flight at a switch may be served by either code.
	want := g.expect
	if start.Before(g.since) {
		want = either
	}
	switch isOld, isNew := body == request.Old, body == request.New; {
	case err != nil:
		g.fail("%s: %v", request.URL, err)
	case !isOld && !isNew:
		g.fail("%s: wrong answer %q", request.URL, body)
	case want == onlyOld && !isOld:
		g.fail("%s: new answer %q when the old code should run", request.URL, body)
	case want == onlyNew && !isNew:
		g.fail("%s: old answer %q when the new code should run", request.URL, body)
	case isOld && !isNew:
		r.Old++
	case isNew && !isOld:
		r.New++
	}
}

func (g *Generator) fail(format string, args ...any) {
	g.report.Failed++
	if len(g.report.Failures) < 5 {
		g.report.Failures = append(g.report.Failures, fmt.Sprintf(format, args...))
	}
}

// Get returns the body of url if its status is 200.
func Get(url string) (string, error) {
	return get(http.DefaultClient, url)
}

func get(client *http.Client, url string) (string, error) {
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s", answer.Status)
	}
	return string(body), nil
}
