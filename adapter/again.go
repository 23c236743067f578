package adapter

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	builder "github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/finding"
)

// A process that is restarted has none of its patches any more. The session
// remembers them, and offers to apply again those that fit the new process.

// losing notes that the target is about to be replaced by a new process.
func (s *patches) losing() {
	s.lostMu.Lock()
	defer s.lostMu.Unlock()
	if len(s.loaded) > 0 {
		s.lost, s.loaded = s.loaded, nil
	}
	s.toOffer = len(s.lost) > 0
}

// asBuilt has a request to restart the target leave it as it is built. Delve would
// build it again, which it can do with Go only, and end the session when that fails.
func (p *proxy) asBuilt(msg []byte) []byte {
	p.mu.Lock()
	launch := p.launch
	p.mu.Unlock()
	with := member(member(msg, "arguments"), "arguments")
	if with == nil {
		with = launch
	}
	for name, value := range map[string]any{"request": "launch", "rebuild": false} {
		if member(with, name) == nil {
			with = addMember(with, name, value)
		}
		with = edit(with, name, func([]byte) []byte { return marshal(value) })
	}
	return marshal(map[string]any{
		"seq": member(msg, "seq"), "type": "request", "command": "restart",
		"arguments": map[string]any{"arguments": with},
	})
}

// offer tells the client, when the new process has begun, which patches of the
// last one it could have again.
func (s *patches) offer() {
	s.lostMu.Lock()
	lost, wanted := s.lost, s.toOffer
	s.toOffer = false
	s.lostMu.Unlock()
	if !wanted {
		return
	}
	s.start(func(ctx context.Context) {
		e, err := s.open(ctx)
		if err != nil {
			return // and can't be patched
		}
		var text strings.Builder
		text.WriteString("Darn: the program was restarted without its patches.\n")
		fit := 0
		for i := range lost {
			p := &lost[i]
			if err := s.fits(ctx, e, p); err != nil {
				fmt.Fprintf(&text, "  %s (%s) does not fit any more: %v\n", p.Name, p.Path, err)
				continue
			}
			fit++
			fmt.Fprintf(&text, "  %s (%s) was %s\n", p.Name, p.Path, p.State)
		}
		if fit > 0 {
			text.WriteString("Type \"darn again\" into the debug console to apply again what fits.\n")
		}
		s.p.event("output", dap.OutputEventBody{Category: "console", Output: text.String()})
	})
}

// moduleFile returns the module that a patch was loaded from.
func moduleFile(p *patcher.Patch) (string, error) {
	path := builder.ModuleFile(p.Path, p.Module)
	if path == "" {
		return "", fmt.Errorf("its module file %s is gone", p.Path)
	}
	return path, nil
}

// fits returns why a patch of the last process can't be loaded into this one.
func (s *patches) fits(ctx context.Context, e *patcher.Engine, p *patcher.Patch) error {
	path, err := moduleFile(p)
	if err != nil {
		return err
	}
	act, err := s.p.guard.Begin("inspect", e.Target().PID, false)
	if err != nil {
		return err
	}
	act.Target(e.Target())
	i, err := inspect(ctx, e, act, path)
	if err != nil {
		return err
	}
	if !i.OK {
		for _, f := range i.Findings {
			if f.Severity == finding.Error {
				return fmt.Errorf("%s [%s]", f.Message, f.Code)
			}
		}
	}
	return nil
}

// again applies the patches of the last process that fit this one, and says
// what became of each.
func (s *patches) again(ctx context.Context) (string, error) {
	s.lostMu.Lock()
	lost := s.lost
	s.lostMu.Unlock()
	if len(lost) == 0 {
		return "", fmt.Errorf("there was no restart in this session, or the process before it had no patches: load one with darn load FILE")
	}
	var text strings.Builder
	for i := range lost {
		p := &lost[i]
		state, err := s.reapply(ctx, p)
		if err != nil {
			fmt.Fprintf(&text, "%s: %v\n", p.Name, err)
			continue
		}
		fmt.Fprintf(&text, "%s: %s\n", p.Name, state)
	}
	s.lostMu.Lock()
	s.lost = nil
	s.lostMu.Unlock()
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// reapply brings one patch into the state that it had.
func (s *patches) reapply(ctx context.Context, p *patcher.Patch) (patcher.State, error) {
	path, err := moduleFile(p)
	if err != nil {
		return "", err
	}
	body, err := s.answer(ctx, "darn/load", marshal(arguments{Path: path}))
	if err != nil {
		return "", err
	}
	now := body.(result).Patch
	if p.State != patcher.Active {
		return now.State, nil
	}
	if body, err = s.answer(ctx, "darn/activate", marshal(arguments{ID: now.ID})); err != nil {
		return "", fmt.Errorf("loaded, but not activated: %w", err)
	}
	return body.(result).Patch.State, nil
}
