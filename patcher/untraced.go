package patcher

import (
	"bytes"
	"context"
	"fmt"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/redirect"
)

// storeUntraced carries the switching out in two steps if that can be: the entries
// are led to the stubs, and when letGo has been called one store sets the switch.
// Otherwise it does what carryOut does.
func (s *switching) storeUntraced(ctx context.Context, letGo func() error) error {
	if !s.isOneStore() {
		if !s.isOneStoreOnceLed() {
			return s.carryOut(ctx)
		}
		if err := s.e.lead(ctx, s.id); err != nil {
			return err
		}
		led, err := s.e.switching(s.op, s.id, len(s.off) > 0)
		if err != nil {
			return err
		}
		*s = *led
		if !s.isOneStore() {
			return s.carryOut(ctx)
		}
	}
	before, err := s.e.seen()
	if err != nil {
		return err
	}
	if err := letGo(); err != nil {
		return err
	}
	// Nobody traced the target for a moment.
	after, err := s.e.seen()
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		s.e.failed = finding.Refuse(finding.Busy,
			fmt.Sprintf("patch %s was not activated: somebody else has changed the patches meanwhile", s.id), "look at them with darn list, and try again")
		return s.e.failed
	}
	if err := s.e.alive(); err != nil {
		return err
	}
	if err := s.store(); err != nil {
		return err
	}
	// This takes no debugger either, but the resident thread: the last that it does. Who
	// looks on keeps other Darns away meanwhile.
	s.e.straightenLast()
	_ = s.e.dismiss() // Close tries again
	return nil
}

// isOneStoreOnceLed tells whether isOneStore will when the entries lead to the
// patch's stubs.
func (s *switching) isOneStoreOnceLed() bool {
	for _, p := range s.changed() {
		for _, f := range p.Functions {
			if s.reg.redirect(f.Entry).Encoding == redirect.DirectEncoding {
				return false
			}
		}
	}
	if !s.on || s.was || len(s.links) > 0 {
		return false
	}
	led := *s
	led.entries = nil
	return led.isOneStore()
}

// seen is the state of all patches as it stands in the target: the registry and
// the switches.
func (e *Engine) seen() ([]byte, error) {
	state, err := e.arena.Load()
	if err != nil {
		return nil, err
	}
	var switches []arena.Position
	for _, p := range e.reg.Patches {
		switches = append(switches, arena.Position{Switch: p.Switch, On: e.arena.Switch(p.Switch)})
	}
	return fmt.Appendf(state[:len(state):len(state)], "%v", switches), nil
}
