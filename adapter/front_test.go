package adapter

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"
)

// harmless tells whether a stream can't make a session start or attach to a
// program.
func harmless(stream []byte) bool {
	text := strings.ToLower(string(stream))
	for _, word := range []string{"launch", "attach", `\u`} {
		if strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// FuzzFront sends a session, which has no target, whatever a client might send.
// It must come to its end when the client is gone, and answer every request that
// is whole, until a message is none.
func FuzzFront(f *testing.F) {
	frame := func(messages ...string) []byte {
		var b bytes.Buffer
		for _, m := range messages {
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(m), m)
		}
		return b.Bytes()
	}
	for _, m := range []string{
		`{"seq":1,"type":"request","command":"initialize","arguments":{"columnsStartAt1":false}}`,
		`{"seq":1,"type":"request","command":"darn/load","arguments":{"path":"/nowhere"}}`,
		`{"seq":1,"type":"request","command":"darn/activate","arguments":{"id":"1","at":{"path":"x","line":-1},"timeoutMs":-5}}`,
		`{"seq":1,"type":"request","command":"darn/list","arguments":[]}`,
		`{"seq":1,"type":"request","command":"setBreakpoints","arguments":{"source":{"path":"x"},"breakpoints":[{"line":1},{}]}}`,
		`{"seq":1,"type":"request","command":"setInstructionBreakpoints","arguments":{"breakpoints":[{"instructionReference":"0x1","offset":-9}]}}`,
		`{"seq":1,"type":"request","command":"evaluate","arguments":{"expression":"darn load x y","context":"repl"}}`,
		`{"seq":1,"type":"request","command":"disassemble","arguments":{"memoryReference":"0xffffffffffffffff","instructionCount":1000000000}}`,
		`{"seq":1,"type":"request","command":"completions","arguments":{"text":"darn ","column":1000000}}`,
		`{"seq":1,"type":"request","command":"modules","arguments":{"startModule":-1,"moduleCount":-1}}`,
		`{"seq":1099511627777,"type":"response","request_seq":1099511627777,"success":true}`,
		`{"seq":1,"type":"request","command":"stepIn","arguments":{"threadId":-1}}`,
		`{"seq":1,"type":"request","command":"disconnect"}`,
		`{"seq":1,"type":"event"}`, `[]`, `null`, ``,
	} {
		f.Add(frame(m))
	}
	f.Add([]byte("Content-Length: 9999999999\r\n\r\n{}"))
	f.Add([]byte("Content-Length: 10\r\n\r\n{}"))
	f.Add([]byte("Content-Length: 2\r\n\n\n{}"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		if !harmless(stream) {
			t.Skip()
		}
		client, server := net.Pipe()
		p := newProxy(server, Config{})
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = p.serve(t.Context())
		}()
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			_, _ = io.Copy(io.Discard, client)
		}()
		_ = client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = client.Write(stream)
		client.Close()
		select {
		case <-served:
		case <-time.After(20 * time.Second):
			t.Fatal("the session does not end")
		}
		<-heard
	})
}

// endless is a header without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}
func (e *endless) Write(p []byte) (int, error) { return len(p), nil }
func (e *endless) Close() error                { return nil }

func TestAHeaderWithoutAnEndEndsTheSession(t *testing.T) {
	conn := new(endless)
	p := newProxy(conn, Config{})
	ended := make(chan error, 1)
	go func() { ended <- p.readClient() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatalf("%d bytes were read", conn.read)
	}
	p.session.Close()
}

// A message as long as the protocol allows is none.
func TestLongMessagesArrive(t *testing.T) {
	var stream bytes.Buffer
	long := fmt.Sprintf(`{"seq":1,"type":"request","command":"%s"}`, strings.Repeat("x", 4<<20-100))
	for range 3 {
		_ = dap.WriteBaseMessage(&stream, []byte(long))
	}
	p := newProxy(stdio{}, Config{})
	r := p.messages(&stream)
	for range 3 {
		if msg, err := r(); err != nil || string(msg) != long {
			t.Fatalf("%d bytes, %v", len(msg), err)
		}
	}
	if _, err := r(); err != io.EOF {
		t.Errorf("then comes %v", err)
	}
	p.session.Close()
}
