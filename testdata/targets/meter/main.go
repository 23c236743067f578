// Meter is the program of meter.c in Go: meter FILE SLOTS BUSY PERIOD
// GOROUTINES. Its goroutines are BUSY that read the clock, those that wake up
// every PERIOD nanoseconds, and others, up to GOROUTINES, that wait for ever.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// slot is one goroutine's, in a cache line of its own.
type slot struct {
	beats   atomic.Int64 // how often it was measured
	longest atomic.Int64 // ns; whoever reads it sets it to 0
	_       [48]byte
}

var begun = time.Now()

func now() int64 { return int64(time.Since(begun)) }

// For tests to patch: it begins with a check of the stack, as most functions do.
//
//go:noinline
func answer(n int) int {
	return kept(n) + 42
}

// kept is for a patch that stays.
//
//go:noinline
func kept(n int) int {
	return n * 7
}

func (s *slot) beat(gap int64) {
	for longest := s.longest.Load(); gap > longest && !s.longest.CompareAndSwap(longest, gap); {
		longest = s.longest.Load()
	}
	// After it: who sees the beat sees the gap that it has ended.
	s.beats.Add(1)
}

var sink int

func (s *slot) run() {
	for last := now(); ; {
		sink = answer(1)
		t := now()
		s.beat(t - last)
		last = t
	}
}

func (s *slot) wake(phase, period int64) {
	for due := period + phase; ; {
		time.Sleep(time.Duration(due - now()))
		t := now()
		s.beat(t - due)
		due += ((t-due)/period + 1) * period
	}
}

// wait is deep enough for a stack to be worth a walk.
func wait(depth int, never chan int) int {
	if depth == 0 {
		return <-never
	}
	return wait(depth-1, never) + depth
}

func main() {
	var args []int
	for _, a := range os.Args[2:] {
		n, err := strconv.Atoi(a)
		if err != nil {
			fail(err)
		}
		args = append(args, n)
	}
	number, busy, period, goroutines := args[0], args[1], int64(args[2]), args[3]
	f, err := os.OpenFile(os.Args[1], os.O_RDWR, 0)
	if err != nil {
		fail(err)
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, number*int(unsafe.Sizeof(slot{})), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		fail(err)
	}
	slots := unsafe.Slice((*slot)(unsafe.Pointer(&page[0])), number)
	var ready sync.WaitGroup
	for range goroutines - number {
		ready.Add(1)
		go func() {
			ready.Done()
			wait(5, make(chan int))
		}()
	}
	ready.Wait()
	for i := range slots[busy:] {
		go slots[busy+i].wake(int64(i)*period/int64(number-busy), period)
	}
	fmt.Println("ready")
	for i := range slots[1:busy] {
		go slots[1+i].run()
	}
	slots[0].run()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
