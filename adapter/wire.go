package adapter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// header is what the proxy needs to know of a message. Messages themselves are
// passed on as they came, so that fields unknown here survive.
type header struct {
	Seq        int             `json:"seq"`
	Type       string          `json:"type"`
	Command    string          `json:"command"`
	Event      string          `json:"event"`
	RequestSeq int             `json:"request_seq"`
	Success    bool            `json:"success"`
	Arguments  json.RawMessage `json:"arguments"`
	Body       json.RawMessage `json:"body"`
}

// edit replaces the value of a member of the object msg, and nothing else.
// Without such a member msg is returned as it is.
func edit(msg []byte, member string, change func(value []byte) []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(msg))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return msg
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return msg
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return msg
		}
		if name == member {
			end := int(dec.InputOffset())
			return bytes.Join([][]byte{msg[:end-len(value)], change(value), msg[end:]}, nil)
		}
	}
	return msg
}

// member returns the value of a member of the object msg, nil without it.
func member(msg []byte, name string) (value json.RawMessage) {
	edit(msg, name, func(v []byte) []byte {
		value = v
		return v
	})
	return value
}

// renumber sets the sequence number of msg.
func renumber(msg []byte, seq int) []byte {
	return edit(msg, "seq", func([]byte) []byte { return strconv.AppendInt(nil, int64(seq), 10) })
}

// addMember returns the object with one more member, first.
func addMember(object []byte, name string, value any) []byte {
	inner, ok := bytes.CutPrefix(object, []byte("{"))
	if !ok {
		return object
	}
	comma := ","
	if bytes.HasPrefix(bytes.TrimSpace(inner), []byte("}")) {
		comma = ""
	}
	return fmt.Appendf(nil, "{%q:%s%s%s", name, marshal(value), comma, inner)
}

// marshal encodes one of the adapter's own values, which can't fail.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
