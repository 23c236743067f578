package process

// Steadier is a Halter that can see to it that no breakpoint comes or goes while
// the target runs.
type Steadier interface {
	// Steady runs fn while the debugger, which goes on, sets and clears no
	// breakpoint, and returns what fn does. held is false, and fn was not run, if
	// that can't be had at once.
	Steady(fn func() error) (held bool, err error)
}

// Steady runs fn while no breakpoint comes or goes and nobody halts the target
// through p; what there is of them shows in memory. held is false, and fn was not
// run, if that can't be had: then do what fn does under a Halt.
func (p *Process) Steady(fn func() error) (held bool, err error) {
	if s, ok := p.halter.(Steadier); ok {
		return s.Steady(fn)
	}
	return false, nil
}

// Steady implements Steadier: without a debug session there are no breakpoints.
func (t *tracer) Steady(fn func() error) (held bool, err error) { return true, fn() }
