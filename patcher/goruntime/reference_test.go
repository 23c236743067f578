package goruntime

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

func TestReferencesNameWhoHoldsAnAddress(t *testing.T) {
	s := start(t, nil)
	if found := s.holders(); len(found) != 0 {
		t.Fatalf("nobody holds it, but:\n%s", where(found))
	}
	for _, c := range []struct{ request, says string }{
		{"/variable", "variable main.kept has "},
		{"/heap", "a heap object of "},
		{"/map", "a heap object of "},
		{"/pool", "a heap object of "},
		{"/iface", "variable main.iface+0x8 has "},
		{"/stack", " in main.park has "},
		{"/spin", ""},
	} {
		t.Run(c.request[1:], func(t *testing.T) {
			s.Get(c.request)
			found := s.holders()
			if len(found) == 0 {
				t.Fatal("nobody is said to hold it")
			}
			if got := where(found); !strings.Contains(got, c.says) {
				t.Errorf("got:\n%swant one that says %q", got, c.says)
			} else {
				t.Log(got)
			}
			s.Get("/forget")
			defer func() {
				if t.Failed() {
					t.Logf("these still hold it:\n%s", where(found))
				}
			}()
			targettest.Eventually(t, "everybody has forgotten it", func() bool {
				s.collect()
				found = s.holders()
				return len(found) == 0
			})
		})
	}
}

func (s *subject) collect() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.rt.ForceGC(ctx, s.p); err != nil {
		s.t.Fatal(err)
	}
}

func TestReferencesPassOverWhatIsDead(t *testing.T) {
	for _, request := range []string{"/stale", "/garbage", "/number"} {
		t.Run(request[1:], func(t *testing.T) {
			s := start(t, nil)
			s.Get(request)
			s.collect()
			if found := s.holders(); len(found) != 0 {
				t.Errorf("nobody holds it, but:\n%s", where(found))
			}
		})
	}
}
