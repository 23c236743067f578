package adapter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAStepIntoAPatchedFunctionEndsInItsNewCode(t *testing.T) {
	main, module, exe := editedShop(t)
	c, _, get := debugShop(t, exe)
	p := c.patch("load", map[string]any{"path": module})
	id := map[string]any{"id": p.ID}
	handler := lineOf(t, main, "total(3, 100)")
	c.breakpoints(main, handler)
	step := func(want string) {
		t.Helper()
		answer := make(chan string, 1)
		go func() { answer <- get("/total") }()
		stop := c.stoppedFor("breakpoint")
		c.breakpoints(main)
		c.resume("stepIn", stop.ThreadId)
		c.stoppedFor("step")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, "main.total:") || !strings.Contains(got, fmt.Sprintf(" main.main.func1:%d ", handler)) {
			t.Errorf("the step into total ends at %s", got)
		}
		c.resume("stepOut", stop.ThreadId)
		c.stoppedFor("step")
		if got := c.stack(stop.ThreadId); !strings.HasPrefix(got, fmt.Sprintf("main.main.func1:%d ", handler)) {
			t.Errorf("the step out of total ends at %s", got)
		}
		c.breakpoints(main, handler)
		c.resume("continue", stop.ThreadId)
		if got := <-answer; got != want {
			t.Errorf("the total is %s, want %s", got, want)
		}
		for _, e := range c.Pending() {
			if e == "stopped" {
				t.Errorf("there is a stop too many: %+v", c.stopped())
			}
		}
	}
	c.patch("activate", id)
	step("270")
	step("270")
	c.patch("deactivate", id)
	c.breakpoints(main)
	c.disconnect(false)
	mustAnswer(t, get)
}

func TestAStepIntoAFunctionThatIsPatchedMeanwhileEndsInItsNewCode(t *testing.T) {
	dir := t.TempDir()
	exe, path := filepath.Join(dir, "gate"), filepath.Join(dir, "gate.c")
	text := "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\nstruct item { const char *name; int price; };\n" +
		"int rate = 10;\nvolatile sig_atomic_t open;\nstatic void up(int s) { open = s; }\n" +
		"__attribute__((noinline)) int price(const struct item *item)\n{\n\treturn item->price + rate;\n}\n" +
		"int main(void)\n{\n\tstruct item tea = {\"tea\", 2};\n\tsignal(SIGUSR1, up);\n\tputs(\"ready\");\n\tfflush(stdout);\n" +
		"\tfor (;;) {\n\t\topen = 0;\n\t\twhile (!open); printf(\"%d\\n\", price(&tea)); fflush(stdout);\n\t}\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	compile(t, "gcc", "-g", "-w", "-o", exe, path)
	fix, module := deskFix(t)
	target := start(t, exec.Command(exe))
	eventually(t, "the program is there", func() bool { return strings.Contains(target.out.String(), "ready") })
	open := func() {
		t.Helper()
		if err := target.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := session(t)
	c.attach(target.Process.Pid)
	line := lineOf(t, path, "while (!open)")
	c.configured()
	id := c.patch("load", map[string]any{"path": module}).ID
	for _, command := range []string{"activate", "deactivate"} { // the first time it takes a halt
		c.patch(command, map[string]any{"id": id})
	}
	c.breakpoints(path, line)
	open()
	stop := c.stoppedFor("breakpoint")
	c.breakpoints(path)
	c.resume("stepIn", stop.ThreadId)
	c.patch("activate", map[string]any{"id": id})
	open()
	stop = c.stoppedFor("step")
	if f := c.frames(stop.ThreadId)[0]; f.Name != "price" || f.Source.Path != fix {
		t.Errorf("the step into what was patched meanwhile ends in %+v", f)
	}
	c.patch("deactivate", map[string]any{"id": id})
	c.resume("continue", stop.ThreadId)
	eventually(t, "the new price", func() bool { return strings.Contains(target.out.String(), "\n112\n") })
	open()
	eventually(t, "the old price", func() bool { return strings.HasSuffix(target.out.String(), "112\n12\n") })
	c.disconnect(false)
	open()
	eventually(t, "the program goes on", func() bool { return strings.HasSuffix(target.out.String(), "112\n12\n12\n") })
}
