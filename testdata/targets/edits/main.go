// Edits is a program for tests to edit while it runs; it knows nothing of it.
// Everything that it can be asked is asked by many goroutines all the time,
// while the garbage collector works, and what they are answered is kept.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A question is what the program can be asked.
type question struct {
	name   string
	answer func() string
	steady bool // the callers ask it too
	mu     sync.Mutex
	seen   map[string]bool // what the callers were answered
}

var questions = map[string]*question{}

// steady registers a question that may be asked at any time, others one that
// has to be asked at the right one.
func steady(name string, answer func() string) {
	questions[name] = &question{name: name, answer: answer, steady: true, seen: map[string]bool{}}
}

func others(name string, answer func() string) {
	questions[name] = &question{name: name, answer: answer}
}

const callers = 4

var rounds [callers]atomic.Int64

// call asks all questions over and over.
func call(id int) {
	for {
		for _, q := range questions {
			if !q.steady {
				continue
			}
			answer := q.answer()
			q.mu.Lock()
			q.seen[answer] = true
			q.mu.Unlock()
		}
		rounds[id].Add(1)
		time.Sleep(time.Millisecond)
	}
}

// collect has the garbage collector at work all the time.
func collect() {
	for {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
}

// waitRounds waits until each caller has ended so many rounds of questions.
func waitRounds(n int64) {
	var from [callers]int64
	for id := range callers {
		from[id] = rounds[id].Load()
	}
	for id := range callers {
		for rounds[id].Load() < from[id]+n {
			time.Sleep(time.Millisecond)
		}
	}
}

// take returns what the callers were answered since the last time.
func (q *question) take() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var seen []string
	for answer := range q.seen {
		seen = append(seen, answer)
	}
	clear(q.seen)
	slices.Sort(seen)
	return strings.Join(seen, "\x00")
}

// command does what a line asks for and returns the answer.
func command(line string) string {
	verb, name, _ := strings.Cut(line, " ")
	q := questions[name]
	switch {
	case verb == "gc":
		runtime.GC()
		return "collected"
	case q == nil:
		return "no question " + line
	case verb == "ask":
		return q.answer()
	case verb == "seen": // until the calls under way had ended, and then
		waitRounds(1)
		mixed := q.take()
		waitRounds(2)
		return mixed + "\x01" + q.take()
	}
	return "no command " + line
}

func serve(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		fmt.Fprintf(conn, "%q\n", command(lines.Text()))
	}
	conn.Close()
}

func main() {
	functions()
	closures()
	generics()
	types()
	goroutines()
	packages()
	debugging()
	for id := range callers {
		go call(id)
	}
	go collect()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("addr", l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go serve(conn)
	}
}
