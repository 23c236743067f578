package patcher

import (
	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/redirect"
)

// Entries that one store can make lead into a window only are straight while a patch
// is active if the new functions are in their windows: see straight.go. A module has
// its functions in the order of the program's, so that one place suits most of them;
// but other patches have to find room in the same windows, for stubs of their own.

const (
	// windowSize is how wide the windows are of functions that begin with the check
	// of the stack, which most functions do.
	windowSize = 16 << 20
	// moduleGap is what is left free below a module in a window, for stubs.
	moduleGap = 64 << 10
	// mostInWindow is how much a module may span that is placed in a window: next to
	// others of that kind it leaves room in every window.
	mostInWindow = windowSize - 4*moduleGap
)

// allocModule sets memory aside for m, not below what it requires.
func (e *Engine) allocModule(a *arena.Arena, m *module.Module) (base uint64, err error) {
	size, above := moduleSize(m), e.above(m)
	if base = e.allocInWindow(a, m, size); base != 0 && base >= above {
		return base, nil
	} else if base != 0 {
		a.Free(base, size)
	}
	return a.Alloc(size, above)
}

// allocInWindow sets memory aside where the entries that m replaces can lead
// straight to its functions. It is 0 if there is no such place, or none is needed.
// Modules that others may require are not placed there: those have to be above them, and
// there is more room below.
func (e *Engine) allocInWindow(a *arena.Arena, m *module.Module, size uint64) (base uint64) {
	if m.Manifest.Go == nil || size > mostInWindow || len(m.Manifest.Added) > 0 || len(m.Manifest.Requires) > 0 {
		return 0
	}
	text, err := e.lang.near(m)
	if err != nil {
		return 0
	}
	addresses := make(map[string]uint64, len(m.Symbols))
	for i := range m.Symbols {
		addresses[m.Symbols[i].Name] = m.Symbols[i].Addr
	}
	// Where the module may begin. What lies outside of the arena suits nobody.
	room := arena.Range{Start: a.Base() + moduleGap, End: a.Base() + a.Size() - size}
	narrow := false
	for i := range m.Manifest.Functions {
		f := &m.Manifest.Functions[i]
		if f.Offset > text.End-text.Start || f.Size > text.End-text.Start-f.Offset {
			return 0 // bind says so
		}
		w, ok := e.window(text.Start+f.Offset, f.Size)
		if !ok || anywhere(w) {
			continue
		}
		at := addresses[f.New]
		if start, end := max(room.Start, w.Start-at), min(room.End, w.End-at); start < end {
			room, narrow = arena.Range{Start: start, End: end}, true
		}
	}
	if !narrow {
		return 0
	}
	whole, err := a.AllocIn(arena.Range{Start: room.Start - moduleGap, End: room.End + size}, moduleGap+size)
	if err != nil {
		return 0
	}
	a.Free(whole, moduleGap+size)
	if base = whole + moduleGap; base >= room.End || a.Claim(base, size) != nil {
		return 0
	}
	return base
}

// window is where one store can make the entry of a function lead that has so many
// bytes; ok is false if that is nowhere.
func (e *Engine) window(entry, size uint64) (w redirect.Window, ok bool) {
	code := make([]byte, size)
	if e.p.ReadText(code, entry) != nil {
		return w, false
	}
	plan, err := redirect.Analyze(e.withoutRedirects(code, entry), entry)
	if err != nil {
		return w, false
	}
	single, w, _ := plan.OneStore()
	return w, single != nil
}
