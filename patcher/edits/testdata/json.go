package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

type order struct {
	ID    int               `json:"id"`
	Lines []line            `json:"lines,omitempty"`
	Meta  map[string]any    `json:"meta"`
	Raw   json.RawMessage   `json:"raw"`
	State state             `json:"state"`
	Next  *order            `json:"next,omitempty"`
	By    map[state]float64 `json:"by"`
}

type line struct {
	Name string
	N    uint8 `json:",string"`
}

type state int

func (s state) MarshalText() ([]byte, error) { return []byte(fmt.Sprint("s", int(s))), nil }

func (s *state) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "s%d", (*int)(s))
	return err
}

//go:noinline
func freshCode() string {
	in := order{ID: 7, Lines: []line{{"pen", 3}}, Meta: map[string]any{"a": []any{1.5, "x", nil}}, Raw: json.RawMessage(`{"k":[]}`), State: 2,
		Next: &order{ID: 8, Meta: map[string]any{}, Raw: json.RawMessage(`1`)}, By: map[state]float64{4: 0.5}}
	b, err := json.Marshal(in)
	if err != nil {
		return err.Error()
	}
	var out order
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return err.Error()
	}
	out.Next.By, in.Next.By = nil, nil
	if !reflect.DeepEqual(in, out) {
		return fmt.Sprintf("%s: %+v is not %+v", b, out, in)
	}
	// A type of the old program.
	if b, err = json.Marshal(map[string]any{"point": point{1, 2}, "square": square{3}}); err != nil {
		return err.Error()
	}
	return "json " + string(b)
}
