package adapter

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/process"
)

// A breakpoint that the session refuses, because the program has no such line or
// function, may be one on code that a patch brings. The client gets a number for
// it, which Delve does not give, and when a module is loaded the session is asked
// again: it keeps the breakpoints that it has, and sets those that it finds now.
// The client goes on to know them by the numbers that it got first.

// firstPendingID is above the numbers that Delve gives to breakpoints, and below
// those of Darn's own.
const firstPendingID = 1 << 29

// absent tells whether a breakpoint was refused for want of its line or function.
func absent(b *dap.Breakpoint) bool {
	return b.Id == 0 && !b.Verified &&
		(strings.HasPrefix(b.Message, "could not find ") || strings.HasSuffix(b.Message, " not found"))
}

// number gives the breakpoints in the body of the answer to a request the client's
// numbers. It is called once for each answer of which the client hears.
func (t *told) number(asked *header, body []byte) []byte {
	if asked == nil {
		return body // a later request takes its place
	}
	var wanted struct {
		Breakpoints []json.RawMessage `json:"breakpoints"`
	}
	_ = json.Unmarshal(asked.Arguments, &wanted)
	t.mu.Lock()
	defer t.mu.Unlock()
	return edit(body, "breakpoints", func(list []byte) []byte {
		var breakpoints []dap.Breakpoint
		if json.Unmarshal(list, &breakpoints) != nil || len(breakpoints) != len(wanted.Breakpoints) {
			return list
		}
		key, changed := setKey(asked), false
		delete(t.refused, key)
		for i := range breakpoints {
			b := &breakpoints[i]
			if id := t.names[b.Id]; id != 0 {
				b.Id, changed = id, true
				continue
			}
			if !absent(b) {
				continue
			}
			what := key + string(wanted.Breakpoints[i])
			if t.given[what] == 0 {
				t.given[what] = firstPendingID + len(t.given)
			}
			b.Id, changed = t.given[what], true
			t.last[b.Id] = *b
			if t.refused[key] == nil {
				t.refused[key] = make([]int, len(breakpoints))
			}
			t.refused[key][i] = b.Id
		}
		if !changed {
			return list
		}
		return marshal(breakpoints)
	})
}

// found notes which breakpoints of a request that was made again are set now.
func (t *told) found(key string, body []byte) {
	var b dap.SetBreakpointsResponseBody
	_ = json.Unmarshal(body, &b)
	t.mu.Lock()
	defer t.mu.Unlock()
	refused := t.refused[key]
	if len(refused) != len(b.Breakpoints) {
		return
	}
	for i, b := range b.Breakpoints {
		if refused[i] != 0 && b.Id > 0 {
			t.names[b.Id], refused[i] = refused[i], 0
		}
	}
}

// name returns the client's number of a breakpoint of the session's.
func (t *told) name(id int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if name := t.names[id]; name != 0 {
		return name
	}
	return id
}

// nameHits gives a stopped event the client's numbers.
func (t *told) nameHits(event []byte) []byte {
	return edit(event, "body", func(old []byte) []byte {
		var body dap.StoppedEventBody
		if json.Unmarshal(old, &body) != nil {
			return old
		}
		changed := false
		for i, id := range body.HitBreakpointIds {
			name := t.name(id)
			changed = changed || name != id
			body.HitBreakpointIds[i] = name
		}
		if !changed {
			return old
		}
		return marshal(body)
	})
}

// refusals returns the numbers of the breakpoints of a request that the session has
// refused for want of their code, and 0 for the others.
func (t *told) refusals(key string) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.refused[key])
}

// waits tells whether breakpoints of a request were refused.
func (t *told) waits(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range t.refused[key] {
		if id != 0 {
			return true
		}
	}
	return false
}

// retry asks the session for the breakpoints again that it has refused. It
// returns what that took of a running target's time: the session halts it. A step
// under way is waited for, as for any other halt.
func (s *patches) retry(ctx context.Context) (halts process.HaltStats) {
	ctx, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	if s.images.waiting() {
		halts = s.takeInNow(ctx)
	}
	since := time.Now()
	s.p.mu.Lock()
	if !s.p.waitFor(ctx, stepPatience, func() bool { return !s.p.stepping }) || s.p.ready() != nil {
		s.p.mu.Unlock()
		return halts
	}
	asked, ran := 0, s.p.phase == running
	answered := make(chan struct{}, len(s.p.lastSets))
	for key, set := range s.p.lastSets {
		if s.told.waits(key) {
			asked++
			s.p.ask(set.Command, set.Arguments, func(h *header) {
				s.told.found(key, h.Body)
				answered <- struct{}{}
			})
		}
	}
	s.p.mu.Unlock()
	for range asked {
		select {
		case <-answered:
		case <-s.p.done:
			return halts
		case <-ctx.Done():
			return halts // and those that are found later are placed by what comes next
		}
	}
	if asked > 0 && ran {
		took := time.Since(since)
		halts = halts.Add(process.HaltStats{Halts: asked, Total: took, Max: took})
	}
	return halts
}
