package adapter

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/locspec"
	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/finding"
)

// place is a breakpoint of Darn's at some addresses. Delve has one breakpoint
// of a user's at an address at most: where the client has one, it does for both.
type place struct {
	what  string // for messages
	addrs []uint64
	bp    *proc.LogicalBreakpoint
	// counts tells that bp has a condition.
	counts bool
	// shared are the addresses at which the breakpoint is the client's.
	shared []uint64
}

// firstPlaceID is above the numbers that Delve gives to breakpoints.
const firstPlaceID = 1 << 30

// placePrefix begins the names of Darn's breakpoints.
const placePrefix = "darn "

// set adds the breakpoint to the group. Without an error it must be removed.
func (l *place) set(group *proc.TargetGroup, hitCondition string) error {
	if err := group.ChangeBreakpointCondition(l.bp, "", hitCondition, false); err != nil {
		return finding.Refuse(finding.PointInvalid, err.Error(), "give a number, or a comparison such as >= 3")
	}
	l.counts = hitCondition != ""
	group.LogicalBreakpoints[l.bp.LogicalID] = l.bp
	if err := l.settle(group); err != nil {
		l.remove(group)
		return err
	}
	return nil
}

// settle puts the breakpoint wherever the client has none.
func (l *place) settle(group *proc.TargetGroup) error {
	target := group.Selected
	if err := l.yield(group); err != nil {
		return err
	}
	l.shared, l.bp.Set.PidAddrs = nil, nil
	for _, addr := range l.addrs {
		if l.bp.Tracepoint && target.BinInfo().PCToFunc(addr) == nil {
			continue // the module that the line was in too is gone
		}
		other := target.Breakpoints().M[addr]
		if other == nil || !other.IsUser() {
			l.bp.Set.PidAddrs = append(l.bp.Set.PidAddrs, proc.PidAddr{Pid: target.Pid(), Addr: addr})
			continue
		}
		l.shared = append(l.shared, addr)
		if conditional := other.Logical != nil && (other.Logical.Cond() != "" || other.Logical.HitCond() != ""); conditional || l.counts {
			why := "has a condition, which hides it"
			if !conditional {
				why = "keeps its hits from being counted"
			}
			return finding.Refuse(finding.PointInvalid,
				fmt.Sprintf("a breakpoint at the place of %s (%s:%d) %s", l.what, other.File, other.Line, why),
				"remove that breakpoint, or take another line")
		}
	}
	if len(l.bp.Set.PidAddrs) == 0 {
		return nil
	}
	return group.SetBreakpointEnabled(l.bp, true)
}

// yield takes the breakpoint away until the next settle.
func (l *place) yield(group *proc.TargetGroup) error { return group.SetBreakpointEnabled(l.bp, false) }

// leave gives up some of the addresses.
func (l *place) leave(group *proc.TargetGroup, addrs []uint64) {
	_ = l.yield(group) // settle finds out
	l.addrs = slices.DeleteFunc(l.addrs, func(addr uint64) bool { return slices.Contains(addrs, addr) })
	_ = l.settle(group) // what can't be set is stepped over
}

// remove takes the breakpoint out of the group.
func (l *place) remove(group *proc.TargetGroup) {
	_ = l.yield(group) // a target that has ended has none
	delete(group.LogicalBreakpoints, l.bp.LogicalID)
}

// stands returns at which of the addresses the thread has stopped, if so.
func (l *place) stands(th proc.Thread) (addr uint64, ok bool) {
	at := th.Breakpoint()
	if at.Breakpoint == nil || !at.Active || !slices.Contains(l.addrs, at.Addr) {
		return 0, false
	}
	return at.Addr, true
}

// isPlace tells whether a breakpoint is Darn's.
func isPlace(bp *proc.LogicalBreakpoint) bool {
	return bp != nil && strings.HasPrefix(bp.Name, placePrefix)
}

// resolve returns the addresses at which a line begins, in the program and in
// modules, as the client sees it. A path that is not absolute stands for the one
// file of the program's that ends so.
func resolve(target *proc.Target, path string, line int, substitute [][2]string, files edits) (file string, addrs []uint64, err error) {
	file = path
	if filepath.IsAbs(path) {
		file = locspec.SubstitutePath(path, substitute)
	} else {
		ends := "/" + filepath.Clean(path)
		var files []string
		for _, s := range target.BinInfo().Sources {
			if strings.HasSuffix(s, ends) {
				files = append(files, s)
			}
		}
		slices.Sort(files)
		if len(files) > 1 {
			return "", nil, finding.Refuse(finding.PointInvalid,
				fmt.Sprintf("%s stands for %d files of the program, %s and %s for two", path, len(files), files[0], files[1]),
				"give more of the path")
		}
		if len(files) == 1 {
			file = files[0]
		}
	}
	at := placed{bp: &proc.LogicalBreakpoint{Set: proc.SetBreakpoint{File: file}}, target: target, files: files, path: path, line: line}
	if !filepath.IsAbs(path) {
		at.path = file
	}
	if addrs = at.onLine(); len(addrs) == 0 {
		if _, err = proc.FindFileLocation(target, file, line); err == nil {
			err = errors.New("the program as it was built has no such line")
		}
		return "", nil, finding.Refuse(finding.PointInvalid,
			fmt.Sprintf("the patch can't be activated at %s:%d: no code of the program is there (%v)", path, line, err),
			"take a line with a statement, in a file that the program was built from")
	}
	return file, addrs, nil
}
