// Command runtime-modules is a server to whose runtime modules are made known.
package main

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
)

//go:noinline
func first(n int) string { return fmt.Sprint("first ", n) }

//go:noinline
func second(n int) string { return fmt.Sprint("second ", n) }

//go:noinline
func third(n int) string { return fmt.Sprint("third ", n) }

func main() {
	http.HandleFunc("/all", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, first(1), second(2), third(3))
	})
	// What function a program counter is in, as the runtime knows it.
	http.HandleFunc("/name", func(w http.ResponseWriter, r *http.Request) {
		pc, err := strconv.ParseUint(r.URL.RawQuery, 16, 64)
		f := runtime.FuncForPC(uintptr(pc))
		if err != nil || f == nil {
			fmt.Fprint(w, "none")
			return
		}
		fmt.Fprint(w, f.Name())
	})
	http.HandleFunc("/gc", func(w http.ResponseWriter, r *http.Request) {
		runtime.GC()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("addr", l.Addr())
	panic(http.Serve(l, nil))
}
