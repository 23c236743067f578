package clients

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// client is a debugger in front of a person, who has this much of it. What
// goes wrong in it ends the test.
type client interface {
	// attach begins a session with a process.
	attach(pid int)
	// toggle sets a breakpoint, or deletes the one that is there.
	toggle(file string, line int)
	// stack returns the stack that is shown, "" while the program runs.
	stack() string
	// resume lets the program go on.
	resume()
	// command types into the debug console, while the program is stopped, and
	// returns what it prints.
	command(text string) string
	// detach ends the session; the program goes on.
	detach()
}

// tellStory debugs a shop and patches it from the debug console of a client,
// which open starts.
func tellStory(t *testing.T, open func(*testing.T) client) {
	l := openShop(t)
	c := open(t)
	answers := make(chan string, 1)
	ask := func() { go func() { answers <- l.total() }() }
	says := func(command, want string) string {
		t.Helper()
		got := c.command(command)
		if !strings.Contains(got, want) {
			t.Fatalf("%s: printed %q, want %q in it", command, got, want)
		}
		return got
	}
	// customer asks for the total, is stopped at the breakpoint while the shop
	// is worked on, and must be told the total that is right then.
	attached := false
	customer := func(want string, work func()) {
		t.Helper()
		ask()
		stack := ""
		eventually(t, "a stop at the breakpoint", func() bool {
			select {
			case got := <-answers:
				if attached || got != "300" {
					t.Fatalf("the total is %s, without a stop", got)
				}
				ask() // the breakpoint is not there yet
			default:
			}
			stack = c.stack()
			return stack != ""
		})
		attached = true
		for _, frame := range []string{"main.main.func1", "http.(*conn).serve"} {
			if !strings.Contains(stack, frame) {
				t.Errorf("the stack lacks %s:\n%s", frame, stack)
			}
		}
		work()
		c.resume()
		select {
		case got := <-answers:
			if got != want {
				t.Errorf("the total is %s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatal("the program does not go on")
		}
		eventually(t, "the client to see that the program runs", func() bool { return c.stack() == "" })
	}

	c.toggle(l.source, l.line)
	c.attach(l.pid)
	id := ""
	customer("270", func() {
		says("darn list", fmt.Sprintf("process %d", l.pid))
		id, _, _ = strings.Cut(says("darn load "+l.module, "discount: loaded"), " ")
		says("darn list", "loaded")
		says("darn activate "+id, "discount: active")
		says("darn list", "active")
	})
	customer("300", func() { says("darn deactivate "+id, "discount: loaded") })
	customer("270", func() { says("darn activate "+id, "discount: active") })
	customer("300", func() {
		says("darn deactivate "+id, "discount: loaded")
		says("darn unload "+id, "unload in")
		says("darn list", "no patches")
		c.toggle(l.source, l.line)
	})
	l.mustSell("300")
	c.detach()
	l.mustBeFree()
	l.mustSell("300")
}
