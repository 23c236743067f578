// Bills is a stock HTTP server of pure functions, for tests that compare their
// versions.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	http.HandleFunc("/bill", func(w http.ResponseWriter, r *http.Request) {
		n, price := 3, 100
		names := []string{"tea", "milk"}
		b := &bill{"tea", n}
		last, all = b, names // on the heap
		call := total
		sum := call(n, price) // stop here
		h, err := half(n + 1)
		fmt.Fprintln(w, sum, b.text("for"), b.double(), h, err, list(names), deep(64))
		fmt.Fprintln(w, other(n), b.short(), most(names), pause(0))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("addr", l.Addr())
	fmt.Fprintln(os.Stderr, http.Serve(l, nil))
	os.Exit(1)
}

var (
	last *bill
	all  []string
)

type bill struct {
	what string
	cups int
}

//go:noinline
func total(n, price int) int {
	return n * price
}

//go:noinline
func (b *bill) text(word string) string {
	return fmt.Sprintf("%d %s %s", b.cups, word, b.what)
}

//go:noinline
func (b bill) double() bill {
	return bill{b.what, 2 * b.cups}
}

//go:noinline
func half(n int) (int, error) {
	return n / 2, nil
}

//go:noinline
func list(names []string) string {
	return strings.Join(names, ", ")
}

//go:noinline
func deep(n int) int {
	var room [512]byte
	room[n%len(room)] = 1
	if n == 0 {
		return int(room[0])
	}
	return 1 + deep(n-1)
}

//go:noinline
func other(n int) int {
	return n + 1
}

//go:noinline
func (b *bill) short() string {
	return b.what
}

//go:noinline
func most[T int | string](s []T) T {
	m := s[0]
	for _, v := range s {
		m = max(m, v)
	}
	return m
}

//go:noinline
func pause(n int) int {
	time.Sleep(time.Duration(n) * time.Second)
	return n
}
