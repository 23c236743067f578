// Assembly is a server that calls assembly, for tests to patch.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/total", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, total(3))
	})
	http.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, sum(5))
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

//go:noinline
func total(n int) int {
	return n * 100
}

func sum(x int64) int64
