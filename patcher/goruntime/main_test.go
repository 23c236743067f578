package goruntime

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/internal/targettest"
	"github.com/darn-dev/darn/patcher/process"
)

func TestMain(m *testing.M) {
	build.ToolMain()
	os.Exit(targettest.Run(m))
}

// subject is a program that holds addresses on request, and what is seen of it.
type subject struct {
	*targettest.Target
	t  testing.TB
	p  *process.Process
	rt *Runtime
}

func start(t testing.TB, flags []string, args ...string) *subject {
	t.Helper()
	return startProgram(t, targettest.Command{Path: targettest.Build(t, "runtime-holders", flags...), Args: args})
}

func startProgram(t testing.TB, c targettest.Command) *subject {
	t.Helper()
	target := targettest.Start(t, c)
	target.Line("addr ")
	p, err := process.Attach(target.Pid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
		target.MustLive()
	})
	s := &subject{Target: target, t: t, p: p}
	s.halt(func(h *process.Halt) error {
		var err error
		s.rt, err = Open(h)
		return err
	})
	return s
}

func (s *subject) halt(fn func(h *process.Halt) error) {
	s.t.Helper()
	if err := s.p.Halt(context.Background(), fn); err != nil {
		s.t.Fatal(err)
	}
}

// addr returns the address that the program printed after name.
func (s *subject) addr(name string) uint64 {
	s.t.Helper()
	a, err := strconv.ParseUint(s.Line(name+" "), 16, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// thing is a registration of the program's variable of that name, so that
// References tells who holds its address.
func (s *subject) thing() *Registration {
	a := s.addr("thing")
	return &Registration{Base: a, Size: 4096, Moduledata: s.rt.firstmoduledata, Segments: []Range{{Start: a, End: a + 4096}}}
}

// holders returns who holds the thing.
func (s *subject) holders() []Holder {
	s.t.Helper()
	var found []Holder
	s.halt(func(h *process.Halt) error {
		var err error
		found, _, err = s.rt.References(h, &Ledger{}, s.thing(), nil, nil)
		return err
	})
	return found
}

// where joins what holders say.
func where(holders []Holder) string {
	var b strings.Builder
	for _, h := range holders {
		b.WriteString(h.Where + "\n")
	}
	return b.String()
}
