package main

import (
	"cmp"
	"fmt"
	"iter"
	"strings"
)

type number interface{ ~int | ~float64 }

type meters float64

//go:noinline
func sum[T number](list ...T) (s T) {
	for _, x := range list {
		s += x
	}
	return s
}

type stack[T any] struct{ list []T }

func (s *stack[T]) push(x T) { s.list = append(s.list, x) }

//go:noinline
func (s *stack[T]) top() (x T, ok bool) {
	if len(s.list) == 0 {
		return x, false
	}
	return s.list[len(s.list)-1], true
}

func (s stack[T]) String() string { return fmt.Sprintf("%d of %T", len(s.list), *new(T)) }

//go:noinline
func apply[T, U any](list []T, f func(T) U) (out []U) {
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}

//go:noinline
func largest[K comparable, V cmp.Ordered](m map[K]V) (best K) {
	var most V
	for k, v := range m {
		if v > most {
			best, most = k, v
		}
	}
	return best
}

//go:noinline
func upTo(n int) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for i := range n {
			if !yield(i, strings.Repeat("*", i)) {
				return
			}
		}
	}
}

//go:noinline
func stars() (s string) {
	for i, x := range upTo(5) {
		if i == 3 {
			break
		}
		s += x + ";"
	}
	return s
}

//go:noinline
func pulled() string {
	next, stop := iter.Pull2(upTo(3))
	defer stop()
	next()
	i, s, ok := next()
	return fmt.Sprint(i, s, ok)
}

func generics() {
	steady("sum", func() string { return fmt.Sprint(sum(1, 2, 3), sum(1.5, 2), sum(meters(2), 3)) })
	steady("stack", func() string {
		var s stack[string]
		s.push("a")
		s.push("b")
		x, ok := s.top()
		var e stack[*greeter]
		_, empty := e.top()
		return fmt.Sprint(x, ok, empty)
	})
	words := fmt.Stringer(stack[point]{make([]point, 2)})
	steady("described", func() string { return words.String() + " " + fmt.Sprint(stack[int]{}) })
	steady("applied", func() string { return fmt.Sprint(apply([]int{1, 2}, func(n int) string { return fmt.Sprint(n * n) })) })
	steady("largest", func() string { return largest(map[string]int{"a": 1, "b": 3, "c": 2}) })
	steady("stars", stars)
	steady("pulled", pulled)
}
