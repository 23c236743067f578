// The command partial prints what its functions return, over and over.
package main

import (
	"fmt"
	"time"
)

type config struct {
	name  string
	calls int
}

var (
	current = &config{name: "config"}
	limit   = 10
	count   int
)

func init() { limit = 20 }

//go:noinline
func plain(n int) string { return fmt.Sprint("plain old ", n) }

//go:noinline
func field(c *config) string { c.calls++; return fmt.Sprint("field old ", c.name) }

// calls is inlined: who calls it has the offset of a field in its code.
func calls() int { return current.calls }

//go:noinline
func inlines() string { return fmt.Sprint("inlines old ", calls() > 0) }

//go:noinline
func limited(n int) string { return fmt.Sprint("limited old ", n < limit) }

//go:noinline
func counted() string { count++; return fmt.Sprint("counted old ", count > 0) }

// renamed is called by functions that are left out and by one that is not.
//
//go:noinline
func renamed(n int) string { return fmt.Sprint("renamed old ", n) }

//go:noinline
func calling() string { return fmt.Sprint("calling old ", renamed(1)) }

//go:noinline
func callingField(c *config) string { return fmt.Sprint("callingField old ", renamed(2), c.name) }

//go:noinline
func made() string { return fmt.Sprint("made old") }

//go:noinline
func closing() func() string { return func() string { return "closing old " + field(current) } }

type mark struct{ n int }

// marked converts to an interface, whose methods may be asked for.
//
//go:noinline
func marked(n int) string { return fmt.Sprint("marked old ", mark{n}) }

func main() {
	closed := closing()
	for n := 0; ; n++ {
		fmt.Println(plain(1))
		fmt.Println(field(current))
		fmt.Println(inlines())
		fmt.Println(limited(15))
		fmt.Println(counted())
		fmt.Println(calling())
		fmt.Println(callingField(current))
		fmt.Println(made())
		fmt.Println(marked(3))
		fmt.Println(closed())
		time.Sleep(5 * time.Millisecond)
	}
}
