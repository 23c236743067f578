// The command app calls work over and over and checks the heap meanwhile. It is
// what the tests patch.
package main

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
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
	shapes := []shape{square{float64(n)}, &circle{float64(n), &label}, &triangle{n: float64(n), tags: map[string][]int{"a": {n}}}}
	sort.Slice(shapes, func(i, j int) bool { return shapes[i].area() < shapes[j].area() })
	best := largest(shapes, func(a, b shape) bool { return a.area() < b.area() })
	counts.add(best.name())
	extra := make(map[key]*node)
	var list *node
	for i := range 50 {
		list = &node{next: list, value: fmt.Sprint(i, n), at: time.Now()}
		extra[key{i, list.value}] = list
	}
	ch := make(chan result, 4)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					ch <- result{err: fmt.Errorf("worker %d: %w", i, r.(error))}
				}
			}()
			deep(i*20, list)
			if i == 2 {
				panic(&custom{code: n, node: list})
			}
			ch <- result{n: i}
		})
	}
	wg.Wait()
	close(ch)
	sum := 0
	for r := range ch {
		var c *custom
		if errors.As(r.err, &c) {
			if c.code != n || c.node != list {
				fmt.Println("BAD", c)
			}
			sum += 100
		} else {
			sum += r.n
		}
	}
	if sum != 104 {
		fmt.Println("BAD sum", sum)
	}
	if n%97 == 0 {
		buf := make([]byte, 8192)
		buf = buf[:runtime.Stack(buf, false)]
		if !strings.Contains(string(buf), "main.work(") || !strings.Contains(string(buf), "main.go:") {
			fmt.Println("BAD stack", string(buf))
		}
		if st := stackOf(); n == 0 {
			fmt.Println(st)
		}
	}
	switch v := any(best).(type) {
	case *triangle:
		return fmt.Sprintf("%s %d %v %d", v.name(), sub.Twice(n), v.tags, len(extra))
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprintf("new %s %d %T", best.name(), sub.Twice(n), best)
}

type triangle struct {
	n    float64
	tags map[string][]int
}

func (t *triangle) area() float64 { return 10 * t.n * t.n }
func (t *triangle) name() string  { return "triangle" }

type key struct {
	n int
	s string
}

type node struct {
	next  *node
	value string
	at    time.Time
	buf   [7]*node
}

type result struct {
	n   int
	err error
}

type custom struct {
	code int
	node *node
}

func (c *custom) Error() string { return fmt.Sprintf("custom %d", c.code) }

//go:noinline
func deep(n int, list *node) int {
	var pad [64]*node
	for i := range pad {
		pad[i] = list
	}
	if n == 0 {
		return len(list.value)
	}
	return deep(n-1, pad[n%64]) + 1
}

var calls atomic.Int64

var lookup = [...]string{"zero", "one", "two"}

func stackOf() (s string) {
	defer func() {
		r := recover()
		s = fmt.Sprintf("%v %s %s", r, debug.Stack(), lookup[calls.Add(1)%3])
	}()
	var p *node
	return p.value
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
		if n%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
