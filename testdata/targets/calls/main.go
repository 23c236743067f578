// Calls is a stock HTTP server that times calls of its functions. It knows nothing
// of patches.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

func main() {
	http.HandleFunc("/leaf", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, leaf(1, 2), timeLeaf(), calls)
	})
	http.HandleFunc("/checked", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, checked(1, 2), timeChecked(), calls)
	})
	http.HandleFunc("/returns", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, leaf(1, 2), checked(1, 2))
	})
	http.HandleFunc("/hammer", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscan(r.FormValue("n"), &n)
		for range n {
			go hammer()
		}
		fmt.Fprintln(w, "hammering")
	})
	http.HandleFunc("/hammered", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, hammered.Load())
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

// checked begins with the check of the stack, and leaf with an instruction of seven
// bytes. A call runs 32 bytes of either at most, of what replaces it too: that is
// never across two lines of the cache, which would take a cycle more.
//
//go:noinline
func checked(a, b int) int {
	if a >= 0 {
		return a + 3000
	}
	rare()
	return 0
}

//go:noinline
func leaf(a, b int) int { return a*1000 + b }

//go:noinline
func rare() { fmt.Println("rare") }

var hammered atomic.Int64 // calls

// hammer calls the functions for ever, on a thread of its own. What neither version
// returns ends the program.
func hammer() {
	runtime.LockOSThread()
	for {
		for range 1000 {
			if n := leaf(3, 0); n != 3000 && n != 6000 {
				panic(fmt.Sprint("leaf returns ", n))
			}
			if n := checked(3, 0); n != 3003 && n != 4003 {
				panic(fmt.Sprint("checked returns ", n))
			}
		}
		hammered.Add(2000)
	}
}

// What times is the same code whatever leaf and checked do. The fastest turn
// counts: in it nobody else had the processor.
const turns, calls = 200, 50000

//go:noinline
func timeLeaf() (nanoseconds int64) {
	for range turns {
		begun := time.Now()
		for range calls {
			leaf(1, 2)
		}
		nanoseconds = fastest(nanoseconds, begun)
	}
	return nanoseconds
}

//go:noinline
func timeChecked() (nanoseconds int64) {
	for range turns {
		begun := time.Now()
		for range calls {
			checked(1, 2)
		}
		nanoseconds = fastest(nanoseconds, begun)
	}
	return nanoseconds
}

//go:noinline
func fastest(nanoseconds int64, begun time.Time) int64 {
	if took := time.Since(begun).Nanoseconds(); nanoseconds == 0 || took < nanoseconds {
		return took
	}
	return nanoseconds
}
