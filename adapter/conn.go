package adapter

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/google/go-dap"
)

// sessionConn is what Delve's session takes for its connection to a client:
// it reads what send queues, and every message it writes goes to deliver.
type sessionConn struct {
	// deliver is called in the session's own goroutine that writes. The
	// session goes on when it returns: halter.go depends on that.
	deliver func(msg []byte)
	partial []byte // of what the session writes; it serialises its writes

	mu     sync.Mutex
	more   sync.Cond // in has grown, or closed is set
	in     bytes.Buffer
	closed bool
}

func newSessionConn(deliver func([]byte)) *sessionConn {
	c := &sessionConn{deliver: deliver}
	c.more.L = &c.mu
	return c
}

// send queues a message for the session. It doesn't wait: however long the
// session is busy with one request, the proxy can go on answering others.
func (c *sessionConn) send(msg []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = dap.WriteBaseMessage(&c.in, msg) // a bytes.Buffer takes everything
	c.more.Signal()
}

func (c *sessionConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.in.Len() == 0 && !c.closed {
		c.more.Wait()
	}
	if c.closed {
		return 0, io.EOF
	}
	return c.in.Read(p)
}

func (c *sessionConn) Write(p []byte) (int, error) {
	c.partial = append(c.partial, p...)
	for {
		head, rest, ok := bytes.Cut(c.partial, []byte("\r\n\r\n"))
		if !ok {
			return len(p), nil
		}
		digits, ok := bytes.CutPrefix(head, []byte("Content-Length: "))
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n < 0 {
			return 0, fmt.Errorf("malformed header %q", head)
		}
		if len(rest) < n {
			return len(p), nil
		}
		msg := bytes.Clone(rest[:n])
		c.partial = append(c.partial[:0], rest[n:]...)
		c.deliver(msg)
	}
}

func (c *sessionConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.more.Broadcast()
	return nil
}
