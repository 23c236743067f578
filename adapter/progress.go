package adapter

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/go-dap"
)

// progressAfter is when an operation is long enough to be shown.
const progressAfter = 500 * time.Millisecond

// progress shows the client that something is under way until end is called,
// if that takes long and the client can show it. update says how it stands.
func (p *proxy) progress(title string) (update func(message string), end func()) {
	p.mu.Lock()
	shows := p.showsProgress
	p.lastProgress++
	id := fmt.Sprintf("darn-%d", p.lastProgress)
	p.mu.Unlock()
	if !shows {
		return func(string) {}, func() {}
	}
	var mu sync.Mutex
	begun, over := false, false
	shown, last := "", ""
	timer := time.AfterFunc(progressAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			begun, shown = true, last
			p.event("progressStart", dap.ProgressStartEventBody{ProgressId: id, Title: title, Message: shown})
		}
	})
	update = func(message string) {
		mu.Lock()
		defer mu.Unlock()
		last = message
		if begun && !over && message != shown {
			shown = message
			p.event("progressUpdate", dap.ProgressUpdateEventBody{ProgressId: id, Message: message})
		}
	}
	return update, func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		if begun {
			p.event("progressEnd", dap.ProgressEndEventBody{ProgressId: id})
		}
	}
}
