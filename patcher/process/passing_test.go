package process

import (
	"context"
	"testing"
	"time"

	"github.com/darn-dev/darn/patcher/internal/targettest"
)

// TestThreadsThatComeAndGo: a process is attached to, halted and let go while threads
// of it end in every instant of that, and goes on.
func TestThreadsThatComeAndGo(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "passing.c", "-pthread")})
	target.Line("ready")
	for range 5 {
		p, err := Attach(target.Pid())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if err := p.Halt(ctx, func(*Halt) error { return nil }); err != nil {
				t.Fatal(i, err)
			}
			cancel()
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	target.MustLive()
}
