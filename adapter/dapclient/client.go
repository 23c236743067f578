// Package dapclient is a small client of the debug adapter protocol. It leaves
// messages as they are on the wire, so that requests and events that only Darn
// has are no different from any others.
package dapclient

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/google/go-dap"

	"github.com/darn-dev/darn/patcher/finding"
)

// Client is one end of a connection to a debug adapter. Its methods may be
// called from any goroutine.
type Client struct {
	conn io.ReadWriteCloser
	// trace gets every message in the order in which they are sent and arrive.
	trace func(sent bool, msg []byte)

	write sync.Mutex // serialises sending; guards seq
	seq   int

	mu        sync.Mutex
	responses map[int]message
	events    []message // not taken yet
	err       error     // why reading has ended
	changed   chan struct{}
}

// message is a response or an event.
type message struct {
	Type       string          `json:"type"`
	Event      string          `json:"event"`
	Command    string          `json:"command"`
	RequestSeq int             `json:"request_seq"`
	Success    bool            `json:"success"`
	Message    string          `json:"message"`
	Body       json.RawMessage `json:"body"`
}

// Error is a response that says that a request failed.
type Error struct {
	Command  string
	Message  string // short
	ID       int
	Format   string            // the text for the user
	Findings []finding.Finding // of Darn's requests
}

// Error returns the text for the user.
func (e *Error) Error() string {
	if e.Format != "" {
		return e.Command + ": " + e.Format
	}
	return e.Command + ": " + e.Message
}

// Code returns the code of the finding that decided, "" if there is none.
func (e *Error) Code() finding.Code {
	if len(e.Findings) == 0 {
		return ""
	}
	return e.Findings[0].Code
}

// Dial connects to an adapter that listens at addr: host:port, or unix:PATH.
func Dial(ctx context.Context, addr string) (*Client, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return New(conn, nil), nil
}

// New makes a client of a connection. trace, if not nil, gets every message in
// the order in which they are sent and arrive; it must not call the client.
func New(conn io.ReadWriteCloser, trace func(sent bool, msg []byte)) *Client {
	if trace == nil {
		trace = func(bool, []byte) {}
	}
	c := &Client{
		conn:      conn,
		trace:     trace,
		responses: make(map[int]message),
		changed:   make(chan struct{}),
	}
	go c.read()
	return c
}

// Close closes the connection, without a word to the adapter.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) read() {
	r := bufio.NewReader(c.conn)
	for {
		raw, err := dap.ReadBaseMessage(r)
		var m message
		if err == nil {
			c.trace(false, raw)
			err = json.Unmarshal(raw, &m)
		}
		c.mu.Lock()
		switch {
		case err != nil:
			c.err = err
		case m.Type == "response":
			c.responses[m.RequestSeq] = m
		case m.Type == "event":
			c.events = append(c.events, m)
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait calls take, with c.mu held, until it returns true.
func (c *Client) wait(ctx context.Context, what string, take func() bool) error {
	for {
		c.mu.Lock()
		ok, err, changed := take(), c.err, c.changed
		c.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// Send sends a request without waiting for the response, for which Await
// takes the number that it returns.
func (c *Client) Send(command string, arguments any) (seq int, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	c.seq++
	raw, err := json.Marshal(struct {
		dap.Request
		Arguments any `json:"arguments,omitempty"`
	}{dap.Request{ProtocolMessage: dap.ProtocolMessage{Seq: c.seq, Type: "request"}, Command: command}, arguments})
	if err != nil {
		return 0, err
	}
	c.trace(true, raw)
	return c.seq, dap.WriteBaseMessage(c.conn, raw)
}

// Await waits for the response to a request and decodes its body into result,
// unless that is nil. If the request failed the error is an *Error.
func (c *Client) Await(ctx context.Context, seq int, result any) error {
	var m message
	err := c.wait(ctx, fmt.Sprintf("the response to request %d", seq), func() (ok bool) {
		m, ok = c.responses[seq]
		delete(c.responses, seq)
		return ok
	})
	if err != nil {
		return err
	}
	if !m.Success {
		var body struct {
			Error    dap.ErrorMessage  `json:"error"`
			Findings []finding.Finding `json:"findings"`
		}
		_ = json.Unmarshal(m.Body, &body) // an adapter may leave it out
		return &Error{Command: m.Command, Message: m.Message, ID: body.Error.Id, Format: body.Error.Format, Findings: body.Findings}
	}
	if result == nil || len(m.Body) == 0 {
		return nil
	}
	return json.Unmarshal(m.Body, result)
}

// Call sends a request and waits for its response, like Send and Await.
func (c *Client) Call(ctx context.Context, command string, arguments, result any) error {
	seq, err := c.Send(command, arguments)
	if err != nil {
		return err
	}
	return c.Await(ctx, seq, result)
}

// Event waits for an event with one of the names and decodes its body into
// body, unless that is nil. Events are taken in the order in which they came;
// those with other names stay.
func (c *Client) Event(ctx context.Context, body any, names ...string) (name string, err error) {
	var m message
	err = c.wait(ctx, "the event "+strings.Join(names, " or "), func() bool {
		for i, e := range c.events {
			for _, name := range names {
				if e.Event == name {
					m = e
					c.events = append(c.events[:i:i], c.events[i+1:]...)
					return true
				}
			}
		}
		return false
	})
	if err != nil {
		return "", err
	}
	if body == nil || len(m.Body) == 0 {
		return m.Event, nil
	}
	return m.Event, json.Unmarshal(m.Body, body)
}

// Pending returns the names of the events that have come and were not taken.
func (c *Client) Pending() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, e := range c.events {
		names = append(names, e.Event)
	}
	return names
}
