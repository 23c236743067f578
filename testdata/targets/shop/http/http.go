// Package http is as much of net/http as the shop needs. Reading the debug
// information of the real one takes most of the time of tests that want a
// server and do not care which.
package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
)

// Request is a request that was read.
type Request struct {
	URL *url.URL
}

// NewRequest makes a request for a path and what comes after it.
func NewRequest(uri string) (*Request, error) {
	u, err := url.ParseRequestURI(uri)
	return &Request{u}, err
}

// FormValue returns the first value of a query parameter, "" if it has none.
func (r *Request) FormValue(name string) string { return r.URL.Query().Get(name) }

// ResponseWriter takes the body of the answer.
type ResponseWriter io.Writer

// HandlerFunc answers requests.
type HandlerFunc func(ResponseWriter, *Request)

// ServeHTTP calls f.
func (f HandlerFunc) ServeHTTP(w ResponseWriter, r *Request) { f(w, r) }

var handlers = map[string]HandlerFunc{}

// HandleFunc has f answer the requests for a path; call it before Serve.
func HandleFunc(path string, f HandlerFunc) { handlers[path] = f }

// ServeHTTP answers a request; there may be no handler for it.
func ServeHTTP(w ResponseWriter, r *Request) (found bool) {
	f, found := handlers[r.URL.Path]
	if found {
		f.ServeHTTP(w, r)
	}
	return found
}

// Serve answers requests, one in each connection, until accepting one fails.
func Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go (&conn{c}).serve()
	}
}

type conn struct{ net.Conn }

// serve reads a request and answers it.
func (c *conn) serve() {
	defer c.Close()
	lines := bufio.NewScanner(c)
	lines.Scan()
	words := strings.Fields(lines.Text())
	for lines.Scan() && lines.Text() != "" {
	}
	if len(words) != 3 {
		return
	}
	r, err := NewRequest(words[1])
	if err != nil {
		return
	}
	var body bytes.Buffer
	status := "200 OK"
	if !ServeHTTP(&body, r) {
		status = "404 Not Found"
	}
	fmt.Fprintf(c, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, body.Len(), body.Bytes())
}
