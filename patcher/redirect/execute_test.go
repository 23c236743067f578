package redirect

import (
	"bytes"
	"testing"
)

// memory is where redirects are really written and run.
type memory interface {
	// write changes any mapped bytes, text included.
	write(t testing.TB, addr uint64, data []byte)
	// place returns the address of n fresh bytes of r-x memory near the text.
	place(t testing.TB, n int) uint64
}

// installed is a redirect that has been written.
type installed struct {
	mem     memory
	plan    *Plan
	newCode uint64
	stub    uint64
	sw      uint64
}

// install redirects the function of plan p to newCode, switched off.
func install(t testing.TB, mem memory, p *Plan, newCode uint64) *installed {
	t.Helper()
	in := &installed{mem: mem, plan: p, newCode: newCode}
	if p.Encoding == JumpEncoding {
		in.writeStub(t, 0)
		code, err := p.Jump(in.stub)
		if err != nil {
			t.Fatal(err)
		}
		mem.write(t, p.Entry+uint64(p.Offset), code)
	}
	return in
}

// stack puts another redirect above in, whose stub goes on to in's.
func (in *installed) stack(t testing.TB, newCode uint64) *installed {
	t.Helper()
	above := &installed{mem: in.mem, plan: in.plan, newCode: newCode}
	above.writeStub(t, in.stub)
	code, err := in.plan.Jump(above.stub)
	if err != nil {
		t.Fatal(err)
	}
	in.mem.write(t, in.plan.Entry+uint64(in.plan.Offset), code)
	return above
}

// thunk is where in's own thunk is: right behind its stub.
func (in *installed) thunk() uint64 { return in.stub + StubSize }

// writeStub writes a stub and its thunk. next is where the stub goes on to, 0 for
// the thunk.
func (in *installed) writeStub(t testing.TB, next uint64) {
	t.Helper()
	in.sw = in.mem.place(t, 1)
	in.stub = in.mem.place(t, StubSize+ThunkSize)
	if next == 0 {
		next = in.thunk()
	}
	stub, err := Stub(in.stub, in.sw, in.newCode, next)
	if err != nil {
		t.Fatal(err)
	}
	thunk, err := in.plan.Thunk(in.thunk())
	if err != nil {
		t.Fatal(err)
	}
	in.mem.write(t, in.stub, append(stub, thunk...))
}

// set switches the redirect.
func (in *installed) set(t testing.TB, on bool) {
	t.Helper()
	switch {
	case in.plan.Encoding == JumpEncoding && on:
		in.mem.write(t, in.sw, []byte{1})
	case in.plan.Encoding == JumpEncoding:
		in.mem.write(t, in.sw, []byte{0})
	case on:
		code, err := in.plan.Jump(in.newCode)
		if err != nil {
			t.Fatal(err)
		}
		in.mem.write(t, in.plan.Entry+uint64(in.plan.Offset), code)
	default:
		in.restore(t)
	}
}

// restore gives the entry its old bytes back.
func (in *installed) restore(t testing.TB) {
	t.Helper()
	in.mem.write(t, in.plan.Entry+uint64(in.plan.Offset), bytes.Clone(in.plan.Old))
}
