package meter

import (
	"errors"
	"fmt"

	"github.com/go-delve/delve/service/api"
	"github.com/go-delve/delve/service/debugger"

	"github.com/darn-dev/darn/patcher/process"
)

// Delve is a process that a Delve debugger of its own has attached to, and lets
// run but in a Halt.
type Delve struct {
	debugger *debugger.Debugger
	stopped  chan error // one for each time it ran
}

// AttachDelve attaches to a process as dlv does.
func AttachDelve(pid int) (*Delve, error) {
	d, err := debugger.New(&debugger.Config{Backend: "native", AttachPid: pid, CheckGoVersion: true, WorkingDir: "."}, nil)
	if err != nil {
		return nil, err
	}
	delve := &Delve{d, make(chan error, 1)}
	return delve, delve.run()
}

// run returns when the process runs.
func (d *Delve) run() error {
	running := make(chan struct{})
	go func() {
		_, err := d.debugger.Command(&api.DebuggerCommand{Name: api.Continue}, running, nil, nil)
		d.stopped <- err
	}()
	select {
	case <-running:
		return nil
	case err := <-d.stopped:
		return fmt.Errorf("delve: it does not run on: %w", err)
	}
}

func (d *Delve) stop() error {
	if _, err := d.debugger.Command(&api.DebuggerCommand{Name: api.Halt}, nil, nil, nil); err != nil {
		return err
	}
	return <-d.stopped
}

// Halt stops the process as an editor's pause button does, and lets it run on.
func (d *Delve) Halt() error {
	if err := d.stop(); err != nil {
		return err
	}
	return d.run()
}

// Detach lets the process go.
func (d *Delve) Detach() error {
	err := d.stop()
	group, unlock := d.debugger.LockTargetGroup()
	err = errors.Join(err, process.DrainTraps(group))
	unlock()
	return errors.Join(err, d.debugger.Detach(false))
}
