package adapter

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/api"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/process"
)

// watches are the places at which Darn itself waits for the target: points at
// which patches are to be activated (points.go), and the new code of patches
// whose first call is to stop it (firstcall.go).
//
// A point must not show. So it is a logpoint of the session's, which is what
// Delve has for a breakpoint that the target runs on from by itself: a step of
// another goroutine goes on and a pause asked for at that time is one. To log it
// the session writes an output event, and resumes the target when that write
// has returned: in between the patch is activated, in a standstill, and then
// the message is dropped.
//
// Where the client has a breakpoint too the stop is looked at, in the write of
// its event, and goes to the client as it is.
type watches struct {
	p     *proxy
	token string // the message of the logpoints

	mu     sync.Mutex // guards what follows
	lastID int
	points []*point
	firsts []*firstCall
	step   *place // of a step into a call that is under way, if new code may be called
	// ended is set when step was hit: Delve will say that it was interrupted.
	ended bool
}

func (w *watches) init(p *proxy) { w.p, w.token, w.lastID = p, "darn point "+rand.Text(), firstPlaceID }

// newPlace makes a breakpoint, which is not set yet.
func (w *watches) newPlace(what string, addrs []uint64, log bool) (*place, error) {
	w.lastID++
	b := api.Breakpoint{}
	if log {
		if err := setLogMessage(&b, w.token); err != nil {
			return nil, err
		}
	}
	return &place{what: what, addrs: addrs, bp: &proc.LogicalBreakpoint{
		LogicalID: w.lastID, Name: fmt.Sprintf("%s%d: %s", placePrefix, w.lastID, what),
		Tracepoint: b.Tracepoint, UserData: b.UserData, HitCount: make(map[int64]uint64),
	}}, nil
}

// places returns all places. Called with w.mu held.
func (w *watches) places() (places []*place) {
	for _, pt := range w.points {
		places = append(places, pt.place)
	}
	for _, f := range w.firsts {
		places = append(places, f.place)
	}
	if w.step != nil {
		places = append(places, w.step)
	}
	return places
}

// forget removes points and first calls that match. It returns what that took
// of the target's time. What can't be removed because the target can't be
// stopped is forgotten all the same, and is taken away when it is hit.
func (w *watches) forget(ctx context.Context, match func(*point, *firstCall) bool) process.HaltStats {
	w.mu.Lock()
	var gone []*place
	w.points = slices.DeleteFunc(w.points, func(pt *point) bool {
		if match(pt, nil) {
			gone = append(gone, pt.place)
		}
		return match(pt, nil)
	})
	w.firsts = slices.DeleteFunc(w.firsts, func(f *firstCall) bool {
		if match(nil, f) {
			gone = append(gone, f.place)
		}
		return match(nil, f)
	})
	w.mu.Unlock()
	if len(gone) == 0 {
		return process.HaltStats{}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdPatience)
	defer cancel()
	halts, _ := w.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		for _, l := range gone {
			l.remove(group)
		}
		w.settle(group)
		return nil
	})
	return halts
}

// settle puts all places where they can be now; a point that can't be is given
// up.
func (w *watches) settle(group *proc.TargetGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points = slices.DeleteFunc(w.points, func(pt *point) bool {
		err := pt.settle(group)
		if err != nil {
			pt.remove(group)
			pt.failed <- err
		}
		return err != nil
	})
	w.firsts = slices.DeleteFunc(w.firsts, func(f *firstCall) bool {
		err := f.settle(group)
		if err != nil {
			f.remove(group)
			w.p.event("output", dap.OutputEventBody{Category: "important", Output: fmt.Sprintf("darn: the target will not stop at the %s: %v\n", f.what, err)})
		}
		return err != nil
	})
}

// isToken tells whether an output event is the message of a point.
func (w *watches) isToken(h *header) bool {
	var body dap.OutputEventBody
	_ = json.Unmarshal(h.Body, &body)
	return strings.HasSuffix(body.Output, w.token+"\n")
}

// atStop looks at what the target has stopped for, when the session writes that
// it has, or that a logpoint was hit. It returns the message for the client, nil
// if there is none for it. It is called in the session's goroutine without p.mu.
func (w *watches) atStop(msg []byte, h *header) []byte {
	own := h.Event == "output" && w.isToken(h)
	w.mu.Lock()
	watching := len(w.places()) > 0
	drop := w.ended && h.Event == "output" && isInterrupted(h)
	w.ended = w.ended && h.Event == "output" && !drop
	w.mu.Unlock()
	if drop {
		return nil
	}
	if h.Event == "output" && !own && !loggedAt(h) {
		return msg
	}
	if watching || own {
		w.p.standStill(func() {
			since := time.Now()
			reached, threads, call, stepped, others := w.look(h.Event == "stopped")
			for _, pt := range reached {
				pt.reached <- arrival{since, threads}
			}
			for _, pt := range reached {
				select {
				case <-pt.looked:
				case <-time.After(stillPatience):
				}
			}
			if call != nil && h.Event == "stopped" {
				msg = w.p.reportCall(msg, call, others)
			} else if stepped && !others {
				msg = reportStep(msg)
			}
		})
	}
	if own {
		return nil
	}
	return msg
}

// stillPatience is for how long the target may be kept from running for one
// point. An activation needs milliseconds.
const stillPatience = 5 * time.Second

// loggedAt tells whether an output event may be a logpoint's of the client's.
func loggedAt(h *header) bool {
	var body dap.OutputEventBody
	_ = json.Unmarshal(h.Body, &body)
	return body.Source != nil
}

// look returns the points that were reached, how many threads stand still, the
// first call, if there was one, and whether a step into new code has ended, and
// takes their breakpoints away; others tells whether a thread stands at a
// breakpoint of the client's. stopped tells that the target stays where it is.
func (w *watches) look(stopped bool) (reached []*point, threads int, call *calledFirst, stepped, others bool) {
	w.p.mu.Lock()
	dbg := w.p.debugger
	w.p.mu.Unlock()
	group, unlock := dbg.LockTargetGroup()
	defer unlock()
	if ok, _ := group.Valid(); !ok {
		return nil, 0, nil, false, false
	}
	w.mu.Lock()
	all := group.Selected.ThreadList()
	w.points = slices.DeleteFunc(w.points, func(pt *point) bool {
		hit := slices.ContainsFunc(all, func(th proc.Thread) bool { _, ok := pt.stands(th); return ok })
		if hit {
			reached = append(reached, pt)
		}
		return hit
	})
	w.firsts = slices.DeleteFunc(w.firsts, func(f *firstCall) bool {
		c := f.called(all, w.p.threads.idOf)
		if c != nil {
			call = c
		}
		return c != nil
	})
	if stopped && w.step != nil {
		stepped = slices.ContainsFunc(all, func(th proc.Thread) bool { _, ok := w.step.stands(th); return ok })
		if stepped && len(w.step.shared) == 0 {
			w.ended = group.HasSteppingBreakpoints()
			_ = group.Selected.ClearSteppingBreakpoints() // or continuing would go on with the step
		}
		w.step = nil
	}
	alive := w.places()
	w.mu.Unlock()
	for _, th := range all {
		bp := th.Breakpoint()
		others = others || bp.Breakpoint != nil && bp.Active && bp.IsUser() && bp.Logical != nil && !bp.Logical.Tracepoint && !isPlace(bp.Logical)
	}
	// Also those that could not be removed before.
	for id, bp := range group.LogicalBreakpoints {
		if isPlace(bp) && !slices.ContainsFunc(alive, func(l *place) bool { return l.bp == bp }) {
			_ = group.SetBreakpointEnabled(bp, false)
			delete(group.LogicalBreakpoints, id)
		}
	}
	if len(reached) > 0 || call != nil {
		w.settle(group)
	}
	w.p.mu.Lock()
	w.p.seePlaces(group)
	w.p.mu.Unlock()
	return reached, len(all), call, stepped, others
}

// setRequest tells whether a request sets breakpoints.
func setRequest(command string) bool {
	switch command {
	case "setBreakpoints", "setFunctionBreakpoints", "setInstructionBreakpoints":
		return true
	}
	return false
}

// setKey names the breakpoints that a request sets: it replaces those that an
// earlier one with the same key has set.
func setKey(h *header) string {
	var a dap.SetBreakpointsArguments
	_ = json.Unmarshal(h.Arguments, &a)
	return h.Command + " " + a.Source.Path
}

// meets tells whether breakpoints that the client has set could not be where
// Darn has its own, as the body of the response says, and whether there are
// places that are shared with the client.
func (w *watches) meets(response []byte) (conflict, shared bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	places := w.places()
	if len(places) == 0 {
		return false, false
	}
	var body dap.SetBreakpointsResponseBody
	_ = json.Unmarshal(response, &body)
	conflict = slices.ContainsFunc(body.Breakpoints, func(b dap.Breakpoint) bool {
		return !b.Verified && strings.HasPrefix(b.Message, "Breakpoint exists at ")
	})
	return conflict, slices.ContainsFunc(places, func(l *place) bool { return len(l.shared) > 0 })
}

// yield takes all places away until the next settle.
func (w *watches) yield(group *proc.TargetGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.places() {
		_ = l.yield(group) // settle finds out
	}
}

// giveWay makes a request again that has met a place, and returns the body of
// its response. The places are gone until the next settle.
func (w *watches) giveWay(ctx context.Context, h *header) json.RawMessage {
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	_, err := w.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		w.yield(group)
		return nil
	})
	if err != nil {
		return h.Body // it says that there is a breakpoint
	}
	again := make(chan *header, 1)
	w.p.mu.Lock()
	var last *header
	for _, set := range w.p.lastSets {
		if set.Seq == h.RequestSeq {
			last = set
		}
	}
	if last == nil { // a later one takes its place
		w.p.mu.Unlock()
		return h.Body
	}
	w.p.ask(last.Command, last.Arguments, func(response *header) { again <- response })
	w.p.mu.Unlock()
	select {
	case response := <-again:
		if response.Success {
			return response.Body
		}
	case <-w.p.done:
	case <-ctx.Done():
	}
	return h.Body
}

// resettle settles the places when the client's breakpoints have changed.
func (w *watches) resettle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	for {
		_, err := w.p.withTarget(ctx, func(group *proc.TargetGroup) error {
			w.settle(group)
			return nil
		})
		if finding.CodeOf(err) != finding.Busy || ctx.Err() != nil {
			return
		}
	}
}
