package adapter

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher"
)

// sight is what was seen of the breakpoints in the target when it last stood still.
// Delve's list of them is locked as long as the target runs, and none is added
// meanwhile but those of a step. So what there is while no step is under way is
// among these, and it can be told without a halt whether an operation has anything
// to do with breakpoints.
type sight struct {
	seen bool
	// hides is what breakpoints of any kind hide, by their addresses.
	hides map[uint64][]byte
	// client are those of the client's on lines and functions; stale tells that
	// they are still to be looked at by follow.
	client []seenBreakpoint
	stale  bool
	// files are the modules in which it was looked where they may be.
	files edits
}

// seenBreakpoint is one of the client's breakpoints.
type seenBreakpoint struct {
	path      string // the client's, of a breakpoint on a line
	file      string // as the compiler names it
	line      int    // as the client sees it
	inProgram int    // in the numbering of the program, 0 if it is not there
	functions []string
	set       []uint64 // where it is
	possible  []spot   // where its line or function is, whoever runs that
}

// spot is an address in a function, which may have no name.
type spot struct {
	addr     uint64
	function string
}

func spotAt(target *proc.Target, addr uint64) spot {
	at := spot{addr: addr}
	if fn := target.BinInfo().PCToFunc(addr); fn != nil {
		at.function = fn.Name
	}
	return at
}

// left tells whether no new call comes there. The very entry isn't old code, but
// what is to stop there has to stop in what the jump there leads to.
func (s spot) left(old *patcher.OldCode) bool {
	return old.Left(s.addr, s.function) || old.Left(s.addr+1, s.function)
}

// seen returns what there is to know of the breakpoint, when it was moved.
func (b *placed) seen() seenBreakpoint {
	s := seenBreakpoint{path: b.path, line: b.line, functions: b.functions, set: b.addrs, possible: b.possible}
	if b.path != "" {
		s.file = b.bp.Set.File
		s.inProgram, _ = b.files.inProgram(b.path, b.line)
	}
	return s
}

// inProgram returns which line of the program's own code a line is that the client
// sees in the file at path.
func (e edits) inProgram(path string, line int) (int, bool) {
	if s, ok := e.shows(path); ok {
		return s.inCode(nil, line)
	}
	return line, true
}

// seeAll looks at the breakpoints as the session has set them. The group is locked.
func (p *proxy) seeAll(group *proc.TargetGroup) {
	target := group.Selected
	var client []seenBreakpoint
	for _, bp := range group.LogicalBreakpoints {
		if bp.LogicalID <= 0 || !bp.Enabled() || isPlace(bp) {
			continue
		}
		b := placed{bp: bp}
		if !b.named() && !strings.HasPrefix(bp.Name, functionBreakpoint) {
			continue
		}
		s := seenBreakpoint{path: b.path, line: b.line, file: bp.Set.File, inProgram: b.asked}
		for addr, at := range target.Breakpoints().M {
			if at.Logical != bp {
				continue
			}
			where := spotAt(target, addr)
			s.set, s.possible = append(s.set, addr), append(s.possible, where)
			if b.path == "" && where.function != "" {
				s.functions = append(s.functions, where.function)
			}
		}
		client = append(client, s)
	}
	files := p.patches.files()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sight.client, p.sight.files = client, nil
	p.sight.stale = len(files) > 0 || p.threads.are()
	p.seePlaces(group)
}

// seePlaces looks at where there are breakpoints. The group is locked, and so is
// p.mu.
func (p *proxy) seePlaces(group *proc.TargetGroup) {
	p.sight.seen, p.sight.hides = true, make(map[uint64][]byte)
	for addr, bp := range group.Selected.Breakpoints().M {
		if bp.WatchType == 0 {
			p.sight.hides[addr] = bp.OriginalData
		}
	}
}

// Hidden implements process.Masker.
func (p *proxy) Hidden() map[uint64][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sight.hides
}

// sees notes where the client's breakpoints are when they are where they belong.
// Called with the group locked.
func (p *proxy) sees(client []seenBreakpoint, files edits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sight.client, p.sight.files, p.sight.stale = client, files, false
}

// near tells whether a breakpoint may be in one of the words of eight bytes.
func (s *sight) near(words []uint64) bool {
	if !s.seen {
		return true
	}
	for addr := range s.hides {
		if slices.Contains(words, addr&^7) {
			return true
		}
	}
	return false
}

// unsettled tells whether a breakpoint of the client's may be where it does not
// belong by now, and whether one that the session has refused may belong into a
// module. The target is not touched.
func (s *patches) unsettled() (moved, refused bool) {
	s.lostMu.Lock()
	active := s.active
	s.lostMu.Unlock()
	s.p.mu.Lock()
	sight, runs := s.p.sight, s.p.phase == running
	lost := s.refusedNow()
	s.p.mu.Unlock()
	old, files := s.old.Load(), s.files()
	for i := range files {
		e := &files[i]
		if e.Size == 0 || runs && !active[e.Image] {
			continue // nothing runs there, or who may refuse is asked when it does
		}
		refused = refused || slices.ContainsFunc(lost, func(b seenBreakpoint) bool { return b.mayBeIn(e, files) })
	}
	if !sight.seen || sight.stale {
		return s.p.hasBreakpoints(), refused
	}
	for _, b := range sight.client {
		moved = moved || b.moves(old, files, sight.files, active)
	}
	return moved, refused
}

// moves tells whether the breakpoint may not be where it belongs by now. looked are
// the modules in which it was looked where it may be.
func (b *seenBreakpoint) moves(old *patcher.OldCode, files, looked edits, active map[patcher.Image]bool) bool {
	if b.path != "" {
		if line, ok := files.inProgram(b.path, b.line); line != b.inProgram && (ok || b.inProgram != 0) {
			return true
		}
	}
	var belongs []uint64
	for _, at := range b.possible {
		// What was there when it was looked may have been unloaded.
		if e := looked.at(at.addr); e != nil && !slices.ContainsFunc(files, func(f edited) bool { return f.Image == e.Image && f.Size > 0 }) {
			continue
		}
		if !at.left(old) && !slices.Contains(belongs, at.addr) {
			belongs = append(belongs, at.addr)
		}
	}
	set := slices.DeleteFunc(slices.Clone(b.set), func(addr uint64) bool {
		e := looked.at(addr)
		return e != nil && !slices.ContainsFunc(files, func(f edited) bool { return f.Image == e.Image && f.Size > 0 })
	})
	slices.Sort(set)
	slices.Sort(belongs)
	if !slices.Equal(set, belongs) {
		return true
	}
	return slices.ContainsFunc(files, func(e edited) bool {
		known := slices.ContainsFunc(looked, func(f edited) bool { return f.Image == e.Image })
		return active[e.Image] && !known && b.mayBeIn(&e, files)
	})
}

// mayBeIn tells whether a module has the breakpoint's line or function.
func (b *seenBreakpoint) mayBeIn(e *edited, files edits) bool {
	code := e.code()
	if b.path == "" {
		return slices.ContainsFunc(b.functions, code.hasFunction)
	}
	s, known := files.shows(b.path)
	if !known {
		s = shown{file: b.file}
		if s.file == "" {
			s.file = b.path
		}
	}
	line, ok := s.inCode(e, b.line)
	return ok && code.lines[s.file][line]
}

// refusedNow returns the breakpoints that the session has refused for want of their
// lines or functions. Called with p.mu held.
func (s *patches) refusedNow() (refused []seenBreakpoint) {
	for key, set := range s.p.lastSets {
		numbers := s.told.refusals(key)
		var a struct {
			Source struct {
				Path string `json:"path"`
			} `json:"source"`
			Breakpoints []struct {
				Line   int    `json:"line"`
				Column int    `json:"column"`
				Name   string `json:"name"`
			} `json:"breakpoints"`
		}
		if json.Unmarshal(set.Arguments, &a) != nil {
			continue
		}
		for i, b := range a.Breakpoints {
			if i >= len(numbers) || numbers[i] == 0 {
				continue
			}
			if b.Column >= lineMark {
				b.Line = b.Column - lineMark
			}
			seen := seenBreakpoint{path: a.Source.Path, line: b.Line}
			if b.Name != "" {
				seen = seenBreakpoint{functions: []string{b.Name}}
			}
			refused = append(refused, seen)
		}
	}
	return refused
}

// named finds out what line a breakpoint is on, by the name that the session has
// given it; it returns false if it is on none.
func (b *placed) named() bool {
	var column int
	n, _ := fmt.Sscanf(b.bp.Name, "sourceBp Path=%q  Line=%d Column=%d", &b.path, &b.asked, &column)
	if n != 3 {
		b.path = ""
		return false
	}
	b.line = b.asked
	if column >= lineMark {
		b.line = column - lineMark
	}
	return true
}
