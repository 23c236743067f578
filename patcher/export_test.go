package patcher

import (
	"time"

	"github.com/darn-dev/darn/patcher/arena"
	"github.com/darn-dev/darn/patcher/module"
)

// StraightenAfter changes for how long switches have to stay as they are until entries
// are straightened. The function that it returns puts it back. No Engine may be open.
func StraightenAfter(d time.Duration) (restore func()) {
	was := straightenAfter
	straightenAfter = d
	return func() { straightenAfter = was }
}

// WhenPlanned has f called, with the page where an arena is to begin, each time
// that one is planned and not yet reserved.
func (e *Engine) WhenPlanned(f func(base uint64)) {
	if w, ok := e.lang.(*watchedPlans); ok {
		e.lang = w.language
	}
	e.lang = &watchedPlans{e.lang, f}
}

type watchedPlans struct {
	language
	planned func(base uint64)
}

func (w *watchedPlans) planArena(m *module.Module) (*arena.Arena, error) {
	a, err := w.language.planArena(m)
	if err == nil {
		w.planned(a.Base())
	}
	return a, err
}
