package adapter

import "encoding/json"

// Steady implements process.Steadier. What is written into the program while it
// runs must not lie under a breakpoint of Delve's: that has a copy of the byte that it
// hides, and lifts and sets breakpoints whenever a thread passes one. Delve's list of
// them is locked as long as the target runs. So it is only held if there are none, as
// far as the session's messages show, and the messages wait until fn is done.
func (p *proxy) Steady(fn func() error) (held bool, err error) {
	select {
	case p.holding <- struct{}{}:
	default:
		return false, nil
	}
	defer func() { <-p.holding }()
	if p.patches.watches.any() {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.withoutBreakpoints() {
		return false, nil
	}
	return true, fn()
}

// withoutBreakpoints tells whether the target runs, no breakpoint is set in it and no
// request that sets or clears any is under way. Called with p.mu held.
func (p *proxy) withoutBreakpoints() bool {
	if p.phase != running || p.stepping || p.interrupted || p.pausing || p.quiescing || p.still != nil || len(p.waiting) > 0 || p.setting > 0 {
		return false
	}
	for _, set := range p.lastSets {
		var a struct {
			Breakpoints []json.RawMessage `json:"breakpoints"`
			Lines       []int             `json:"lines"`
		}
		if json.Unmarshal(set.Arguments, &a) != nil || len(a.Breakpoints)+len(a.Lines) > 0 {
			return false
		}
	}
	return true
}

// any tells whether Darn has breakpoints of its own.
func (w *watches) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.places()) > 0
}
