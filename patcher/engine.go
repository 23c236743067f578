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
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/exe"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/link"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
	"github.com/darn-dev/darn/patcher/redirect"
	"github.com/darn-dev/darn/patcher/resident"
)

// Engine patches one process. Its methods may be called from several
// goroutines; one operation runs at a time, a second one waits for it until
// its context ends and is then refused with busy.
type Engine struct {
	turn chan struct{} // holds one token: the right to run an operation

	// What follows is guarded by the turn.
	closed bool
	failed error // why the target is in no known state, if so

	p     *process.Process
	exe   *exe.Executable
	lang  language
	arena *arena.Arena     // nil while nothing is loaded
	reg   *registry        // what the arena holds
	waits map[string]*Wait // by patch: those that are pending
	// debugger is told of modules that come and go; nil if nobody wants to know.
	debugger Debugger
	// resident is nil while there is none. alone says why there never will be one,
	// unstationed why there is none yet.
	resident           *resident.Resident
	alone, unstationed string
	once               bool // see ForOneOperation
	straightening      straightening
	// spare tells that the arena was made before a load that has not come yet; coming
	// is the module of that, if it is known.
	spare  bool
	coming *module.Module
}

// Open makes an Engine for a process, which may be stopped or running; if
// running it is halted once to read the layout of a Go runtime. If an
// earlier Darn left patches in it they are taken over, and a transition that
// it left half done is rolled back. options are those of this package: WithoutResident, ForOneOperation.
//
// It is refused with unsupported-build or unsupported-target if the process is
// not one that can be patched, with unsupported-target if its executable is
// stripped and its symbols aren't known or what an earlier Darn left can't be read, with text-mismatch,
// gc-timeout or in-use if the rollback can't be made, with busy if the process
// can't be halted, and with target-exited if it ends.
func Open(p *process.Process, options ...func(*Engine)) (*Engine, error) {
	e := newEngine(options...)
	e.p = p
	if err := e.finish(); err != nil {
		if ended := p.Ended(); ended != nil {
			err = ended
		}
		_ = e.letGo()
		return nil, err
	}
	return e, nil
}

func newEngine(options ...func(*Engine)) *Engine {
	e := &Engine{turn: make(chan struct{}, 1), reg: &registry{Version: registryVersion}, waits: make(map[string]*Wait)}
	for _, option := range options {
		option(e)
	}
	return e
}

// finish opens of an Engine what is not open yet.
func (e *Engine) finish() (err error) {
	if e.exe == nil {
		if e.exe, err = openTarget(e.p.ExePath()); err != nil {
			return fmt.Errorf("process %d: %w", e.p.Pid(), err)
		}
	}
	if e.lang == nil {
		if err := e.openLanguage(); err != nil {
			return err
		}
	}
	return e.takeOver()
}

// openTarget opens the executable of a target with its symbols, and refuses one
// that can't be patched.
func openTarget(path string) (*exe.Executable, error) {
	x, err := exe.OpenAny(path)
	if err != nil {
		return nil, err
	}
	if isGo(x) {
		if err = x.Supported(); err == nil {
			err = x.Complete()
		}
	}
	if err != nil {
		_ = x.Close() // was read only
		return nil, err
	}
	return x, nil
}

// Check refuses a process that Open would refuse for its executable, and does
// not touch it. symbols, if not "", is the file that a stripped executable was
// before it was stripped; it is kept for Open and for later.
func Check(pid int, symbols string) error {
	x, err := exe.OpenAny(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		if finding.As(err) == nil {
			return nil // Attach knows better why
		}
		return err
	}
	defer x.Close()
	if !isGo(x) {
		return nil
	}
	if err := x.Supported(); err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	if symbols != "" {
		return x.KeepCompanion(symbols)
	}
	if x.Stripped() {
		return x.Complete()
	}
	return nil
}

// Close waits until the operation under way, if any, has ended and lets go of
// the Engine's own resources; the resident thread ends. Patches stay as they are; the Process stays open.
// Operations are refused afterwards. Close may be called more than once.
func (e *Engine) Close() error {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	if e.closed {
		return nil
	}
	e.closed = true
	e.straightenLast()
	_ = e.unhook(e.reg.Patches...) // nobody will wait; fails if the target has ended
	return e.letGo()
}

// clearPatience is for how long a target may take to be halted in which an arena is
// left that was not used. If it can't be the next Darn takes it away.
const clearPatience = 5 * time.Second

func (e *Engine) letGo() error {
	if e.spare && e.failed == nil && e.p.Alive() {
		ctx, cancel := context.WithTimeout(context.Background(), clearPatience)
		defer cancel()
		_ = e.p.HaltFor(ctx, "what was not used is taken away", e.clear)
	}
	err := e.dismiss()
	if e.arena != nil && err == nil {
		err = e.arena.Close()
	}
	if e.exe != nil {
		err = errors.Join(err, e.exe.Close())
	}
	return err
}

// dropArena does without an arena that the target does not have. The resident
// thread, whose page is in it, was lost with it, or ends before.
func (e *Engine) dropArena() {
	if e.dismiss() == nil {
		_ = e.arena.Close()
	}
	e.arena = nil
}

// begin waits for the right to run an operation; the caller calls the
// returned function when it has ended.
func (e *Engine) begin(ctx context.Context) (end func(), err error) {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, finding.Refuse(finding.Busy, "another operation is under way: "+ctx.Err().Error(), "try again when it has ended")
	}
	end = func() { <-e.turn }
	if e.closed {
		err = fmt.Errorf("process %d: %w", e.p.Pid(), os.ErrClosed)
	} else {
		err = e.failed
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// explain returns that the target has ended in place of an error that comes of that:
// its files in /proc go before it does.
func (e *Engine) explain(err error) error {
	if err == nil || finding.CodeOf(err) != "" {
		return err
	}
	if ended := e.p.Ended(); ended != nil {
		return ended
	}
	return err
}

// alive refuses with target-exited if the target has ended: a store into a
// switch would not notice.
func (e *Engine) alive() error {
	return e.p.ReadMemory(make([]byte, 1), e.lang.anyAddress())
}

// Target says which process it is, and of which program.
func (e *Engine) Target() TargetInfo { return e.lang.describe() }

// Entries returns the ranges of addresses in which no breakpoint may be set
// now: the bytes of jumps at the entries of replaced functions, but for those
// that a breakpoint may hide or does not change. The target may run or be stopped.
func (e *Engine) Entries(ctx context.Context) ([]link.Range, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var entries []link.Range
	for _, d := range e.reg.Redirects {
		for i := uint64(1); i < redirect.JumpSize && !bytes.Equal(d.Now, d.Old); i++ {
			if d.Now[i] != int3 {
				entries = append(entries, link.Range{Start: d.at() + i, End: d.at() + i + 1})
			}
		}
	}
	return entries, nil
}
