// Goserver is a program like a server, for tests to attach to: goroutines that
// compute, threads that wait in system calls, timers and signals at a high
// rate. It checks itself all the time, and ends with status 3 and a line FAIL
// when anything is not as it must be.
package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	busy    = flag.Int("busy", 2, "goroutines that compute")
	blocked = flag.Int("blocked", 4, "threads that wait in a system call")
	parked  = flag.Int("parked", 100, "goroutines that wait for each other")
	signals = flag.Bool("signals", false, "get a SIGALRM every millisecond, and be profiled")

	rounds, reads, sleeps, passes, alarms, users atomic.Int64
)

func main() {
	flag.Parse()
	for range *busy {
		go compute()
	}
	for i := range *blocked {
		if i%2 == 0 {
			go reader()
		} else {
			go sleeper()
		}
	}
	ring(*parked)
	userSignals := make(chan os.Signal, 1)
	signal.Notify(userSignals, syscall.SIGUSR1)
	go func() {
		for range userSignals {
			users.Add(1)
		}
	}()
	if *signals {
		alarm()
	}
	http.HandleFunc("/answer", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Answer(len(r.URL.RawQuery))) })
	http.HandleFunc("/check", check)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err == nil, "listen: %v", err)
	fmt.Println("addr", l.Addr())
	must(false, "serve: %v", http.Serve(l, nil))
}

// Answer is for tests to patch.
//
//go:noinline
func Answer(n int) string { return fmt.Sprintf("the answer is %d", n+42) }

// Breadth is for tests to read and write.
var Breadth int64 = 1234567

func must(ok bool, format string, args ...any) {
	if !ok {
		fmt.Printf("FAIL "+format+"\n", args...)
		os.Exit(3)
	}
}

// check answers how often each kind of work was done.
func check(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "rounds=%d reads=%d sleeps=%d passes=%d alarms=%d users=%d breadth=%d",
		rounds.Load(), reads.Load(), sleeps.Load(), passes.Load(), alarms.Load(), users.Load(), atomic.LoadInt64(&Breadth))
}

// compute keeps values in general and in vector registers and compares two ways
// to the same result.
func compute() {
	var want float64
	for n := 0; ; n++ {
		sum, x := uint64(0), 1.0
		for i := uint64(1); i <= 20000; i++ {
			sum += i * i
			x = math.Sqrt(x*x + float64(i))
		}
		must(sum == 20000*20001*40001/6, "sum of squares is %d", sum)
		if n == 0 {
			want = x
		}
		must(x == want, "%v is not %v", x, want)
		s := make([]string, 0, 50)
		for i := range 50 {
			s = append(s, fmt.Sprint(i, x))
		}
		must(s[49] == fmt.Sprint(49, want), "string %q", s[49])
		rounds.Add(1)
	}
}

// reader keeps a thread in read(2) most of the time.
func reader() {
	runtime.LockOSThread()
	var fds [2]int
	must(syscall.Pipe(fds[:]) == nil, "pipe")
	go func() {
		for i := byte(0); ; i++ {
			n, err := syscall.Write(fds[1], []byte{i})
			must(n == 1 && err == nil, "write: %d, %v", n, err)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	var b [1]byte
	for i := byte(0); ; i++ {
		n, err := syscall.Read(fds[0], b[:])
		if err == syscall.EINTR {
			i--
			continue
		}
		must(n == 1 && err == nil && b[0] == i, "read: %d, %v, %d instead of %d", n, err, b[0], i)
		reads.Add(1)
	}
}

// sleeper keeps a thread in nanosleep(2).
func sleeper() {
	runtime.LockOSThread()
	for {
		const d = 20 * time.Millisecond
		start, rest := time.Now(), syscall.NsecToTimespec(int64(d))
		for {
			var left syscall.Timespec
			err := syscall.Nanosleep(&rest, &left)
			if err == syscall.EINTR {
				rest = left
				continue
			}
			must(err == nil, "nanosleep: %v", err)
			break
		}
		must(time.Since(start) >= d-time.Millisecond, "slept %v only", time.Since(start))
		sleeps.Add(1)
	}
}

// ring passes a number round n goroutines.
func ring(n int) {
	first := make(chan int64)
	in := first
	for range n {
		from, to := in, make(chan int64)
		go func() {
			for v := range from {
				to <- v + 1
			}
		}()
		in = to
	}
	go func() {
		for i := int64(0); ; i++ {
			first <- i
			v := <-in
			must(v == i+int64(n), "the ring made %d of %d", v, i)
			passes.Add(1)
			time.Sleep(time.Millisecond)
		}
	}()
}

// alarm has the kernel send signals.
func alarm() {
	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGALRM)
	go func() {
		for range c {
			alarms.Add(1)
		}
	}()
	must(setitimer(1000) == 0, "setitimer")
	must(pprof.StartCPUProfile(io.Discard) == nil, "profile")
}
