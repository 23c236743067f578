// Shop is a server of HTTP for tests to patch. It knows nothing of it.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/shop/http"
)

func main() {
	http.HandleFunc("/total", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, total(3, 100))
	})
	http.HandleFunc("/greet", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, visitors.greet(r.FormValue("name")))
	})
	http.HandleFunc("/describe", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, describe(article{"pen", 120}))
	})
	http.HandleFunc("/fixed", handleFixed)
	http.HandleFunc("/mark", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, mark(len(r.URL.RawQuery)))
	})
	http.HandleFunc("/largest", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, largest([]int{3, 9, 4}), largest([]string{"a", "c", "b"}))
	})
	http.HandleFunc("/safe", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, safe(0))
	})
	http.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, wait())
	})
	http.HandleFunc("/waiting", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, waiting.Load())
	})
	http.HandleFunc("/release", func(w http.ResponseWriter, r *http.Request) {
		release <- true
		fmt.Fprintln(w, "released")
	})
	http.HandleFunc("/gc", func(w http.ResponseWriter, r *http.Request) {
		runtime.GC()
		fmt.Fprintln(w, "collected")
	})
	http.HandleFunc("/crowd", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.FormValue("n"), &n)
		for range n {
			go time.Sleep(time.Hour)
		}
		fmt.Fprintln(w, "asleep")
	})
	http.HandleFunc("/threads", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.FormValue("n"), &n)
		for range n {
			go func() {
				runtime.LockOSThread()
				select {}
			}()
		}
		fmt.Fprintln(w, "asleep")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("addr", l.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(l))
	os.Exit(1)
}

//go:noinline
func total(n, price int) int {
	return n * price
}

type counter struct {
	mu sync.Mutex
	n  map[string]int
}

var visitors = counter{n: map[string]int{}}

func (c *counter) greet(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name]++
	return fmt.Sprintf("hello %s", name)
}

type thing interface{ label() string }

type article struct {
	name  string
	price int
}

func (a article) label() string { return a.name }

//go:noinline
func describe(t thing) string {
	return "a " + t.label()
}

func handleFixed(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "fixed price")
}

//go:noinline
func largest[T int | string](s []T) T {
	m := s[0]
	for _, v := range s {
		m = max(m, v)
	}
	return m
}

//go:noinline
func safe(n int) (s string) {
	defer func() {
		if r := recover(); r != nil {
			s = fmt.Sprint("recovered: ", r)
		}
	}()
	return divide(10, n)
}

//go:noinline
func divide(a, b int) string {
	return fmt.Sprint(a / b)
}

var (
	release = make(chan bool)
	waiting atomic.Int32
)

//go:noinline
func wait() string {
	waiting.Add(1)
	<-release
	return "waited"
}

//go:noinline
func mark(n int) int {
	flags := n
	if n == 0 {
		flags = 2
	}
	return flags
}
