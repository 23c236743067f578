package adapter

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// firstCall is a patch of which the first call is to stop the target, once.
type firstCall struct {
	*place
	patch string            // id
	names map[uint64]string // of its functions, by the address of the breakpoint
	title string            // of the patch
}

// calledFirst is a first call.
type calledFirst struct {
	text   string
	thread int64 // as threads.idOf has it
}

// called returns the first call, if one of the threads makes it.
func (f *firstCall) called(threads []proc.Thread, idOf func(proc.Thread) int64) *calledFirst {
	for _, th := range threads {
		addr, ok := f.stands(th)
		if !ok {
			continue
		}
		return &calledFirst{text: fmt.Sprintf("first call of %s in %s", f.names[addr], f.title), thread: idOf(th)}
	}
	return nil
}

// watchesFirst is why it takes a halt to begin or to end the watch for a first call.
const watchesFirst = "the first call of the new code is watched for"

// watchFirst sets breakpoints on the new code of a patch. It must be called
// before the patch is activated.
func (w *watches) watchFirst(ctx context.Context, p *patcher.Patch) (process.HaltStats, error) {
	return w.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		f := &firstCall{patch: p.ID, title: fmt.Sprintf("patch %s (%s)", p.ID, p.Name), names: make(map[uint64]string)}
		var addrs []uint64
		for _, fn := range p.Functions {
			addr := begins(group.Selected, fn.NewAddress)
			f.names[addr] = fn.Name
			addrs = append(addrs, addr)
		}
		var err error
		if f.place, err = w.newPlace("first call of "+f.title, addrs, false); err != nil {
			return err
		}
		if w.step != nil {
			// It is for one who steps, and would hide the call of anyone else.
			w.step.leave(group, addrs)
		}
		if err := f.set(group, ""); err != nil {
			return err
		}
		w.firsts = append(w.firsts, f)
		return nil
	})
}

// begins returns where the body of the function at entry begins, if Delve knows
// the function: there its arguments can be looked at.
func begins(target *proc.Target, entry uint64) uint64 {
	fn := target.BinInfo().PCToFunc(entry)
	if fn == nil || fn.Entry != entry {
		return entry
	}
	pc, err := proc.FirstPCAfterPrologue(target, fn, false)
	if err != nil {
		pc = entry
	}
	if pc == entry {
		return behindPrologue(target, entry)
	}
	return pc
}

// behindPrologue returns where the body of a function of C begins that has its entry
// at addr, and addr if there is none: of other languages Delve knows it.
func behindPrologue(target *proc.Target, addr uint64) uint64 {
	fn := target.BinInfo().PCToFunc(addr)
	if fn == nil || fn.Entry != addr || fn.Name != "" && !strings.HasPrefix(fn.Name, cPrefix) {
		return addr
	}
	return bodyOf(target.BinInfo(), fn)
}

// unwatchFirst removes the breakpoints of watchFirst, if they are still there.
func (w *watches) unwatchFirst(ctx context.Context, ids ...string) process.HaltStats {
	return w.forget(ctx, func(_ *point, f *firstCall) bool {
		for _, id := range ids {
			if f != nil && f.patch == id {
				return true
			}
		}
		return false
	})
}

// reportCall puts a first call into a stopped event. If the target has stopped
// for another reason too, as others tells of a breakpoint of the client's, that
// is the reason of the event, and the call its text.
func (p *proxy) reportCall(event []byte, c *calledFirst, others bool) []byte {
	p.mu.Lock()
	asked := p.pausing
	p.mu.Unlock()
	return edit(event, "body", func(old []byte) []byte {
		var body dap.StoppedEventBody
		if json.Unmarshal(old, &body) != nil {
			return old
		}
		switch {
		case others, body.Reason == "pause" && asked, body.Reason == "step", body.Reason == "exception":
			if body.Text == "" {
				body.Text = c.text
			}
		default:
			body.Reason, body.Description, body.Text = "function breakpoint", "Paused on first patched call", c.text
			body.HitBreakpointIds = []int{}
			if c.thread != 0 {
				body.ThreadId = int(c.thread)
			}
		}
		if len(body.HitBreakpointIds) > 0 && body.HitBreakpointIds[0] > firstPlaceID {
			body.HitBreakpointIds = []int{}
		}
		return marshal(body)
	})
}
