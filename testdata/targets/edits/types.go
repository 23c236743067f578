package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

type point struct{ x, y int }

func (p point) String() string { return strconv.Itoa(p.x) + "," + strconv.Itoa(p.y) }

func (p point) Unused() string { return "nothing called it before" }

//go:noinline
func (p point) scaled(k int) point { return point{p.x * k, p.y * k} }

type shape interface {
	name() string
	area() float64
}

type square struct{ side float64 }

func (s square) name() string  { return "square" }
func (s square) area() float64 { return s.side * s.side }

type circle struct{ radius float64 }

func (c *circle) name() string  { return "circle" }
func (c *circle) area() float64 { return 3 * c.radius * c.radius }

// current lives from one question to the next.
var current shape = square{2}

//go:noinline
func become() { current = &circle{1} }

//go:noinline
func describe(x any) string {
	switch x := x.(type) {
	case fmt.Stringer:
		return "text " + x.String()
	case shape:
		return "shape " + x.name()
	case error:
		return "error " + x.Error()
	case int, int64:
		return fmt.Sprint("number ", x)
	}
	return "something"
}

type notFound struct{ key string }

func (e *notFound) Error() string { return "no " + e.key }

type denied struct{ code int }

func (e denied) Error() string { return "denied" }

//go:noinline
func classify(err error) string {
	var missing *notFound
	if errors.As(err, &missing) {
		return "missing " + missing.key
	}
	if d := (denied{}); errors.As(err, &d) {
		return fmt.Sprint("code ", d.code)
	}
	return "unknown"
}

//go:noinline
func find(key string) error {
	if key == "eof" {
		return fmt.Errorf("finding %s: %w", key, io.EOF)
	}
	return fmt.Errorf("finding %s: %w", key, &notFound{key})
}

type titled interface{ title() string }

type part struct{ word string }

func (p part) title() string { return "a " + p.word }

func (p *part) label() string { return "label of " + p.word }

type whole struct {
	*greeter
	part
}

func types() {
	steady("point", func() string { return fmt.Sprint(point{1, 2}, &point{3, 4}, point{1, 2}.scaled(2)) })
	steady("shape", func() string { return current.name() })
	others("become", func() string { become(); return "became" })
	others("reset", func() string { current = square{2}; return "reset" })
	steady("describe", func() string {
		return describe(point{1, 2}) + "|" + describe(square{1}) + "|" + describe(denied{}) + "|" + describe(7) + "|" + describe("x")
	})
	steady("classify", func() string { return classify(find("a")) + "|" + classify(denied{3}) + "|" + classify(find("eof")) })
	w := &whole{&greeter{word: "good day"}, part{"sum"}}
	var t titled = w
	label := interface{ label() string }(w)
	steady("title", func() string { return t.title() + " " + label.label() + " " + w.greet("eve") })
	steady("locals", func() string { return first() + second() })
}

//go:noinline
func first() string {
	type pair struct{ a, b int }
	return fmt.Sprintf("%v", pair{1, 2})
}

//go:noinline
func second() string {
	type pair struct{ a, b string }
	return fmt.Sprintf("%+v", pair{"x", "y"})
}
