package adapter

import (
	"encoding/json"
	"errors"

	"github.com/go-delve/delve/service/debugger"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/process"
)

// What the session needs of a target whose threads come and go, as of a server that
// makes one for each request: see process.ReadByLeader and process.Unstick. Where
// Delve lets the target go on by itself, at a breakpoint whose condition does not hold,
// nobody is asked, and it reads memory by the thread that was there.

// attachAgain has the session attach once more if it could not because a thread has
// ended in that instant. It is called when the session says so, in its goroutine.
func (p *proxy) attachAgain(h *header) bool {
	var body dap.ErrorResponseBody
	_ = json.Unmarshal(h.Body, &body)
	p.mu.Lock()
	defer p.mu.Unlock()
	if body.Error == nil || p.debugger != nil || !process.RetryAttach(processID(p.launch), errors.New(body.Error.Format), p.attempts) {
		return false
	}
	p.attempts++
	p.inner.send(marshal(map[string]any{
		"seq": h.RequestSeq, "type": "request", "command": h.Command, "arguments": p.launch,
	}))
	return true
}

// readByLeader is called when the session reports a stop, in its goroutine.
func (p *proxy) readByLeader(dbg *debugger.Debugger) {
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	process.ReadByLeader(group.Selected)
}
