package adapter

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
)

func TestRenumberChangesNothingElse(t *testing.T) {
	for _, test := range []struct{ msg, want string }{
		{`{"seq":7,"type":"event","unknown":{"seq":1}}`, `{"seq":42,"type":"event","unknown":{"seq":1}}`},
		{`{ "type":"event", "body":{"seq":9}, "seq" : 7 }`, `{ "type":"event", "body":{"seq":9}, "seq" : 42 }`},
		{`{"type":"event"}`, `{"type":"event"}`},
		{`{"a":1e400,"seq":1}`, `{"a":1e400,"seq":42}`},
		{`[1]`, `[1]`},
		{`{"seq":`, `{"seq":`},
		{``, ``},
	} {
		if got := string(renumber([]byte(test.msg), 42)); got != test.want {
			t.Errorf("renumber(%s) = %s, want %s", test.msg, got, test.want)
		}
	}
}

func TestAddMember(t *testing.T) {
	for _, test := range []struct{ object, want string }{
		{`{"a":1}`, `{"m":true,"a":1}`},
		{`{}`, `{"m":true}`},
		{`{ }`, `{"m":true }`},
		{`null`, `null`},
	} {
		got := addMember([]byte(test.object), "m", true)
		if string(got) != test.want || !json.Valid(got) {
			t.Errorf("addMember(%s) = %s, want %s", test.object, got, test.want)
		}
	}
}

// However a session cuts its writes, its messages arrive whole.
func FuzzSessionConnWrite(f *testing.F) {
	f.Add("Content-Length: 2\r\n\r\n{}Content-Length: 3\r\n\r\n[1]", 5)
	f.Add("Content-Length: x\r\n\r\n{}", 1)
	f.Add("Content-Length: -1\r\n\r\n{}", 1)
	f.Fuzz(func(t *testing.T, stream string, cut int) {
		read := func(pieces ...string) (messages []string) {
			c := newSessionConn(func(msg []byte) { messages = append(messages, string(msg)) })
			for _, p := range pieces {
				if _, err := io.WriteString(c, p); err != nil {
					return nil
				}
			}
			return messages
		}
		if cut < 0 || cut > len(stream) {
			return
		}
		whole, pieces := read(stream), read(stream[:cut], stream[cut:])
		if strings.Join(whole, "|") != strings.Join(pieces, "|") {
			t.Errorf("%q whole, %q in pieces", whole, pieces)
		}
	})
}
