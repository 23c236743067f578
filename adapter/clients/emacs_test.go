package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// emacs is an Emacs with a debugger package. A file in testdata/emacs has
// functions for what the test asks of it.
type emacs struct {
	t      *testing.T
	socket string
}

// startEmacs starts an Emacs with the configuration that docs/clients.md has
// under a heading, and the driver for it.
func startEmacs(t *testing.T, binary []string, heading, driver string) *emacs {
	t.Helper()
	home := t.TempDir()
	configuration := filepath.Join(home, "configuration.el")
	if err := os.WriteFile(configuration, []byte(documented(t, heading, "elisp")), 0o644); err != nil {
		t.Fatal(err)
	}
	e := &emacs{t, filepath.Join(home, "socket")}
	args := append(binary[1:], "-q", "--fg-daemon="+e.socket,
		"--eval", "(setq native-comp-deferred-compilation nil)", // would outlive it
		"-l", configuration, "-l", filepath.Join("testdata", "emacs", driver))
	cmd := exec.Command(binary[0], args...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	start(t, cmd)
	eventually(t, "Emacs", func() bool {
		return exec.Command("emacsclient", "-s", e.socket, "--eval", "t").Run() == nil
	})
	return e
}

// call calls a function and returns the string that it returns, "" for nil.
func (e *emacs) call(function string, args ...any) string {
	e.t.Helper()
	form := "(" + function
	for _, a := range args {
		form += fmt.Sprintf(" %#v", a)
	}
	printed := strings.TrimSuffix(run(e.t, "emacsclient", "-s", e.socket, "--eval", form+")"), "\n")
	text, ok := strings.CutPrefix(printed, `"`)
	if !ok {
		return ""
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n").Replace(strings.TrimSuffix(text, `"`))
}

func (e *emacs) attach(pid int) { e.t.Helper(); e.call("test-attach", pid) }
func (e *emacs) toggle(file string, line int) {
	e.t.Helper()
	e.call("test-toggle-breakpoint", file, line)
}
func (e *emacs) stack() string { e.t.Helper(); return e.call("test-stack") }
func (e *emacs) resume()       { e.t.Helper(); e.call("test-continue") }
func (e *emacs) detach()       { e.t.Helper(); e.call("test-disconnect") }

func (e *emacs) command(text string) string {
	e.t.Helper()
	before := len(e.call("test-console"))
	e.call("test-type", text)
	printed := ""
	eventually(e.t, "an answer in the debug console", func() bool {
		console := e.call("test-console")[before:]
		_, answer, typed := strings.Cut(console, text+"\n")
		answer, prompted := strings.CutSuffix(answer, e.call("test-prompt"))
		printed = answer
		return typed && prompted && answer != ""
	})
	return printed
}

func TestEmacsWithDapMode(t *testing.T) {
	requires(t, inPath("emacs") && exists("/usr/share/emacs/site-lisp/elpa/dap-mode-*"), "Emacs with dap-mode")
	tellStory(t, func(t *testing.T) client { return startEmacs(t, []string{"emacs"}, "dap-mode", "dap-mode.el") })
}
