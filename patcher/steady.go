package patcher

import (
	"context"
	"slices"
)

// Steady calls f while all patches stay as they are: other operations wait until
// it returns. It gets the module of the patch with the given id and a function
// that returns the id of the active patch to whose code calls of a function in
// the target go, by its entry, "" if they run the target's own code. f must not
// use the Engine. The target may run or be stopped, and is not touched. Refused
// with not-loaded or busy; what f returns is returned.
func (e *Engine) Steady(ctx context.Context, id string, f func(module Image, serves func(entry uint64) string) error) error {
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	p, err := e.reg.patch(id)
	if err != nil {
		return err
	}
	return f(p.image(), func(entry uint64) string {
		if q := e.serving(e.reg.redirect(entry)); q != nil {
			return q.ID
		}
		return ""
	})
}

// serving returns the patch to whose code calls of a redirected function go, nil
// if they run the target's own.
func (e *Engine) serving(d *redirectRecord) *patchRecord {
	if d == nil {
		return nil
	}
	for _, id := range slices.Backward(d.Stack) {
		if p, err := e.reg.patch(id); err == nil && e.state(p) == Active {
			return p
		}
	}
	return nil
}
