// Torture checks the result of every call of functions of many kinds, made by
// thousands of goroutines while stacks grow and shrink, the collector runs and
// the program is profiled. It knows nothing of patches but that a function may
// tell another version of itself than before. A result that is wrong ends it
// with status 3.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// version is for tests to change: every function that they patch tells it as
// the last digit of what it returns, or beside it.
const version = 0

// other is the same for functions whose first instruction may fault, which have
// to be redirected in another way, and one in which somebody always is.
const other = 0

//go:noinline
func plain(n int) int { return n*10 + version }

type ledger struct {
	mu   sync.Mutex
	sums map[int]int
}

// add books n, and returns what is booked in all for such n.
func (l *ledger) add(n int) (sum, v int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sums[n%7] += n
	return l.sums[n%7], version
}

type shape interface{ area() int }

type square struct{ side int }

type rectangle struct{ a, b int }

func (s square) area() int { return s.side*s.side*10 + version }

func (r *rectangle) area() int { return r.a*r.b*10 + other }

type box struct{ n int }

//go:noinline
func (b *box) count() int { return b.n*10 + other }

//go:noinline
func largest[T cmp.Ordered](s []T) (T, int) {
	m := s[0]
	for _, x := range s {
		m = max(m, x)
	}
	return m, version
}

//go:noinline
func newStep(by int) func(int) int {
	return func(n int) int { return (n+by)*10 + other }
}

// deep grows the stack; the version is that of the outermost call.
//
//go:noinline
func deep(n int) int {
	var room [100]int
	room[n%len(room)] = n
	if n == 0 {
		return version
	}
	below := deep(n-1) / 10 * 10
	must(room[n%len(room)] == n, "%d in the frame of deep(%d)", room[n%len(room)], n)
	return below + 10 + version
}

type node struct {
	n    int
	next *node
}

// list keeps its version in every node, on the heap.
//
//go:noinline
func list(n int) (first *node) {
	for i := range n {
		first = &node{i*10 + version, first}
	}
	return first
}

//go:noinline
func text(n int) string {
	m := make(map[string]int)
	for i := range 10 {
		m[fmt.Sprint(n, i)] = i
	}
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return fmt.Sprintf("%s:%d", strings.Join(keys, ","), version)
}

//go:noinline
func guarded(n int) (r int) {
	defer func() {
		if x, ok := recover().(int); ok {
			r = x*10 + version
		}
	}()
	var a []int
	if n >= 0 {
		panic(n)
	}
	return a[n]
}

//go:noinline
func fan(n int) int {
	results := make(chan int)
	for i := range n {
		go func() { results <- i * 10 }()
	}
	sum := version
	for range n {
		sum += <-results
	}
	return sum
}

//go:noinline
func hold(c chan int) int {
	n := <-c
	return n*10 + other
}

// pair calls another function that is patched with it.
//
//go:noinline
func pair(n int) int { return plain(n)/10*10 + version }

var (
	books = ledger{sums: make(map[int]int)}
	step  = newStep(7)
	calls atomic.Int64
	woken atomic.Int64
	held  atomic.Int64

	workers = flag.Int("workers", 3, "goroutines that call all the time")
	crowd   = flag.Int("crowd", 10000, "goroutines that call when they are woken")
	holders = flag.Int("holders", 50, "goroutines that wait in a function")
	only    = flag.String("only", "", "the kinds of functions to call, all if empty")
	profile = flag.Bool("profile", true, "be profiled at 1000 Hz")
)

func must(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf("FAIL "+format+"\n", args...)
		os.Exit(3)
	}
}

// digit splits what a function returned and checks it but for the version.
func digit(what string, got, want int) (v int) {
	must(got/10 == want, "%s is %d, want %d", what, got/10, want)
	return got % 10
}

// versions is how many there may be: a version is a digit.
const versions = 10

// kind is a kind of functions.
type kind struct {
	name string
	call func(n int) (v int) // calls one, checks the result and returns the version it tells
	// allowed has a bit set for each version that a call may tell, below the
	// number of times that this was changed: a call may last from one time to
	// another one that allows the same.
	allowed atomic.Int64
}

var kinds = []*kind{
	{name: "plain", call: func(n int) int { return digit("plain", plain(n), n) }},
	{name: "pair", call: func(n int) int { return digit("pair", pair(n), n) }},
	{name: "add", call: func(n int) int {
		sum, v := books.add(n * 10)
		must(sum%10 == 0, "the sum is %d", sum)
		return v
	}},
	{name: "area", call: func(n int) int {
		s := []shape{square{n}, &rectangle{n, 3}}
		v := digit("square", s[0].area(), n*n)
		digit("rectangle", s[1].area(), n*3)
		return v
	}},
	{name: "count", call: func(n int) int { b := &box{n}; return digit("count", b.count(), n) }},
	{name: "largest", call: func(n int) int {
		m, v := largest([]int{n, n + 2, n + 1})
		must(m == n+2, "the largest is %d, want %d", m, n+2)
		return v
	}},
	{name: "longest", call: func(n int) int {
		m, v := largest([]string{"a", fmt.Sprint("c", n), "b"})
		must(m == fmt.Sprint("c", n), "the largest is %s", m)
		return v
	}},
	{name: "step", call: func(n int) int { return digit("step", step(n), n+7) }},
	{name: "deep", call: func(n int) int { return digit("deep", deep(n%200), n%200) }},
	{name: "list", call: func(n int) int {
		l, want := list(20), 19
		v := l.n % 10
		for ; l != nil; l = l.next {
			must(l.n == want*10+v, "a node has %d, want %d", l.n, want*10+v)
			want--
		}
		must(want == -1, "%d nodes are missing", want+1)
		return v
	}},
	{name: "text", call: func(n int) int {
		s, rest, ok := strings.Cut(text(n), ":")
		must(ok && len(rest) == 1 && strings.Count(s, fmt.Sprint(n)) >= 10, "the text is %s:%s", s, rest)
		return int(rest[0] - '0')
	}},
	{name: "guarded", call: func(n int) int { return digit("guarded", guarded(n), n) }},
	{name: "fan", call: func(n int) int { return digit("fan", fan(5), 0+1+2+3+4) }},
}

// check calls a function, which must tell a version that was allowed before and
// is still.
func (k *kind) check(n int) {
	before := k.allowed.Load()
	v := k.call(n)
	if before == k.allowed.Load() {
		must(before>>v&1 == 1, "%s tells version %d, allowed are %b", k.name, v, before&(1<<versions-1))
	}
	calls.Add(1)
}

// chosen are the kinds that are called.
var chosen []*kind

func choose(names string) (ks []*kind) {
	for _, k := range kinds {
		if names == "" || slices.Contains(strings.Split(names, ","), k.name) {
			ks = append(ks, k)
		}
	}
	return ks
}

func call(n int) { chosen[n%len(chosen)].check(n % 1000) }

func main() {
	flag.Parse()
	chosen = choose(*only)
	for _, k := range kinds {
		k.allowed.Store(1<<versions - 1)
	}
	if *profile {
		runtime.SetCPUProfileRate(1000)
		// It complains of the rate, and keeps it.
		must(pprof.StartCPUProfile(io.Discard) == nil, "no profile")
	}
	for range *workers {
		go func() {
			for n := 0; ; n++ {
				call(n)
			}
		}()
	}
	wake := make(chan int)
	for range *crowd {
		go func() {
			for n := range wake {
				call(n)
				woken.Add(1)
			}
		}()
	}
	go func() {
		for n := 0; ; n++ {
			wake <- n
			if n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for range *holders {
		c := make(chan int)
		go func() {
			for n := 0; ; n++ {
				c <- n
				time.Sleep(time.Millisecond)
			}
		}()
		go func() {
			for n := 0; ; n++ {
				digit("hold", hold(c), n) // of a version that may be long gone
				held.Add(1)
			}
		}()
	}
	http.HandleFunc("/counts", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, calls.Load(), woken.Load(), held.Load())
	})
	http.HandleFunc("/allow", func(w http.ResponseWriter, r *http.Request) {
		var mask int64
		fmt.Sscan(r.FormValue("mask"), &mask)
		for _, k := range choose(r.FormValue("kinds")) {
			k.allowed.Store((k.allowed.Load()>>versions+1)<<versions | mask)
		}
		fmt.Fprintln(w, "allowed")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err == nil, "listen: %v", err)
	fmt.Println("addr", l.Addr())
	must(false, "serve: %v", http.Serve(l, nil))
}
