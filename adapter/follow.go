package adapter

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/process"
)

// A breakpoint on a line or a function sits in the code that new calls run. The
// session sets it wherever the line or the function is, in the program and in
// every module, and by one numbering of the lines; from there it is moved, here,
// after whatever may change where it belongs.
//
// A call that has stopped at the very entry of a function while its patch was
// activated goes on to the new code, and stops at the breakpoint there too: it was
// at one place, and comes to another. To pass the second by would take a breakpoint
// that knows which call it is, and a call that is preempted at its entry begins
// again there.

// lineMark is added to the column of a breakpoint whose line the session is told
// in another numbering than the client's: the client's line and it make up the
// column, by which the session only tells breakpoints apart.
const lineMark = 1 << 24

// followPatience is for how long the answer to a request for breakpoints waits
// until they are where they belong.
const followPatience = 10 * time.Second

// follow moves the client's breakpoints to where they belong now, and returns
// those that moved, and what that took of the target's time: it is halted if
// there are any. What can't be moved now is moved the next time.
func (s *patches) follow(ctx context.Context) (moved []dap.Breakpoint, halts process.HaltStats) {
	if !s.p.hasBreakpoints() {
		return nil, halts
	}
	halts, _ = s.p.withTarget(ctx, func(group *proc.TargetGroup) error {
		moved = s.place(group, s.files())
		return nil
	})
	return moved, halts
}

// place is follow where the target is stopped and locked. files are the modules that
// are loaded.
func (s *patches) place(group *proc.TargetGroup, files edits) (moved []dap.Breakpoint) {
	s.watches.yield(group)
	defer s.watches.settle(group)
	old := s.old.Load()
	var seen []seenBreakpoint
	for _, bp := range group.LogicalBreakpoints {
		if bp.LogicalID <= 0 || !bp.Enabled() {
			continue
		}
		b := placed{bp: bp, target: group.Selected, old: old, files: files, told: s.told}
		if !b.find() {
			continue
		}
		changed := b.move()
		seen = append(seen, b.seen())
		now := b.report()
		now.Id = s.told.name(now.Id)
		if news := s.told.tell(now); news || changed {
			moved = append(moved, now)
		}
	}
	s.p.sees(seen, files)
	slices.SortFunc(moved, func(a, b dap.Breakpoint) int { return a.Id - b.Id })
	return moved
}

// evict moves the client's breakpoints out of a module that has just been unloaded,
// in the halt in which it was.
func (s *patches) evict(h *process.Halt, i patcher.Image) {
	s.p.mu.Lock()
	seen := s.p.sight
	s.p.mu.Unlock()
	inside := func(addr uint64) bool { return addr-i.Base < i.Size }
	if !seen.stale && !slices.ContainsFunc(seen.client, func(b seenBreakpoint) bool {
		return slices.ContainsFunc(b.set, inside) || slices.ContainsFunc(b.possible, func(at spot) bool { return inside(at.addr) })
	}) {
		return
	}
	moved := s.place(h.Group(), s.files().without(i))
	s.lostMu.Lock()
	defer s.lostMu.Unlock()
	s.moved = append(s.moved, moved...)
}

// set passes the answer to a request for breakpoints to the client when they are
// where they belong, and Darn's own have given way to them. Called with p.mu
// held.
func (s *patches) set(h *header, msg []byte) {
	moves := h.Command != "setInstructionBreakpoints"
	conflict, shared := s.watches.meets(h.Body)
	named := h.Body
	var asked *header
	if moves {
		for _, set := range s.p.lastSets {
			if set.Seq == h.RequestSeq {
				asked = set
			}
		}
		named = s.told.number(asked, h.Body)
		s.told.hear(named)
		moves = len(s.files()) > 0 || s.p.threads.are()
	}
	if !moves && !conflict && !shared {
		s.p.pass(edit(msg, "body", func([]byte) []byte { return named }))
		return
	}
	done := make(chan json.RawMessage, 1)
	go s.start(func(ctx context.Context) { // it may have to wait for p.mu
		body := named
		if conflict {
			body = s.told.number(asked, s.watches.giveWay(ctx, h))
			if moves {
				s.told.hear(body)
			}
		}
		if moves {
			s.follow(ctx)
		}
		if conflict || shared {
			s.watches.resettle(ctx)
		}
		done <- body
	})
	s.p.client.put(func() []byte {
		body := named
		select {
		case body = <-done:
		case <-time.After(followPatience):
		}
		if moves {
			body = s.told.answer(h, body)
		}
		return edit(msg, "body", func([]byte) []byte { return body })
	})
}

// told is what the client was told of its breakpoints.
type told struct {
	mu   sync.Mutex
	last map[int]dap.Breakpoint // by id
	// asked are the lines of requests that are under way, as the client gave
	// them, by sequence number.
	asked map[int][]int

	// See pending.go.
	refused map[string][]int // numbers of what a request has not set, or 0, by setKey
	given   map[string]int   // all such numbers, by what was asked for
	names   map[int]int      // the client's numbers, by the session's, where they differ
	// functions are what breakpoints on functions have stood for, by the session's
	// numbers: a module that has one may go, and come again.
	functions map[int][]string
}

func newTold() *told {
	return &told{
		last: make(map[int]dap.Breakpoint), asked: make(map[int][]int),
		refused: make(map[string][]int), given: make(map[string]int), names: make(map[int]int),
		functions: make(map[int][]string),
	}
}

// standsFor returns the functions that a breakpoint stands for, which are now at
// the addresses, if they are anywhere.
func (t *told) standsFor(id int, now []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(now) > 0 {
		t.functions[id] = now
	}
	return t.functions[id]
}

// hear notes the body of the session's answer to a request for breakpoints.
func (t *told) hear(body []byte) {
	var b dap.SetBreakpointsResponseBody
	_ = json.Unmarshal(body, &b)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range b.Breakpoints {
		if b.Id > 0 {
			t.last[b.Id] = b
		}
	}
}

// tell notes what the client is told; it returns whether that is new to it.
func (t *told) tell(b dap.Breakpoint) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.last[b.Id]
	t.last[b.Id] = b
	return was.Verified != b.Verified || was.Line != b.Line && b.Line != 0
}

// answer gives the body of the answer to a request for breakpoints what is known
// of them, and the client's lines.
func (t *told) answer(h *header, body []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.asked[h.RequestSeq]
	delete(t.asked, h.RequestSeq)
	return edit(body, "breakpoints", func(list []byte) []byte {
		var breakpoints []dap.Breakpoint
		if json.Unmarshal(list, &breakpoints) != nil {
			return list
		}
		for i := range breakpoints {
			b := &breakpoints[i]
			if i < len(lines) {
				b.Line = lines[i]
			}
			if known, ok := t.last[b.Id]; ok {
				b.Verified, b.Message, b.InstructionReference = known.Verified, known.Message, known.InstructionReference
				b.Line = cmp.Or(known.Line, b.Line)
			}
		}
		return marshal(breakpoints)
	})
}

// renumber gives the session a request for breakpoints on the lines of a file by
// the numbering of the program, as far as it has the lines.
func (s *patches) renumber(h *header, msg []byte) []byte {
	var a dap.SetBreakpointsArguments
	if json.Unmarshal(h.Arguments, &a) != nil || len(a.Breakpoints) == 0 {
		return msg
	}
	file, ok := s.files().shows(a.Source.Path)
	if !ok {
		return msg
	}
	var lines []int
	for i := range a.Breakpoints {
		b := &a.Breakpoints[i]
		lines = append(lines, b.Line)
		b.Column = lineMark + b.Line
		if line, ok := file.inCode(nil, b.Line); ok {
			b.Line = line
		}
	}
	a.Lines = nil // of old clients
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	s.told.asked[h.Seq] = lines
	return edit(msg, "arguments", func([]byte) []byte { return marshal(a) })
}

// placed is a breakpoint of the client's and where it belongs.
type placed struct {
	bp     *proc.LogicalBreakpoint
	target *proc.Target
	old    *patcher.OldCode
	files  edits
	told   *told

	path      string   // the client's, of a breakpoint on a line
	line      int      // as the client sees it
	asked     int      // as the session was told it
	functions []string // of a breakpoint on a function
	possible  []spot
	addrs     []uint64
	stale     bool // its line is in old code only
}

// find finds out where the breakpoint belongs; it returns false if that does not
// depend on patches.
func (b *placed) find() bool {
	var all []uint64
	if b.named() {
		all = b.onLine()
	} else if strings.HasPrefix(b.bp.Name, functionBreakpoint) {
		// The session has looked the functions up.
		var names []string
		for _, at := range b.bp.Set.PidAddrs {
			if fn := b.target.BinInfo().PCToFunc(at.Addr); fn != nil && !slices.Contains(names, fn.Name) {
				names = append(names, fn.Name)
			}
		}
		b.functions = b.told.standsFor(b.bp.LogicalID, names)
		for _, name := range b.functions {
			addrs, _ := proc.FindFunctionLocation(b.target, name, 0)
			for _, addr := range addrs {
				all = append(all, behindPrologue(b.target, addr))
			}
		}
	} else {
		return false
	}
	for _, addr := range all {
		at := spotAt(b.target, addr)
		b.possible = append(b.possible, at)
		if at.left(b.old) {
			b.stale = true
		} else if !slices.Contains(b.addrs, addr) {
			b.addrs = append(b.addrs, addr)
		}
	}
	slices.Sort(b.addrs)
	return true
}

// onLine returns where the line is in the program and in each module.
func (b *placed) onLine() (addrs []uint64) {
	file := b.bp.Set.File
	look := func(e *edited, line int) {
		all, _ := proc.FindFileLocation(b.target, file, line)
		for _, addr := range all {
			if b.files.at(addr) == e {
				addrs = append(addrs, behindPrologue(b.target, addr))
			}
		}
	}
	s, known := b.files.shows(b.path)
	if !known {
		s = shown{file: file}
	}
	if line, ok := s.inCode(nil, b.line); ok {
		look(nil, line)
	}
	for i := range b.files {
		e := &b.files[i]
		if line, ok := s.inCode(e, b.line); ok {
			look(e, line)
		}
	}
	return addrs
}

// move sets the breakpoint where it belongs, and nowhere else. It returns
// whether anything changed.
func (b *placed) move() (changed bool) {
	var now []uint64
	for addr, bp := range b.target.Breakpoints().M {
		if bp.Logical == b.bp {
			now = append(now, addr)
		}
	}
	for _, addr := range now {
		if !slices.Contains(b.addrs, addr) {
			changed = b.target.ClearBreakpoint(addr) == nil || changed
		}
	}
	set := b.addrs[:0:0]
	for _, addr := range b.addrs {
		if !slices.Contains(now, addr) {
			if _, err := b.target.SetBreakpoint(b.bp.LogicalID, addr, proc.UserBreakpoint, nil); err != nil {
				continue // another one of the client's is there
			}
			changed = true
		}
		at := proc.PidAddr{Pid: b.target.Pid(), Addr: addr}
		if b.path == "" && !slices.Contains(b.bp.Set.PidAddrs, at) {
			b.bp.Set.PidAddrs = append(b.bp.Set.PidAddrs, at)
		}
		set = append(set, addr)
	}
	b.addrs = set
	return changed
}

// report describes the breakpoint to the client.
func (b *placed) report() dap.Breakpoint {
	d := dap.Breakpoint{Id: b.bp.LogicalID, Verified: len(b.addrs) > 0}
	if b.path != "" {
		d.Source = &dap.Source{Name: filepath.Base(b.path), Path: b.path}
		d.Line = b.line
	}
	if !d.Verified {
		d.Message = "no code that runs now is on this line"
		if b.path == "" {
			d.Message = "no code that runs now has this function"
		}
		if b.stale {
			d.Message = strings.Replace(d.Message, "no code that runs now", "only code that is not active", 1)
		}
		return d
	}
	d.InstructionReference = fmt.Sprintf("%#x", b.addrs[0])
	if b.path == "" {
		return d
	}
	file, line, _ := b.target.BinInfo().PCToLine(b.addrs[0])
	if s, ok := b.files.shows(b.path); ok && file == b.bp.Set.File {
		line, ok = s.onScreen(b.files.at(b.addrs[0]), line)
		if !ok {
			return d
		}
	}
	if file == b.bp.Set.File {
		d.Line = line
	}
	return d
}
