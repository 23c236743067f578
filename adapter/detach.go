package adapter

import (
	"context"
	"time"

	"github.com/google/go-dap"
)

// quiescePatience is for how long a target may take to stop for a detach.
const quiescePatience = 10 * time.Second

// quiesce gets ready for the end of the session: operations are ended, and a
// target that will go on is stopped in a state in which Delve's detach, which
// follows, can't hurt it. Delve halts a running target for it as it does at
// any time, and a SIGTRAP left over would kill the target as soon as it is no
// longer traced. So would the breakpoints of a step that is not finished, which
// the detach leaves in the text.
func (p *proxy) quiesce(terminate bool) {
	p.patches.endOperations()
	p.patches.straighten()
	p.mu.Lock()
	if !p.attached || terminate || p.ready() != nil {
		p.mu.Unlock()
		p.patches.close()
		return
	}
	p.quiescing = true
	if p.phase == running {
		p.pausing = true
		p.ask("pause", dap.PauseArguments{}, func(*header) {})
		p.waitFor(context.Background(), quiescePatience, func() bool { return p.phase != running })
	}
	p.stepping = false
	p.mu.Unlock()
	p.patches.close() // what it takes away it does while the target stands still
	// A hold takes the pending signal. If there can't be one the target has
	// exited or the session is stuck: nothing more can be done for it.
	if h, err := p.holdSession(context.Background()); err == nil {
		_ = p.debugger.CancelNext()
		p.letGo(h)
	}
}
