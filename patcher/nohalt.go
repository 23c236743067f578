package patcher

import (
	"context"
	"fmt"
	"slices"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
)

// An activation without a halt leads the entries to the stubs one after the other,
// each by one store, and then sets the switch: until then every call runs what it
// ran before, whether its entry was led already or not. Nobody can be in the
// middle of an entry, and every core has seen all of them before the switch is set
// (resident.Store).
//
// A child that the program forks among the stores would have some of the entries,
// and it would follow the switch, running new code that calls old. So before the
// switch is set it is made sure that no child shares the pages that were written.
// One that was forked before the first store has none of the entries and is as one
// that was forked before the load.

// whyHalt says why the switching can't be carried out while the target runs, "" if
// it can.
func (s *switching) whyHalt() string {
	if why := s.e.needsHalt(); why != "" {
		return why
	}
	if len(s.off) > 0 {
		return "other patches are switched off at the same instant, and who asks the switches then has to be seen"
	}
	for _, c := range s.entries {
		d := c.redirect
		switch {
		case d.Encoding == redirect.SingleEncoding, d.Stored && len(s.patch().Functions) == 1:
			continue
		case d.Stored:
			return fmt.Sprintf("%s has no switch, and all functions of the patch are switched at the same instant: %s", s.name(d), d.Why)
		case d.Encoding == redirect.DirectEncoding:
			return fmt.Sprintf("the entry of %s can't be written while threads run: it has no switch: %s", s.name(d), d.Why)
		}
		return fmt.Sprintf("the entry of %s can't be written while threads run: %s", s.name(d), d.Why)
	}
	return ""
}

// whyLook says why it takes a halt to carry the switching out at an instant that was
// waited for.
func (s *switching) whyLook(quiet bool) string {
	if quiet {
		return "nobody may be in the code that is replaced, and that shows under a halt only"
	}
	if why := s.whyHalt(); why != "" {
		return why
	}
	return "it was waited for the instant, which does not last"
}

// name returns the name of a redirected function.
func (s *switching) name(d *redirectRecord) string {
	for _, p := range s.reg.Patches {
		if f := p.function(d.Entry); f != nil {
			return f.Symbol
		}
	}
	return fmt.Sprintf("%#x", d.Entry)
}

// withoutHalt carries the switching out while the target runs, if that can be.
// Otherwise nothing has changed, and s.because says why not.
func (s *switching) withoutHalt(ctx context.Context) (done bool, err error) {
	if s.because = s.whyHalt(); s.because != "" {
		return false, nil
	}
	now := make([][]byte, len(s.entries))
	for i, c := range s.entries {
		now[i] = c.redirect.Now
	}
	why, err := s.e.p.Steady(s.words(), func() error {
		s.steady = true
		defer func() { s.steady = false }()
		if err := s.prepare(); err != nil {
			return err
		}
		return s.rewrite(s.unshared)
	})
	if why != "" {
		s.because = why
		return false, nil
	}
	if err == nil || s.done {
		return err == nil, err
	}
	if len(s.undo) > 0 {
		// By the halt that is to follow anyway: there nothing is in the way.
		_ = s.e.p.HaltFor(ctx, err.Error(), func(h *process.Halt) error {
			s.h = h
			defer func() { s.h = nil }()
			err = s.rollback(err)
			return nil
		})
		err = s.rollback(err) // if it could not be halted
	}
	if s.e.failed != nil || finding.CodeOf(err) == finding.TargetExited {
		return false, err
	}
	for i, c := range s.entries {
		c.redirect.Now = now[i]
	}
	s.because = err.Error()
	return false, nil
}

// words returns the addresses of the aligned words in which code changes that
// threads may run meanwhile.
func (s *switching) words() (words []uint64) {
	add := func(at uint64, n int) {
		for w := at &^ 7; w < at+uint64(n); w += 8 {
			words = append(words, w)
		}
	}
	for _, w := range s.links {
		add(w.Addr, len(w.New))
	}
	for _, c := range s.entries {
		add(c.redirect.at(), len(c.want))
	}
	return words
}

// unshared returns an error if a child shares a page in which one of the writes is:
// it was forked after the first of them.
func (s *switching) unshared(writes []goruntime.Write) error {
	const page = 4096
	var pages []uint64
	for _, w := range writes {
		pages = append(pages, w.Addr/page, (w.Addr+uint64(len(w.New))-1)/page)
	}
	slices.Sort(pages)
	for _, n := range slices.Compact(pages) {
		own, err := s.e.p.Exclusive(n * page)
		if err != nil {
			return err
		}
		if !own {
			return fmt.Errorf("the program may have forked a child meanwhile, at %#x", n*page)
		}
	}
	return nil
}
