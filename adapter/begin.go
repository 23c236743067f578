package adapter

import (
	"encoding/json"
	"errors"

	"github.com/go-delve/delve/pkg/logflags"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/process"
)

// refusesStart answers a request to attach or to launch that the guard refuses,
// or is about a process that the user may not touch: the session is not asked.
// Another one is under way until started or notStarted.
func (p *proxy) refusesStart(h *header) bool {
	pid := 0
	if h.Command == "attach" {
		pid = max(processID(h.Arguments), 0)
	}
	act, err := p.guard.Begin(h.Command, pid, false)
	if err == nil && pid != 0 {
		if err = process.CheckOwner(pid); err != nil {
			_ = act.End(err)
		}
	}
	if err == nil && pid != 0 {
		process.EndWatch(pid)
	}
	if err != nil {
		p.refuse(h, err)
		return true
	}
	p.startGuard(pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting = act
	return false
}

// processID is the process that a request to attach names, 0 if it names none: the
// session says what is wrong.
func processID(arguments json.RawMessage) int {
	var a struct {
		ProcessID int `json:"processId"`
	}
	_ = json.Unmarshal(arguments, &a)
	return a.ProcessID
}

// startGuard makes the guardian of a process that is about to be attached to, for
// the case that the adapter is killed. The session goes without if need be.
func (p *proxy) startGuard(pid int) {
	p.mu.Lock()
	guarded := p.guardian != nil
	p.mu.Unlock()
	if pid == 0 || guarded { // the session refuses a second target
		return
	}
	p.guardBy(process.StartGuard, pid)
}

// guardLaunched makes the guardian of a process that the session has launched, or
// launched again.
func (p *proxy) guardLaunched(pid int) {
	p.mu.Lock()
	attached := p.attached
	p.mu.Unlock()
	if attached {
		return // startGuard has seen to it
	}
	p.endGuard()
	p.guardBy(process.StartLaunchedGuard, pid)
}

func (p *proxy) guardBy(start func(pid int) (*process.Guard, error), pid int) {
	guardian, err := start(pid)
	if err != nil {
		logflags.DebuggerLogger().Errorf("process %d goes unguarded: %v", pid, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guardian = guardian
}

// protectLaunched has the guardian's handler put into a target that was launched and
// has stopped on its way. Called without p.mu.
func (p *proxy) protectLaunched() {
	p.mu.Lock()
	guarded := !p.attached && p.guardian != nil
	p.mu.Unlock()
	if guarded {
		if err := process.Protect(debuggerOf(p.session)); err != nil {
			logflags.DebuggerLogger().Errorf("a killed adapter may take the program along: %v", err)
		}
	}
}

// endGuard ends the guardian, which takes out of the target what is there for its
// sake: Delve traces it no more.
func (p *proxy) endGuard() {
	p.mu.Lock()
	guardian := p.guardian
	p.guardian = nil
	p.mu.Unlock()
	guardian.Close()
}

// started notes that there is a target. Called with p.mu held.
func (p *proxy) started(pid int) {
	if p.starting != nil {
		p.starting.Process(pid)
		_ = p.starting.End(nil)
		p.starting = nil
	}
}

// notStarted notes that the session has refused to attach or to launch. Called
// with p.mu held.
func (p *proxy) notStarted(h *header) {
	if p.starting != nil && !h.Success && (h.Command == "attach" || h.Command == "launch") {
		var body dap.ErrorResponseBody
		_ = json.Unmarshal(h.Body, &body)
		reason := "the debug session has refused it"
		if body.Error != nil {
			reason = body.Error.Format
		}
		_ = p.starting.End(errors.New(reason))
		p.starting = nil
		if p.debugger == nil {
			p.guardian.Close()
			p.guardian = nil
		}
	}
}
