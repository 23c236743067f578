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
// if that takes long and the client can show it.
func (p *proxy) progress(title string) (end func()) {
	p.mu.Lock()
	shows := p.showsProgress
	p.lastProgress++
	id := fmt.Sprintf("darn-%d", p.lastProgress)
	p.mu.Unlock()
	if !shows {
		return func() {}
	}
	var mu sync.Mutex
	begun, over := false, false
	timer := time.AfterFunc(progressAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			begun = true
			p.event("progressStart", dap.ProgressStartEventBody{ProgressId: id, Title: title})
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
		if begun {
			p.event("progressEnd", dap.ProgressEndEventBody{ProgressId: id})
		}
	}
}
