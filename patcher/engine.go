// Package patcher live-patches a process: it loads prebuilt modules into it,
// switches them on and off and takes them out again. It knows processes and
// machine code, and nothing of the debug adapter protocol.
//
// Every operation prepares and checks everything while the target runs, does
// the least under a halt or none, and either completes or leaves the target as
// it was. What was done stands in a registry inside the target, so that the
// next Darn that attaches can go on.
package patcher

import (
	"context"
	"fmt"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/goruntime"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/process"
)

// Engine patches one process. Its methods may be called from several
// goroutines; one operation runs at a time, a second one waits for it until
// its context ends and is then refused with busy.
type Engine struct {
	turn chan struct{} // holds one token: the right to run an operation

	p      *process.Process
	exe    *exe.Executable
	rt     *goruntime.Runtime
	target *link.ProcessTarget
	arena  *arena.Arena // nil until the first load
	reg    *registry    // what the arena holds
}

// Open makes an Engine for a process, which may be stopped or running; if
// running it is halted once to read the layout of its Go runtime. If an
// earlier Darn left patches in it they are taken over, and a transition that
// it left half done is rolled back.
//
// It is refused with unsupported-target if the process is not one that can be
// patched, and with target-exited if it ends.
func Open(p *process.Process) (*Engine, error) {
	x, err := exe.Open(p.ExePath())
	if err != nil {
		return nil, err
	}
	e := &Engine{turn: make(chan struct{}, 1), p: p, exe: x, reg: &registry{Version: registryVersion}}
	if err := e.open(); err != nil {
		x.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) open() error {
	if e.exe.GoBuildID == "" {
		return finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("process %d is not a Go program", e.p.Pid()),
			"only Go programs can be patched so far")
	}
	err := e.p.Halt(context.Background(), func(h *process.Halt) (err error) {
		e.rt, err = goruntime.Open(h)
		return err
	})
	if err != nil {
		return err
	}
	if e.target, err = link.NewTarget(e.exe, e.p, e.p.LoadBias()); err != nil {
		return err
	}
	e.target.FindItab, e.rt.Symbols = e.rt.Itab, e.exe
	return e.takeOver()
}

// Close lets go of the Engine's own resources. Patches stay as they are.
func (e *Engine) Close() error {
	if e.arena != nil {
		e.arena.Close()
	}
	return e.exe.Close()
}

// begin waits for the right to run an operation; the caller calls the
// returned function when it has ended.
func (e *Engine) begin(ctx context.Context) (end func(), err error) {
	select {
	case e.turn <- struct{}{}:
		return func() { <-e.turn }, nil
	case <-ctx.Done():
		return nil, finding.Refuse(finding.Busy, "another operation is under way: "+ctx.Err().Error(), "try again when it has ended")
	}
}

// List returns the patches in the process with their states. The target is
// not halted.
func (e *Engine) List(ctx context.Context) (*Listing, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	l := &Listing{
		Patches: []Patch{},
		Target: TargetInfo{
			PID:      e.p.Pid(),
			Language: "go",
			Version:  e.exe.BuildInfo.GoVersion,
			BuildID:  e.exe.GoBuildID,
		},
	}
	for _, p := range e.reg.Patches {
		l.Patches = append(l.Patches, *e.describe(p))
	}
	return l, nil
}

// describe makes a Patch of a record.
func (e *Engine) describe(p *patchRecord) *Patch {
	d := &Patch{ID: p.ID, Name: p.Name, Path: p.Path, State: e.state(p), Findings: p.Findings}
	for _, f := range p.Functions {
		d.Functions = append(d.Functions, Function{
			Name:            f.Symbol,
			Address:         f.Entry,
			NewAddress:      f.New,
			Source:          f.Source,
			Encoding:        f.Encoding,
			FramesInOldCode: f.OldFrames,
		})
	}
	return d
}

// state returns the state of p. The switch is the truth: it is in the
// target, and a Darn killed between a store and its record can't lie.
func (e *Engine) state(p *patchRecord) State {
	if e.arena.Switch(p.Switch) {
		return Active
	}
	return Loaded
}

// alive refuses with target-exited if the target has ended: a store into a
// switch would not notice.
func (e *Engine) alive() error {
	return e.p.ReadMemory(make([]byte, 1), e.target.Text().Start)
}
