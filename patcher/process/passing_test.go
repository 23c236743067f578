package process

import (
	"context"
	"go/parser"
	"testing"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/pkg/proc/native"
	"golang.org/x/sys/unix"

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

// TestUnstickLeavesAloneWhatIsNotStuck: a breakpoint whose condition does not hold stops
// the threads all the time, and Delve has them go on.
func TestUnstickLeavesAloneWhatIsNotStuck(t *testing.T) {
	target := targettest.Start(t, targettest.Command{Path: targettest.Build(t, "cthreads.c", "-g", "-lm")})
	target.Line("ready")
	group, err := native.Attach(target.Pid(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	never, err := parser.ParseExpr("1 == 2")
	if err != nil {
		t.Fatal(err)
	}
	p, err := identify(group.Selected, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.closeMemory()
	entry, _ := lookup(t, p, "answer")
	if _, err := group.Selected.SetBreakpoint(1, entry, proc.UserBreakpoint, never); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer close(done)
	go unstickEach(time.Millisecond, group.Selected, done)
	killed := make(chan error, 1)
	time.AfterFunc(4*time.Second, func() { killed <- unix.Kill(target.Pid(), unix.SIGKILL) })
	err = group.Continue() // what it says of the end depends on what it was about
	select {
	case err := <-killed:
		if err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("it was not traced until it was killed: %v", err)
	}
}
