// The command app calls work over and over and checks the heap meanwhile. It is
// what the tests patch.
package main

import (
	"fmt"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"time"

	"app/sub"
)

type shape interface {
	area() float64
	name() string
}

type square struct{ side float64 }

func (s square) area() float64 { return s.side * s.side }
func (s square) name() string  { return "square" }

type circle struct {
	radius float64
	label  *string
}

func (c *circle) area() float64 { return 3 * c.radius * c.radius }
func (c *circle) name() string  { return *c.label }

type counter struct {
	mu sync.Mutex
	n  map[string]int
}

var counts = counter{n: map[string]int{}}

func (c *counter) add(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[key]++
	return c.n[key]
}

func largest[T any](list []T, less func(a, b T) bool) (best T) {
	for i, x := range list {
		if i == 0 || less(best, x) {
			best = x
		}
	}
	return best
}

//go:noinline
func work(n int) string {
	label := "circle"
	shapes := []shape{square{float64(n)}, &circle{float64(n), &label}}
	sort.Slice(shapes, func(i, j int) bool { return shapes[i].area() < shapes[j].area() })
	best := largest(shapes, func(a, b shape) bool { return a.area() < b.area() })
	counts.add(best.name())
	return fmt.Sprintf("%s %d", best.name(), sub.Twice(n))
}

//go:noinline
func guarded(n int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("recovered: %v", r)
		}
	}()
	if n < 0 {
		panic("negative")
	}
	return nil
}

//go:noinline
func doubled(n int) any {
	type local struct{ n, twice int }
	return map[int]*[1]local{n: {{n, 2 * n}}}
}

func main() {
	debug.SetGCPercent(10)
	last := ""
	for n := 0; ; n = (n + 1) % 1000 {
		got := work(n)
		if word, _, _ := strings.Cut(got, " "); word != last {
			fmt.Println(got)
			last = word
		}
		if err := guarded(n - 1); (err != nil) != (n == 0) {
			fmt.Println("guarded:", n, err)
		}
		if doubled(n) == nil {
			fmt.Println("not doubled:", n)
		}
		if n%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
