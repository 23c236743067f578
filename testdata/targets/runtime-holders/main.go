// Command runtime-holders keeps addresses in all the places where a Go program
// can have them, and forgets them on request.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// thing is what the addresses are of.
var thing [4096]byte

type box struct {
	name string
	held *byte
	pad  [12]uint64
}

var (
	kept   *byte             // a variable
	boxed  *box              // a heap object
	pool   sync.Pool         // what goes with the second collection only
	boxes  map[string]*box   // a map
	number []uintptr         // numbers that look like the address: held by nobody
	iface  any               // an interface
	free   = make(chan bool) // lets the parked go on
	stop   atomic.Bool       // ends the spinning
)

// park holds the address in its frame until it is freed.
//
//go:noinline
func park(p *byte, ready chan bool) {
	ready <- true
	<-free
	*p = 1
}

// leave puts the address deep into the stack, and parks above it when nothing
// holds it any more.
//
//go:noinline
func leave(ready chan bool) {
	deep(&thing[40], 20)
	idle(ready)
}

//go:noinline
func deep(p *byte, n int) byte {
	var a [32]*byte
	for i := range a {
		a[i] = p
	}
	if n > 0 {
		return deep(a[n], n-1)
	}
	runtime.Gosched()
	return *a[0]
}

//go:noinline
func idle(ready chan bool) {
	var room [400]uintptr // not cleared where it need not be
	use(&room)
	ready <- true
	<-free
	use(&room)
}

//go:noinline
func use(a *[400]uintptr) {
	if a[7] == 1 {
		fmt.Println(a[8])
	}
}

//go:noinline
func worker(p *byte, held *uint64) {
	for {
		*held++
		*p++
		if stop.Load() {
			return
		}
	}
}

func handle(w http.ResponseWriter, r *http.Request) {
	ready := make(chan bool)
	switch what := r.URL.Path[1:]; what {
	case "variable":
		kept = &thing[8]
	case "heap":
		boxed = &box{name: "box", held: &thing[16]}
	case "map":
		boxes = map[string]*box{"a": {held: &thing[24]}}
	case "pool":
		pool.Put(&box{held: &thing[32]})
	case "iface":
		iface = &thing[64]
	case "number":
		number = make([]uintptr, 100)
		for i := range number {
			number[i] = uintptr(unsafe.Pointer(&thing[1])) // odd: no type, no itab
		}
	case "stack":
		go park(&thing[48], ready)
		<-ready
	case "stale":
		go leave(ready)
		<-ready
	case "garbage":
		for range 1000 {
			boxed = &box{held: &thing[56]}
		}
		boxed = nil
	case "spin":
		stop.Store(false)
		go worker(&thing[72], new(uint64))
		time.Sleep(10 * time.Millisecond)
	case "forget":
		kept, boxed, boxes, iface, number = nil, nil, nil, nil, nil
		stop.Store(true)
		for {
			select {
			case free <- true:
				continue
			case <-time.After(20 * time.Millisecond):
			}
			break
		}
	case "many":
		n, _ := strconv.Atoi(r.URL.RawQuery)
		for range n {
			go func() { <-free }()
		}
	case "gc":
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprint(w, m.NumGC)
		return
	default:
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, "ok")
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "gcoff" {
		debug.SetGCPercent(-1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("thing %x\n", uintptr(unsafe.Pointer(&thing)))
	fmt.Printf("park %x\n", **(**uintptr)(unsafe.Pointer(&parkFunc)))
	fmt.Println("addr", l.Addr())
	panic(http.Serve(l, http.HandlerFunc(handle)))
}

var parkFunc = park
