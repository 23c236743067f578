package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

type job struct {
	n    int
	done chan string
}

var jobs = make(chan job)

// work never returns.
func work() {
	for j := range jobs {
		j.done <- handle(j.n)
	}
}

//go:noinline
func handle(n int) string { return fmt.Sprint("job ", n) }

//go:noinline
func gather() string {
	c := make(chan int)
	for i := range 4 {
		go func() { c <- i * i }()
	}
	s := 0
	for range 4 {
		s += <-c
	}
	return fmt.Sprint(s)
}

//go:noinline
func choose() string {
	a, b, never := make(chan int, 1), make(chan string, 1), make(chan bool)
	a <- 1
	select {
	case n := <-a:
		b <- fmt.Sprint("a", n)
	case <-never:
	}
	select {
	case s := <-b:
		return s
	default:
		return "nothing"
	}
}

//go:noinline
func guardedWork() string {
	var wg sync.WaitGroup
	var failed atomic.Int32
	for i := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() {
				if recover() != nil {
					failed.Add(1)
				}
			}()
			if i == 1 {
				panic("one fails")
			}
		}()
	}
	wg.Wait()
	return fmt.Sprint(failed.Load(), " failed")
}

var (
	spawned atomic.Int32
	stop    = make(chan bool)
)

//go:noinline
func spawn() {
	go func() {
		spawned.Add(1)
		<-stop
		spawned.Add(-1)
	}()
}

func goroutines() {
	for range 2 {
		go work()
	}
	steady("job", func() string {
		j := job{5, make(chan string)}
		jobs <- j
		return <-j.done
	})
	steady("gather", gather)
	steady("choose", choose)
	steady("guardedWork", guardedWork)
	others("spawn", func() string { spawn(); return "spawned" })
	others("spawned", func() string { time.Sleep(time.Millisecond); return fmt.Sprint(spawned.Load()) })
	others("stop", func() string { stop <- true; return "stopped" })
}
