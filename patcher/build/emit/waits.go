package emit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/darn-dev/darn/patcher/build/object"
	"github.com/darn-dev/darn/patcher/finding"
)

// What code waits for others by. Locks are not among them: nearly all code may
// take one.
var (
	receives = []string{"runtime.chanrecv1", "runtime.chanrecv2", "runtime.selectgo", "runtime.block",
		"sync.runtime_Semacquire", "sync.runtime_SemacquireWaitGroup", "sync.runtime_notifyListWait"}
	sends  = []string{"runtime.chansend1"}
	starts = []string{"runtime.newproc"}
)

// checkWaits refuses what initialises, starts no goroutine, and waits for one:
// for one of the program, then, which may call what the patch replaces, and would
// wait for the initialisation in turn. One that it starts would not (see
// InitAll); but which one it waits for can't be told, and is worth a warning.
// Calls through interfaces and values of function type are not seen.
func (b *builder) checkWaits(packages []string, variables map[string][]int) error {
	calls := map[int][]int{}
	var refused []finding.Finding
	for _, fn := range b.New.Functions {
		name := b.New.Symbols[fn].Name
		pkg := object.PackageOf(name)
		variable := slices.Contains(variables[pkg], fn)
		if !variable && !(slices.Contains(packages, pkg) && initFunction.MatchString(name)) {
			continue
		}
		what := "the initial value of a new variable"
		if !variable {
			what = "initialising the new package " + pkg
		}
		from := b.called(fn, calls)
		f := finding.Finding{Code: finding.InitChanged, Severity: finding.Warning, Function: name, Source: b.source(fn),
			Advice: "do it at the first use, with sync.OnceValue"}
		starter, waiter := b.callerOf(from, starts), b.callerOf(from, receives)
		if waiter != "" && starter == "" {
			f.Severity = finding.Error
			f.Message = fmt.Sprintf("%s waits, in %s, and starts no goroutine: what it waits for may call what the patch replaces, and wait for the patch in turn: the program would hang", what, waiter)
			refused = append(refused, f)
			continue
		}
		if waiter == "" {
			waiter = b.callerOf(from, sends)
		}
		if waiter != "" {
			f.Message = fmt.Sprintf("%s waits, in %s, for other goroutines: the program hangs if one of them calls what the patch replaces and is not started by what waits", what, waiter)
			b.findings = append(b.findings, f)
		}
	}
	if len(refused) > 0 {
		return &finding.Refusal{Findings: refused}
	}
	return nil
}

// called returns the functions that one calls, directly or not, each with one
// that calls it. calls notes what is known of others.
func (b *builder) called(fn int, calls map[int][]int) map[int]int {
	from := map[int]int{fn: -1}
	for todo := []int{fn}; len(todo) > 0; {
		caller := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := calls[caller]; !known {
			calls[caller] = b.calls(caller)
		}
		for _, callee := range calls[caller] {
			if _, seen := from[callee]; !seen {
				from[callee] = caller
				todo = append(todo, callee)
			}
		}
	}
	return from
}

// calls returns the functions that a function calls or ends with a jump to;
// those of package runtime call none that matter.
func (b *builder) calls(fn int) (callees []int) {
	if strings.HasPrefix(b.New.Symbols[fn].Name, "runtime.") {
		return nil
	}
	code, start := b.New.Content(fn), b.New.Symbols[fn].Offset
	refs, _ := b.New.Refs(fn) // code that can't be decoded is assembly's: it waits for nobody
	for _, r := range refs {
		if at := r.Offset - start; at == 0 || code[at-1] != 0xe8 && code[at-1] != 0xe9 {
			continue
		}
		sym := r.Symbol
		if i, ok := b.New.SymbolAt(r.Target); ok {
			sym = i
		}
		if b.New.IsFunction(sym) {
			callees = append(callees, sym)
		}
	}
	return callees
}

// callerOf returns the name of a function that calls one of those named.
func (b *builder) callerOf(from map[int]int, names []string) string {
	for _, fn := range slices.Sorted(maps.Keys(from)) {
		if from[fn] >= 0 && slices.Contains(names, b.New.Symbols[fn].Name) {
			return b.New.Symbols[from[fn]].Name
		}
	}
	return ""
}
