// The command inits, with variables that only running code can initialise.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
	"time"

	"inits/sub"
)

// In another order than that of their initialisation, and one in other files.
var (
	total       = second + first // of the other file, and of below
	second, sum = two(first)
	first       = slow()
	starts      atomic.Int32
	small             = map[string]int{"one": 1, "total": total}
	many              = map[int]string{0: "0", 1: "1", 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "7", 8: "8", 9: "9"}
	partly            = []int{1, square(3), 3}
	shared            = &struct{ n int }{5}
	sameShared        = shared
	double            = func(n int) int { return n * factor }
	factor            = len(os.Args) + 1
	stack             = newStack(1, total)
	page              = template.Must(template.New("page").Parse("<{{.}}>"))
	errGone           = errors.New("gone")
	errOther    error = fmt.Errorf("other: %w", errGone)
	deferred          = func() (text string) {
		defer func() { text = fmt.Sprint("recovered ", recover()) }()
		panic("on purpose")
	}()
	where = string(debug.Stack())
)

type list[T any] struct{ items []T }

func newStack[T any](items ...T) *list[T] { return &list[T]{append([]T(nil), items...)} }

func two(n int) (int, string) { return n * 2, strings.Repeat("+", n) }

// slow lets the other goroutines come and wait.
func slow() int {
	starts.Add(1)
	time.Sleep(50 * time.Millisecond)
	return square(2) - 1 // a patched function, while initialising
}

//go:noinline
func answer(n int) string {
	var b strings.Builder
	if err := page.Execute(&b, n); err != nil || b.String() != fmt.Sprintf("<%d>", n) {
		return fmt.Sprint("BAD page ", err)
	}
	got := fmt.Sprint(starts.Load(), first, second, sum, total, small, len(many), many[n], partly, shared == sameShared, double(n) == n*factor,
		factor, stack.items, errors.Is(errOther, errGone), deferred, strings.Contains(where, "main.go:39"), last, sub.Ready())
	want := fmt.Sprint(1, 3, 6, "+++", 9, map[string]int{"one": 1, "total": 9}, 10, fmt.Sprint(n), []int{1, 9, 3}, true, true,
		2, []int{1, 9}, true, "recovered on purpose", true, "last 9 ready 9", "ready")
	if got != want {
		return "BAD " + got
	}
	return "new"
}

//go:noinline
func square(n int) int {
	defer func() { _ = recover() }()
	return -n * -n
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
