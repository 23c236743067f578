package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// A halt must be invisible to the client, and the session must neither lose a
// stop that happens at the same moment nor report one that did not happen.
//
// The session halts a running target itself in one case: to set breakpoints.
// It does so under the lock that it keeps between the stops of the target and
// their reports, and lets the target go on when it has sent the response.
// Darn's halt is such a request: setBreakpoints without a path, which changes
// nothing and is answered with an error. The response is kept waiting in its
// write (sessionConn.deliver) for as long as the target is to stay halted: in
// this time the session can do nothing, and the goroutine of its that runs the
// target waits for the same lock. If the target was stopped already, the same
// request keeps the session from resuming it. Requests of the client queue up
// behind it and meet the session as it was.
//
// What is left is when the target stops by itself at the very moment:
//   - at a breakpoint: the session reports the stop, but takes it for a pause.
//     The halt sees what it was (stopreason.go), the report is put right.
//   - at the end of a step: the session would take it for a halt and resume.
//     Hence no halt while a step is under way: it is waited for.
//   - either way the trap that was to stop the target is still pending and
//     would hit it later; process.DrainTraps takes it.
//
// While the session is in a standstill (still.go) no request is needed, and
// none would be answered: a hold joins it.

// hold is a session kept from doing anything.
type hold struct {
	asked    time.Time
	wasRun   bool          // the target ran, as far as was known
	run      int           // in which run of it
	arrived  chan error    // the outcome; buffered
	judged   chan struct{} // closed when coincided is known
	released chan struct{}
	judge    sync.Once
	release  sync.Once

	// What follows is guarded by proxy.mu.
	joined   *standstill // instead of the request, if that was made at all
	answered bool
	late     bool // the answer, if there will be one, comes after the end
}

// holdPatience is for how long a hold waits for the session, which may be busy
// with a request of the client's, such as a function call in the target.
const holdPatience = 30 * time.Second

// holdSession returns when the session can't do anything and the target is
// stopped; nothing is locked. letGo ends it and must be called.
func (p *proxy) holdSession(ctx context.Context) (h *hold, err error) {
	select {
	case p.holding <- struct{}{}:
	case <-ctx.Done():
		return nil, finding.Refuse(finding.Busy, "another operation holds the target: "+ctx.Err().Error(), "try again when it has ended")
	}
	defer func() {
		if err != nil {
			<-p.holding
		}
	}()

	p.mu.Lock()
	if !p.waitFor(ctx, stepPatience, func() bool { return !p.stepping || p.still.open() }) {
		p.mu.Unlock()
		return nil, finding.Refuse(finding.Busy,
			"a step is under way and has not come to its end",
			"let it end, or pause, and try again")
	}
	if err := p.ready(); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	h = &hold{
		asked:    time.Now(),
		wasRun:   p.phase == running,
		run:      p.run,
		arrived:  make(chan error, 1),
		judged:   make(chan struct{}),
		released: make(chan struct{}),
	}
	joined := p.join(h)
	if !joined {
		p.hold = h
		asked := h // which a late answer finds, whatever is returned
		p.ask("setBreakpoints", dap.SetBreakpointsArguments{}, func(response *header) { p.answer(asked, response) })
	}
	changed := p.changed
	p.mu.Unlock()

	patience := time.NewTimer(holdPatience)
	defer patience.Stop()
	for waits := !joined; waits; {
		waits = false
		select {
		case err = <-h.arrived:
		case <-changed:
			p.mu.Lock()
			joined = p.join(h)
			changed, waits = p.changed, !joined
			p.mu.Unlock()
		case <-patience.C:
			err = finding.Refuse(finding.Busy, "the session is busy with another request", "try again when it has ended")
		case <-ctx.Done():
			err = finding.Refuse(finding.Busy, "the session is busy with another request: "+ctx.Err().Error(), "try again when it has ended")
		case <-p.done:
			err = finding.Refuse(finding.TargetExited, "the debug session has ended", "attach again")
		}
	}
	if err == nil {
		err = p.examine(h)
	}
	if err != nil {
		p.forget(h)
		return nil, err
	}
	return h, nil
}

// examine looks into the target that was just stopped, and leaves it clean.
func (p *proxy) examine(h *hold) error {
	group, unlock := p.debugger.LockTargetGroup()
	defer unlock()
	if ok, err := group.Valid(); !ok {
		return finding.Refuse(finding.TargetExited, "the target has exited: "+err.Error(), "start it again")
	}
	p.mu.Lock()
	alone := h.joined == nil || h.late // the stop is the hold's own
	p.mu.Unlock()
	if h.wasRun && alone {
		reason := coincidence(group, p.threads.idOf)
		p.mu.Lock()
		// A stop that was reported as what it was may be over by now.
		if h.run == p.run {
			p.halted = true
			if reason != nil {
				p.coincided = reason
			}
		}
		p.mu.Unlock()
	}
	if alone {
		h.judge.Do(func() { close(h.judged) })
	}
	return process.DrainTraps(group)
}

// answer gets the response to the request. It returns when the session may go
// on.
func (p *proxy) answer(h *hold, response *header) {
	p.mu.Lock()
	late := h.late
	if late {
		// The hold is over, but the request has halted the target all the same.
		h.wasRun, h.run = true, p.run
	}
	h.answered = true
	p.mu.Unlock()
	if late {
		_ = p.examine(h)
		h.judge.Do(func() { close(h.judged) })
		return
	}
	var body dap.ErrorResponseBody
	_ = json.Unmarshal(response.Body, &body)
	if body.Error == nil || !strings.HasSuffix(body.Error.Format, ": empty file path") {
		// The halt itself failed: the target has exited.
		text := "no response"
		if body.Error != nil {
			text = body.Error.Format
		}
		h.arrived <- finding.Refuse(finding.TargetExited, "the target can't be halted: "+text, "see whether it still runs")
		return
	}
	h.arrived <- nil
	<-h.released
}

// forget lets the session go on, now or when it comes to the hold.
func (p *proxy) forget(h *hold) {
	p.mu.Lock()
	h.late = !h.answered
	if h.joined != nil {
		h.joined.users--
		p.broadcast()
	}
	late := h.late
	p.mu.Unlock()
	if !late {
		h.judge.Do(func() { close(h.judged) })
	}
	h.release.Do(func() { close(h.released) })
}

// letGo ends a hold.
func (p *proxy) letGo(h *hold) {
	p.forget(h)
	<-p.holding
}

// Halt implements process.Halter. See there, and above for how it works.
//
// It is refused with busy if a step is under way and doesn't end, or if the
// session doesn't come to the request, with target-exited if the target has
// exited, and with wrong-state if there is no target yet.
func (p *proxy) Halt(ctx context.Context) (*process.Stop, error) {
	h, err := p.holdSession(ctx)
	if err != nil {
		return nil, err
	}
	group, unlock := p.debugger.LockTargetGroup()
	pid := group.Selected.Pid() // which the session may alter when it goes on
	return &process.Stop{
		Group:      group,
		WasRunning: h.wasRun,
		Since:      h.asked,
		Release: func() error {
			p.mu.Lock()
			p.seePlaces(group)
			p.mu.Unlock()
			process.ReadByLeader(group.Selected)
			unlock()
			p.letGo(h)
			if h.wasRun && h.joined == nil {
				p.awaitRun(pid)
			}
			return nil
		},
	}, nil
}

// awaitRun returns when a target that was let go runs again, so that a halt is
// measured to its end, or when it has stopped for the client.
func (p *proxy) awaitRun(pid int) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		stat, err := os.ReadFile(path)
		if err != nil {
			return
		}
		// The state comes after the name, which may hold anything.
		if i := bytes.LastIndexByte(stat, ')'); i < 0 || !bytes.HasPrefix(stat[i:], []byte(") t")) {
			return
		}
		p.mu.Lock()
		runs := p.phase == running
		p.mu.Unlock()
		if !runs {
			return
		}
	}
}
