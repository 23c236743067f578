// Package main has one of everything that an edit may touch.
package main

import (
	"example.com/sample/sub"
	"os"
	"reflect"
)

type shape interface{ area() int }

type square struct {
	side int
	Name string `json:"name"`
}

//go:noinline
func (s *square) area() int { return s.side * s.side }

var shapes []shape

//go:noinline
func total(list []shape) (n int) {
	for _, s := range list {
		n += s.area()
	}
	return n
}

type box[T any] struct{ v T }

//go:noinline
func (b *box[T]) get() T { return b.v }

const limit = 10

var counter int
var limits = []string{"low", "middle", "high"}
var started = sub.Clock()

//go:noinline
func largest[T int | string](list []T) (m T) {
	for _, v := range list {
		if v > m {
			m = v
		}
	}
	return m
}

//go:noinline
func greet(name string) string {
	counter++
	return "hello, dear " + name
}

type plain struct{ left, right int }

// fields reads fields of a type's descriptor: package reflect is inlined.
//
//go:noinline
func fields(s *plain) (n int) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		n += len(v.Type().Field(i).Name)
	}
	return n
}

func double(n int) int { return 2 * n }

func nameless(_ int, s string, _ bool) (int, error) { return len(s), nil }

//go:noinline
func useDouble(n int) int { return double(n) + 1 }

//go:noinline
func classify(v any) string {
	switch v := v.(type) {
	case int:
		return "int"
	case string:
		return v
	}
	return "other"
}

//go:noinline
func adder(n int) func(int) int {
	total := 0
	return func(k int) int {
		total += k + n
		return total
	}
}

//go:noinline
func walker(n int) func() int {
	type walk struct{ at, by int }
	w := walk{at: n, by: 1}
	return func() int {
		w.at += w.by
		return w.at
	}
}

type span struct{ from, to int }

var spans []span

//go:noinline
func widest() (w int) {
	for _, s := range spans {
		w = max(w, s.to-s.from)
	}
	return w
}

//go:noinline
func pair(a, b string) (func() string, func() string) {
	return func() string { return "first " + a }, func() string { return "second " + b }
}

//go:noinline
func below(n int) bool { return n < limit }

//go:noinline
func calls(v any) any { return v }

const text = "prefix and suffix"

//go:noinline
func whole() string { return text }

//go:noinline
func sliced() string { return text[7:] }

//go:noinline
func worker(work chan int) {
	for {
		println(<-work)
	}
}

//go:noinline
func reader(work chan int) {
	for {
		n, ok := <-work
		if !ok {
			return
		}
		println(n)
	}
}

func unused() int { return 1 }

func init() { counter = 1 }

func main() {
	a := adder(len(os.Args))
	f, g := pair("x", "y")
	shapes = append(shapes, &square{side: a(1)})
	b := box[string]{greet("you")}
	println(total(shapes), b.get(), classify(calls(shapes[0])), useDouble(3), below(a(2)), f(), g(), walker(3)(), widest(), largest(limits), largest([]int{1}), started, sub.Text())
	println(whole(), sliced())
	println(nameless(1, os.Args[0], true))
	println(fields(new(plain)))
	go func() { println("background") }()
	go worker(nil)
	go reader(nil)
}
