package process

// Steadier is a Halter that can see to it that no breakpoint comes or goes while
// the target runs.
type Steadier interface {
	// Steady runs fn while the debugger, which goes on, sets and clears no
	// breakpoint in the words of eight bytes at the given addresses, and returns
	// what fn does. why is not empty, and fn was not run, if that can't be had at
	// once.
	Steady(words []uint64, fn func() error) (why string, err error)
}

// Steady runs fn, which changes aligned words of eight bytes at the given addresses
// and no other code, while no breakpoint is in them, comes or goes and nobody halts
// the target through p. why says why fn was not run, if it was not: then do what fn
// does under a Halt. The target runs or is stopped.
func (p *Process) Steady(words []uint64, fn func() error) (why string, err error) {
	if s, ok := p.halter.(Steadier); ok {
		return s.Steady(words, fn)
	}
	return "the debugger may have breakpoints in the bytes that change", nil
}

// Steady implements Steadier: without a debug session there are no breakpoints.
func (t *tracer) Steady(_ []uint64, fn func() error) (why string, err error) { return "", fn() }
