package goruntime

import (
	"context"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// LabelsOffset is where in a runtime.g the pointer to its profiler labels is.
func (r *Runtime) LabelsOffset() uint64 { return r.layout.g.labels }

// Hooked returns what Hook replaces: where the value of a func() bool is that
// the runtime's scavenger calls before it does anything (scavengerState.run), in
// its own goroutine, with no lock held. Refused with wrong-state as long as the
// scavenger has not begun.
func (r *Runtime) Hooked() (fn uint64, err error) {
	if fn, err = r.word(r.scavengerStop); err == nil && fn == 0 {
		err = finding.Refuse(finding.WrongState,
			"the program has only just begun, and the goroutine of its runtime that is to start the initialisation has not",
			"let it run a little, then try again")
	}
	return fn, err
}

// Hook puts the function whose value is at fn in place of the one that Hooked
// returns. The address of that place, and what was in it, it puts into the two
// words at place: fn must give it back, in its first call, and return true, so
// that the scavenger rests. The target may run or be stopped.
func (r *Runtime) Hook(fn, place uint64) error {
	was, err := r.Hooked()
	if err != nil {
		return err
	}
	if err := r.mem.WriteMemory(place, append(bytesOf(r.scavengerStop), bytesOf(was)...)); err != nil {
		return err
	}
	return r.mem.WriteMemory(r.scavengerStop, bytesOf(fn))
}

// Unhook takes back a Hook of the same function and place, if it was not called
// yet. Who is about to call the function, or in it, goes on. The target may run or
// be stopped.
func (r *Runtime) Unhook(fn, place uint64) error {
	hooked, err := r.word(r.scavengerStop)
	if err != nil || hooked != fn {
		return err
	}
	was, err := r.word(place + 8)
	if err != nil {
		return err
	}
	// If it is called just now it puts the same there.
	return r.mem.WriteMemory(r.scavengerStop, bytesOf(was))
}

// CallHook makes the scavenger begin, by the flag that its own controller sets
// for that, and wakes the runtime's monitor, which looks at that flag, if it is
// asleep: for that it halts the target. It must not be called under a halt. In a
// target that is stopped the call comes when it goes on.
func (r *Runtime) CallHook(ctx context.Context, p *process.Process) error {
	if err := r.mem.WriteMemory(r.scavengerWake, []byte{1, 0, 0, 0}); err != nil {
		return err
	}
	var asleep [1]byte
	if err := r.mem.ReadMemory(asleep[:], r.sysmonwait); err != nil || asleep[0] == 0 {
		return err
	}
	_, err := r.wakeMonitor(ctx, p)
	return err
}
