package adapter

import (
	"context"
	"encoding/json"
	"time"

	"github.com/darn-dev/darn/patcher/finding"
)

// phase is where a session stands, as far as its messages show.
type phase int

const (
	starting phase = iota // no debugger yet
	stopped               // also before configurationDone
	running
	ended // the target has exited, or was detached from
)

// state follows the session by its messages: those on their way to it and
// those that it sends. All of it is guarded by proxy.mu.
type state struct {
	phase   phase
	noDebug bool
	// withoutResident is set if there must be no thread of Darn's in the target.
	withoutResident bool
	// interested is set when the client has made a request of Darn's, or debugs by its
	// type.
	interested bool
	// attached is set if the target lived before the session.
	attached bool
	// standing is set from the time on at which the session has said that the target
	// has stopped, a little before phase, until it is resumed.
	standing bool
	// resume is the sequence number of the request that made the target run.
	resume int
	// stepping is set while a step is under way. A halt in this time could
	// swallow the end of the step.
	stepping bool
	// interrupted is set if the last stop may have left a step unfinished,
	// which the next continue then finishes.
	interrupted bool
	// pausing is set from a request to stop until the stop.
	pausing bool
	// begun is the session's word that there is a new target, which the client gets
	// after that of the old one's stop.
	begun []byte
	// run counts how often the target was resumed by request.
	run int
	// halted tells whether there was a halt in this run.
	halted bool
	// coincided is the stop that a halt met, until it is reported.
	coincided *stopReason
	// quiescing is set when the session is about to end: its last stop is the
	// proxy's own.
	quiescing bool
	// still is the standstill of the session, if there is one.
	still *standstill
	// lastSets are the client's last requests to set breakpoints, by setKey.
	lastSets map[string]*header
	// setting counts those that the session has not answered.
	setting int
	// sight is what was last seen of the breakpoints.
	sight sight
	// launch is what the target was launched with.
	launch json.RawMessage
	// substitute are the client's rules to turn its paths into the program's.
	substitute [][2]string
	// changed is closed at the next change of phase, stepping or still.
	changed chan struct{}
}

func (s *state) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// forwarded notes a request that is about to be passed to the session.
// stepGoesOn tells that the target is in an unfinished step.
func (p *proxy) forwarded(h *header, stepGoesOn bool) {
	switch h.Command {
	case "launch", "attach":
		p.attached = h.Command == "attach"
		p.noDebug = noDebug(h)
		p.launch, p.attempts = h.Arguments, 0
		p.substitute = substitutePath(h)
		p.withoutResident = p.withoutResident || residentForbidden(h)
		p.interested = p.interested || debugsByDarn(h)
	case "pause", "restart", "disconnect":
		p.pausing = p.phase == running
		if h.Command == "restart" {
			p.sight = sight{stale: true} // the next process has its breakpoints elsewhere
		}
	case "configurationDone", "continue", "reverseContinue":
		p.resumed(h, stepGoesOn)
	case "next", "stepIn", "stepOut", "stepBack":
		p.resumed(h, true)
	}
}

func (p *proxy) resumed(h *header, stepping bool) {
	if p.phase != stopped {
		return // the session refuses it
	}
	p.phase, p.resume, p.stepping, p.standing = running, h.Seq, stepping, false
	p.run++
	p.halted, p.coincided, p.interrupted = false, nil, false
	p.broadcast()
}

// stepGoesOn reports whether the target would finish a step if it were
// continued. It must be called without p.mu: the session locks the target
// while it sends some messages, each of which takes p.mu.
func (p *proxy) stepGoesOn() bool {
	p.mu.Lock()
	possible := p.interrupted && p.phase == stopped
	p.mu.Unlock()
	if !possible {
		return false
	}
	group, unlock := p.debugger.LockTargetGroup()
	defer unlock()
	return group.HasSteppingBreakpoints()
}

// answered notes a response of the session's.
func (p *proxy) answered(h *header) {
	if h.RequestSeq == p.resume && !h.Success && p.phase == running {
		p.phase, p.stepping, p.pausing, p.standing = stopped, false, false, true
		p.broadcast()
	}
}

// stoppedFor notes that the target stopped.
func (p *proxy) stoppedFor(reason string) {
	if p.phase != running {
		return
	}
	p.interrupted = p.stepping && reason != "step" && reason != "pause"
	p.phase, p.stepping, p.pausing = stopped, false, false
	p.broadcast()
}

// stepPatience is for how long a halt waits for the end of a step.
var stepPatience = 5 * time.Second

// quickStep is for how long a request for breakpoints waits for the end of a step.
const quickStep = 200 * time.Millisecond

// letStepEnd waits for the end of a step that is about to end, as most are: where
// the session halts the target at that moment, to set breakpoints, it takes the
// step's end for its own halt, and the client never hears of it.
func (p *proxy) letStepEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waitFor(context.Background(), quickStep, func() bool { return !p.stepping })
}

// waitFor waits until ok, which is called with p.mu held, holds; it returns
// false when d is over, ctx ends or the session does. It is called and returns
// with p.mu held.
func (p *proxy) waitFor(ctx context.Context, d time.Duration, ok func() bool) bool {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for !ok() {
		changed := p.changed
		p.mu.Unlock()
		again := false
		select {
		case <-changed:
			again = true
		case <-timeout.C:
		case <-ctx.Done():
		case <-p.done:
		}
		p.mu.Lock()
		if !again {
			return ok()
		}
	}
	return true
}

// ready refuses what needs a live target if there is none.
func (p *proxy) ready() error {
	switch {
	case p.noDebug:
		return finding.Refuse(finding.WrongState,
			"the program was launched with noDebug: nothing is attached to it",
			"launch it without noDebug, or attach to it")
	case p.phase == starting:
		return finding.Refuse(finding.WrongState, "there is no target yet", "launch or attach first")
	case p.phase == ended:
		return finding.Refuse(finding.TargetExited, "the target has exited", "start it again; patches of a process end with it")
	}
	return nil
}

// hasBreakpoints tells whether the client has breakpoints on lines or functions.
func (p *proxy) hasBreakpoints() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, set := range p.lastSets {
		var a struct {
			Breakpoints []json.RawMessage `json:"breakpoints"`
		}
		if set.Command != "setInstructionBreakpoints" && json.Unmarshal(set.Arguments, &a) == nil && len(a.Breakpoints) > 0 {
			return true
		}
	}
	return false
}
