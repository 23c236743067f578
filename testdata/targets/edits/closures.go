package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"
)

// handlers are registered when the program starts, and live as long as it.
var handlers = map[string]func(name string) string{}

type greeter struct {
	mu   sync.Mutex
	word string
	n    int
}

func (g *greeter) greet(name string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	return g.word + " " + name
}

func closures() {
	prefix, hits := "dear", 0
	var mu sync.Mutex
	handlers["letter"] = func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		hits++
		return prefix + " " + name
	}
	handlers["short"] = func(name string) string { return name[:1] }
	g := &greeter{word: "hello"}
	bound, expression := g.greet, (*greeter).greet
	steady("letter", func() string { return handlers["letter"]("eve") })
	steady("short", func() string { return handlers["short"]("eve") })
	steady("bound", func() string { return bound("eve") })
	steady("expression", func() string { return expression(g, "bob") })
	steady("sorted", func() string { return sorted(3, 1, 2) })
	steady("later", later)
	steady("cancelled", cancelled)
	others("keep", func() string { keep("a"); return "kept" })
	others("kept", func() string { return kept() })
	others("forget", func() string { kept = nothing; return "forgotten" })
}

//go:noinline
func sorted(list ...int) string {
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return fmt.Sprint(list)
}

//go:noinline
func later() string {
	c := make(chan string, 1)
	time.AfterFunc(time.Microsecond, func() { c <- "after a while" })
	return <-c
}

//go:noinline
func cancelled() string {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan string, 1)
	context.AfterFunc(ctx, func() { done <- fmt.Sprint("because ", ctx.Err()) })
	cancel()
	return <-done
}

func nothing() string { return "nothing" }

var kept = nothing

//go:noinline
func keep(s string) {
	kept = func() string { return "old " + s }
}
