// The command inits calls answer from many goroutines at once, and prints what
// is new of what it answers.
package main

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"inits/sub"
)

//go:noinline
func answer(n int) string { return fmt.Sprint("old", "") }

//go:noinline
func square(n int) int {
	defer func() { _ = recover() }()
	return n * n
}

var (
	lock sync.Mutex
	seen = map[string]bool{}
)

func main() {
	debug.SetGCPercent(10)
	for range 8 {
		go func() {
			for n := 0; ; n++ {
				text := fmt.Sprint(answer(n%10), sub.Word(), square(2))
				lock.Lock()
				if !seen[text] {
					clear(seen)
					seen[text] = true
					fmt.Println(text)
				}
				lock.Unlock()
				time.Sleep(100 * time.Microsecond)
			}
		}()
	}
	select {}
}
