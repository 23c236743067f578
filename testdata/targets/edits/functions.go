package main

import (
	"fmt"
	"strings"
)

func functions() {
	steady("total", func() string { return fmt.Sprint(total(3, 100)) })
	steady("variadic", func() string { return fmt.Sprint(joined(","), joined(",", "a"), joined("-", "a", "b", "c")) })
	steady("fresh", fresh)
	steady("guarded", func() string { return guarded(0) })
	steady("unwound", unwound)
	steady("kind", func() string { return fmt.Sprint(kind("mon"), kind("sun"), kind("day")) })
	steady("operation", func() string { return operation(2) + operation(7) + operation(99) })
	steady("fib", func() string { return fmt.Sprint(fib(12)) })
	steady("price", func() string { return fmt.Sprint(price(4)) })
	steady("results", func() string { a, b, c := results(6); return fmt.Sprint(a, b, c) })
	steady("weekday", func() string { return weekday(1) + weekday(6) })
	steady("text", func() string { return text([]byte("some bytes")) })
	others("hold", hold)
	others("held", func() string { <-holding; return "held" })
	others("walk", func() string { return walk(4) })
	others("release", func() string { gate <- true; return "released" })
}

//go:noinline
func total(n, price int) int {
	return n * price
}

//go:noinline
func joined(sep string, parts ...string) string {
	return fmt.Sprint(len(parts), ":", strings.Join(parts, sep))
}

// fresh is where tests bring in new code.
//
//go:noinline
func fresh() string {
	return "old"
}

//go:noinline
func guarded(n int) (s string) {
	defer func() {
		if r := recover(); r != nil {
			s = fmt.Sprint("recovered ", r)
		}
	}()
	return fmt.Sprint(10 / n)
}

//go:noinline
func unwound() (s string) {
	for i := range 3 {
		defer func() { s += fmt.Sprint(i) }()
	}
	defer note(&s, "done ")
	return ""
}

//go:noinline
func note(s *string, word string) { *s += word }

//go:noinline
func kind(s string) int {
	switch s {
	case "mon", "tue", "wed":
		return 1
	case "thu", "fri":
		return 2
	case "sat":
		return 3
	case "sun":
		return 4
	case "holiday":
		return 5
	case "never":
		return 6
	}
	return 0
}

//go:noinline
func operation(n int) string {
	switch n {
	case 0:
		return "nop "
	case 1:
		return "add "
	case 2:
		return "sub "
	case 3:
		return "mul "
	case 4:
		return "div "
	case 5:
		return "mod "
	case 6:
		return "and "
	case 7:
		return "or "
	case 8:
		return "xor "
	}
	return "what "
}

//go:noinline
func fib(n int) int {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

//go:noinline
func price(n int) int { return n * 25 }

//go:noinline
func results(n int) (string, [3]int, error) {
	if n > 10 {
		return "", [3]int{}, fmt.Errorf("%d is too many", n)
	}
	return "fine", [3]int{n, n, n}, nil
}

const firstDay = 1

var days = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

//go:noinline
func weekday(n int) string { return days[(n+firstDay-1)%len(days)] }

//go:noinline
func text(b []byte) string {
	s := string(b)
	return strings.ToUpper(s[:4]) + string(b[4:])
}

var (
	gate    = make(chan bool)
	holding = make(chan bool, 100)
)

// hold is in the middle of a call until the gate is opened.
//
//go:noinline
func hold() string {
	holding <- true
	<-gate
	return fmt.Sprint("held ", price(1))
}

// walk calls itself, and waits half way.
//
//go:noinline
func walk(n int) string {
	if n == 2 {
		holding <- true
		<-gate
	}
	if n == 0 {
		return "end"
	}
	return fmt.Sprint(n, " ", walk(n-1))
}
