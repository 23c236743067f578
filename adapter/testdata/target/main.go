// Command target runs until it is told to end: by a signal, or by its
// arguments, which are the number of calls it makes, its status, and anything
// to have it end when its standard input does.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

var total atomic.Int64

func add(n int64) int64 {
	sum := total.Add(n) // breakpoint here
	if sum%10000 == 0 {
		fmt.Println("total", sum)
	}
	return sum
}

func step(n int64) int64 {
	a := n + 1 // step from here
	b := a * 2
	c := b - n
	return c
}

func main() {
	calls := int64(-1)
	status := 0
	if len(os.Args) > 1 {
		calls, _ = strconv.ParseInt(os.Args[1], 10, 64)
	}
	if len(os.Args) > 2 {
		status, _ = strconv.Atoi(os.Args[2])
	}
	for range 4 {
		go func() {
			for {
				step(total.Load())
				time.Sleep(time.Millisecond)
			}
		}()
	}
	fmt.Println("hello", os.Getenv("TARGET_ENV"))
	fmt.Fprintln(os.Stderr, "to standard error")
	for n := int64(0); n != calls; n++ {
		add(1)
		time.Sleep(200 * time.Microsecond)
	}
	fmt.Println("bye")
	if len(os.Args) > 3 {
		io.Copy(io.Discard, os.Stdin)
	}
	os.Exit(status)
}
