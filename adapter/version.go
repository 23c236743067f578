package adapter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/go-delve/delve/pkg/proc"

	"github.com/darn-dev/darn/patcher/finding"
)

// version is one of the two versions of a function.
type version string

const (
	oldVersion version = "old"
	newVersion version = "new"
)

// pair are both versions of a function.
type pair map[version]*proc.Function

// pairs returns the functions of the call's name, whatever package or type they
// belong to, of which the module has new code: those that the patch replaces, and
// those that only the replaced ones call. It refuses those that Delve can't call.
func (c *versionCall) pairs(target *proc.Target) (pairs []pair, err error) {
	bi := target.BinInfo()
	known := false
	for i := range bi.Functions {
		fn := &bi.Functions[i]
		if fn.Entry-c.module.Base >= c.module.Size {
			continue
		}
		known = true
		name, _, isGeneric := strings.Cut(fn.Name, "[")
		if name[strings.LastIndex(name, ".")+1:] != c.name || unused(target, fn.Entry) {
			continue
		}
		if isGeneric {
			return nil, generic(c.function)
		}
		for _, own := range bi.LookupFunc()[fn.Name] {
			if own.Entry == 0 || bi.PCToImage(own.Entry) != bi.Images[0] {
				continue
			}
			if own.Optimized() || fn.Optimized() {
				return nil, finding.Refuse(finding.UnsupportedTarget,
					fmt.Sprintf("%s was compiled with optimisations: Delve can't tell where such a function has its arguments and results, and does not call it", fn.Name),
					"compare in a program built with -gcflags='all=-N -l', as launching it in mode debug does")
			}
			pairs = append(pairs, pair{oldVersion: own, newVersion: fn})
		}
	}
	switch {
	case !known:
		return nil, finding.Refuse(finding.UnsupportedTarget,
			fmt.Sprintf("the debugger does not know the code of patch %s", c.patch),
			"its module's file is gone, or was written over: unload the patch, build and load it again")
	case len(pairs) == 0:
		return nil, notOf(c.function, c.patch)
	}
	return pairs, nil
}

// unused tells whether there is nothing at an address of a module: of what its
// debugging information describes it holds what it needs only.
func unused(target *proc.Target, addr uint64) bool {
	code := make([]byte, 8)
	_, err := target.Memory().ReadMemory(code, addr)
	return err != nil || bytes.Equal(code, bytes.Repeat([]byte{0xcc}, len(code)))
}

// hidden ends the name of a function that Delve is not to find by its name.
const hidden = " (not compared)"

// findOnly makes Delve find one version of the functions by their names, until
// show is called. Both need the target stopped.
func findOnly(bi *proc.BinaryInfo, pairs []pair, v version) (show func()) {
	entries := map[string]uint64{}
	for _, p := range pairs {
		entries[p[v].Name] = p[v].Entry
	}
	rename := func(to func(fn *proc.Function) string) {
		// A new slice, since Delve keeps pointers into the old one.
		bi.Functions = slices.Clone(bi.Functions)
		for i := range bi.Functions {
			bi.Functions[i].Name = to(&bi.Functions[i])
		}
		biField(bi, "lookupFunc").SetZero()
		biField(bi, "lookupGenericFunc").SetZero()
	}
	rename(func(fn *proc.Function) string {
		if only, ok := entries[fn.Name]; ok && fn.Entry != only {
			return fn.Name + hidden
		}
		return fn.Name
	})
	return func() {
		rename(func(fn *proc.Function) string { return strings.TrimSuffix(fn.Name, hidden) })
	}
}

// injected is the function that begins a goroutine on which a debugger's call
// runs.
const injected = "runtime.debugCallWrap1"

// passBreakpoints has the client's breakpoints let goroutines pass that were
// begun for a call of the debugger's, until hear is called: it would stop in the
// midst, and the call that was asked for in the function itself for certain. Both
// need the target stopped.
func passBreakpoints(target *proc.Target) (hear func()) {
	var passed []*proc.Breaklet
	for _, bp := range target.Breakpoints().M {
		logical := bp.Logical
		if logical == nil || logical.LogicalID <= 0 {
			continue
		}
		for _, b := range bp.Breaklets {
			if b.Kind != proc.UserBreakpoint {
				continue
			}
			b.SetCallback(func(th proc.Thread, target *proc.Target) (bool, error) {
				g, err := proc.GetG(th)
				if err != nil || g == nil {
					return true, nil
				}
				if fn := target.BinInfo().PCToFunc(g.StartPC); fn == nil || fn.Name != injected {
					return true, nil
				}
				logical.TotalHitCount-- // it was not for the client
				delete(logical.HitCount, g.ID)
				return false, nil
			})
			passed = append(passed, b)
		}
	}
	return func() {
		for _, b := range passed {
			b.SetCallback(nil)
		}
	}
}
