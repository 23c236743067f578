package adapter

import (
	"bytes"
	"io"
	"sync"

	"github.com/google/go-dap"
)

// outbox sends messages to the client in the order in which they were put in.
// Putting never waits, so that nothing of the session's ever hangs on a client
// that is slow to read, or on a message that must be looked into first.
type outbox struct {
	w    io.Writer
	done chan struct{} // closed when everything has been sent

	mu     sync.Mutex
	more   sync.Cond
	queue  []func() []byte
	closed bool
}

func newOutbox(w io.Writer) *outbox {
	o := &outbox{w: w, done: make(chan struct{})}
	o.more.L = &o.mu
	go o.run()
	return o
}

// put queues a message. It is made when its turn has come; nil is not sent.
func (o *outbox) put(msg func() []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.queue = append(o.queue, msg)
		o.more.Signal()
	}
}

// close sends what is queued and nothing more.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.more.Signal()
	o.mu.Unlock()
}

func (o *outbox) run() {
	defer close(o.done)
	// Messages to the client are numbered here, whoever wrote them.
	for seq := 1; ; {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.more.Wait()
		}
		if len(o.queue) == 0 {
			o.mu.Unlock()
			return
		}
		make := o.queue[0]
		o.queue = o.queue[1:]
		o.mu.Unlock()

		msg := make()
		if msg == nil {
			continue
		}
		var b bytes.Buffer
		_ = dap.WriteBaseMessage(&b, renumber(msg, seq))
		seq++
		// An error means that the client is gone, which its reader notices.
		_, _ = o.w.Write(b.Bytes())
	}
}
