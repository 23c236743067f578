package adapter

import (
	"context"
	"time"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/process"
)

// standstill is the time in which the session is kept in the write of a message
// that it sends while the target is stopped, in the goroutine that would resume
// it. It can send nothing meanwhile, so it answers nothing and does not resume.
type standstill struct {
	since time.Time
	// The rest is guarded by proxy.mu.
	users int  // holds
	told  bool // one of them measures it from its beginning
	over  bool
	// stopped tells that the target has stopped for the client, not for Darn.
	stopped bool
}

// open tells whether a hold can join it. Called with proxy.mu held.
func (s *standstill) open() bool { return s != nil && !s.over }

// standStill runs f in a standstill. It is called in the session's goroutine,
// from within the write, without p.mu; f may wait for goroutines that halt the
// target.
func (p *proxy) standStill(f func()) { p.standWhile(false, f) }

// standStillStopped is standStill where the target stays stopped afterwards.
func (p *proxy) standStillStopped(f func()) { p.standWhile(true, f) }

func (p *proxy) standWhile(stopped bool, f func()) {
	p.mu.Lock()
	s := &standstill{since: time.Now(), stopped: stopped}
	p.still = s
	p.broadcast()
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.over = true
	// What is still at work has the target locked, and the session waits.
	p.waitFor(context.Background(), holdPatience, func() bool { return s.users == 0 })
	p.still = nil
}

// join makes h a part of a standstill, if there is one. Called with p.mu held.
func (p *proxy) join(h *hold) bool {
	if !p.still.open() {
		return false
	}
	h.joined = p.still
	h.joined.users++
	h.wasRun = h.wasRun && !h.joined.stopped
	if !h.joined.told {
		h.joined.told = true
		h.asked = h.joined.since
	}
	return true
}

// withTarget runs f with the target stopped and locked, in every state of the
// session, and returns what that took of the target's time.
func (p *proxy) withTarget(ctx context.Context, f func(*proc.TargetGroup) error) (process.HaltStats, error) {
	stop, err := p.Halt(ctx)
	if err != nil {
		return process.HaltStats{}, err
	}
	threads := len(stop.Group.Selected.ThreadList())
	p.patches.images.takeIn(stop.Group.Selected)
	err = f(stop.Group)
	_ = stop.Release() // has no error
	if !stop.WasRunning {
		return process.HaltStats{}, err
	}
	took := time.Since(stop.Since)
	return process.HaltStats{Halts: 1, Total: took, Max: took, ThreadsHalted: threads}, err
}
