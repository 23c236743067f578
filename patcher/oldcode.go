package patcher

import (
	"context"
	"slices"

	"github.com/darn-dev/darn/patcher/goruntime"
)

// OldCode is code that no new call of a patched function runs: the program's
// own where a patch is active, that of patches below another, and that of
// patches that were switched off.
type OldCode struct{ zones []zone }

// View is what a debugger wants to know of the patches, all of one moment.
type View struct {
	Old     *OldCode
	Images  []Image // in the order of their loading
	Patches []Patch // as Known has them
}

// View returns how the patches are now. The target may run or be stopped, and is
// not touched. Refused with busy.
func (e *Engine) View(ctx context.Context) (*View, error) {
	end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	v := &View{Old: e.oldCode(), Patches: e.listing().Patches}
	for _, p := range e.reg.Patches {
		v.Images = append(v.Images, p.image())
	}
	return v, nil
}

func (e *Engine) oldCode() *OldCode {
	old := &OldCode{}
	for _, d := range e.reg.Redirects {
		serves := e.serving(d)
		for _, p := range e.reg.Patches {
			g := p.function(d.Entry)
			switch {
			case g == nil:
			case p == serves:
				old.zones = append(old.zones, g.oldCode()...)
			default:
				old.zones = append(old.zones, p.code(g, g)...)
			}
		}
	}
	return old
}

// Holds tells whether a frame with the given program counter, in the function
// of that name, runs old code.
func (o *OldCode) Holds(pc uint64, function string) bool { return o.holds(pc, function, true) }

// Left tells whether a program counter, in the function of that name, is in old
// code that no new call comes to either: a closure that was made before its
// function was replaced may be called as long as somebody has it.
func (o *OldCode) Left(pc uint64, function string) bool { return o.holds(pc, function, false) }

func (o *OldCode) holds(pc uint64, function string, beside bool) bool {
	x := &goruntime.Holder{Value: pc, Function: function}
	return o != nil && slices.ContainsFunc(o.zones, func(z zone) bool { return (beside || !z.beside) && z.holds(x) })
}
