package load

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// server answers "old" or "new", or what the test makes it do.
func server(t *testing.T, answer func(w http.ResponseWriter)) Config {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	t.Cleanup(s.Close)
	return Config{
		Clients: 3, Interval: time.Millisecond, Timeout: 10 * time.Second,
		Requests: []Request{{URL: s.URL, Old: "old", New: "new"}},
	}
}

// until polls done for up to ten seconds.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestSwitchIsFollowed(t *testing.T) {
	var patched atomic.Bool
	g := Start(server(t, func(w http.ResponseWriter) {
		if patched.Load() {
			fmt.Fprint(w, "new")
		} else {
			fmt.Fprint(w, "old")
		}
	}))
	until(t, "old answers", func() bool { return g.Report().Old > 10 })
	g.ExpectEither()
	patched.Store(true)
	g.ExpectNew()
	until(t, "new answers", func() bool { return g.Report().New > 10 })
	g.ExpectEither()
	patched.Store(false)
	g.ExpectOld()
	old := g.Report().Old
	until(t, "old answers again", func() bool { return g.Report().Old > old+10 })
	if r := g.Stop(); r.Failed != 0 || r.Requests < 30 || r.Slowest == 0 {
		t.Errorf("report %+v", r)
	}
}

func TestFailuresAreCounted(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"wrong body": {func(w http.ResponseWriter) { fmt.Fprint(w, "odd") }, `wrong answer "odd"`},
		"status":     {func(w http.ResponseWriter) { http.Error(w, "old", 500) }, "status 500"},
		"too early":  {func(w http.ResponseWriter) { fmt.Fprint(w, "new") }, "new answer"},
		"hung up":    {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			g := Start(server(t, test.answer))
			until(t, "a request", func() bool { return g.Report().Requests > 0 })
			r := g.Stop()
			if r.Failed == 0 || r.Failed != r.Requests || !strings.Contains(r.Failures[0], test.want) {
				t.Errorf("report %+v, want failures with %q", r, test.want)
			}
		})
	}
}

func TestStaleAnswerIsAFailure(t *testing.T) {
	g := Start(server(t, func(w http.ResponseWriter) { fmt.Fprint(w, "old") }))
	until(t, "old answers", func() bool { return g.Report().Old > 3 })
	g.ExpectNew()
	until(t, "a failure", func() bool { return g.Report().Failed > 0 })
	if r := g.Stop(); !strings.Contains(r.Failures[0], "old answer") {
		t.Errorf("failures %q", r.Failures)
	}
}

func TestLapHasTheSlowestAnswerInFlight(t *testing.T) {
	var slow atomic.Bool
	g := Start(server(t, func(w http.ResponseWriter) {
		if slow.Load() {
			time.Sleep(100 * time.Millisecond)
		}
		fmt.Fprint(w, "old")
	}))
	defer g.Stop()
	g.Lap()
	slow.Store(true)
	before := g.Report().Requests
	// Those that the clients had in flight may have been fast.
	until(t, "a slow request", func() bool { return g.Report().Requests > before+3 })
	slow.Store(false)
	if d := g.Lap(); d < 100*time.Millisecond {
		t.Errorf("the slowest of the lap took %s", d)
	}
}
