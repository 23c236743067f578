// The command app calls work over and over and checks the heap meanwhile. It is
// what the tests patch.
package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"text/template"
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
	data, err := json.Marshal(map[string]any{"name": best.name(), "n": n, "two": sub.Twice(n), "re": re().FindString("abc123"), "shape": best, "time": time.Now()})
	if err != nil {
		fmt.Println("BAD", err)
	}
	var back struct {
		Name  string    `json:"name"`
		N     int       `json:"n"`
		Re    string    `json:"re"`
		Shape any       `json:"shape"`
		Time  time.Time `json:"time"`
	}
	if err := json.Unmarshal(data, &back); err != nil || back.N != n || back.Re != "123" {
		fmt.Println("BAD", err, back)
	}
	var out strings.Builder
	if err := tmpl().Execute(&out, back); err != nil {
		fmt.Println("BAD", err)
	}
	return out.String()
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

var (
	once sync.Once
	reV  *regexp.Regexp
	tmV  *template.Template
)

func setup() {
	reV = regexp.MustCompile("[0-9]+")
	tmV = template.Must(template.New("t").Parse(`json {{.Name}} {{.N}} {{printf "%T" .Shape}} {{.Time.Year}}`))
}

func re() *regexp.Regexp { once.Do(setup); return reV }

func tmpl() *template.Template { once.Do(setup); return tmV }

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
