package adapter

// Steady implements process.Steadier. What is written into the program while it
// runs must not lie under a breakpoint of Delve's, nor in the same word of memory:
// that has a copy of the byte that it hides, lifts and sets breakpoints whenever a
// thread passes one, and writes the whole word for that. No breakpoint is in the
// words if none was when the target last stood still (sight.go): none comes meanwhile
// but by a step, or by messages, which wait until fn is done.
func (p *proxy) Steady(words []uint64, fn func() error) (why string, err error) {
	select {
	case p.holding <- struct{}{}:
	default:
		return "the debugger is at work in the program", nil
	}
	defer func() { <-p.holding }()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.phase != running || p.pausing || p.quiescing || p.still != nil:
		return "the debugger is about to stop the program, or has", nil
	case p.stepping || p.interrupted:
		return "a step is under way", nil
	case len(p.waiting) > 0 || p.setting > 0:
		return "the debugger is about to set breakpoints", nil
	case p.sight.near(words):
		return "a breakpoint is in the bytes that change, or beside them", nil
	}
	return "", fn()
}
