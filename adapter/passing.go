package adapter

import (
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/debugger"

	"github.com/darn-dev/darn/patcher/process"
)

// What the session needs of a target whose threads come and go, as of a server that
// makes one for each request: see process.ReadByLeader and process.Unstick. Where
// Delve lets the target go on by itself, at a breakpoint whose condition does not hold,
// it is as it is.

// readByLeader is called when the session reports a stop, in its goroutine.
func (p *proxy) readByLeader(dbg *debugger.Debugger) {
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	if ok, _ := group.Valid(); ok {
		process.ReadByLeader(group.Selected)
	}
}

// unstick looks after the stops of a target until that or the session ends.
func (p *proxy) unstick(target *proc.Target) {
	pid := target.Pid()
	tick := time.NewTicker(process.UnstickAfter)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		over := p.pid != 0 && p.pid != pid
		p.mu.Unlock()
		if over || !process.Unstick(target) {
			return
		}
	}
}
