package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// helix is Helix in a terminal of tmux's.
type helix struct {
	t      *testing.T
	socket string
}

// keys are for what Helix has no command for.
const keys = `[keys.normal]
F5 = "dap_continue"
F6 = "dap_switch_stack_frame"
F8 = "dap_terminate"
F9 = "dap_toggle_breakpoint"
`

// startHelix starts Helix with the configuration of docs/clients.md.
func startHelix(t *testing.T) client {
	t.Helper()
	home := t.TempDir()
	config := filepath.Join(home, "helix")
	if err := os.Mkdir(config, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"languages.toml": documented(t, "Helix", "toml"), "config.toml": keys} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := &helix{t, filepath.Join(home, "socket")}
	server := exec.Command("tmux", "-D", "-S", h.socket, "-f", "/dev/null")
	server.Env = append(os.Environ(), "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "LC_ALL=C.UTF-8")
	start(t, server)
	eventually(t, "tmux", func() bool {
		_, err := os.Stat(h.socket)
		return err == nil
	})
	h.tmux("new-session", "-d", "-x", "300", "-y", "40", "hx")
	h.shows("NOR")
	return h
}

func (h *helix) tmux(args ...string) string {
	h.t.Helper()
	return run(h.t, "tmux", append([]string{"-u", "-S", h.socket}, args...)...)
}

func (h *helix) press(keys ...string) {
	h.t.Helper()
	h.tmux(append([]string{"send-keys"}, keys...)...)
}

func (h *helix) screen() string {
	h.t.Helper()
	return strings.TrimRight(h.tmux("capture-pane", "-p"), "\n")
}

// shows waits until the screen shows something, and returns all that it shows.
func (h *helix) shows(what string) (screen string) {
	h.t.Helper()
	eventually(h.t, what, func() bool {
		screen = h.screen()
		return strings.Contains(screen, what)
	})
	return screen
}

// enter types a command and enters it.
func (h *helix) enter(command string) {
	h.t.Helper()
	h.press("-l", ":"+command)
	h.shows(":" + command)
	h.press("Enter")
}

// bottom is the line in which Helix answers.
func (h *helix) bottom() string {
	screen := h.screen()
	return screen[strings.LastIndex(screen, "\n")+1:]
}

func (h *helix) attach(pid int) { h.t.Helper(); h.enter(fmt.Sprintf("debug-start attach %d", pid)) }
func (h *helix) resume()        { h.t.Helper(); h.press("F5") }
func (h *helix) detach()        { h.t.Helper(); h.press("F8") }

func (h *helix) toggle(file string, line int) {
	h.t.Helper()
	h.enter("open " + file)
	h.shows(filepath.Base(file))
	h.enter(fmt.Sprint(line))
	mark := func(of string) bool {
		return regexp.MustCompile(fmt.Sprintf(`(?m)^[%s]\s+%d `, of, line)).MatchString(h.screen())
	}
	before, hidden := mark("●◯"), mark("▶")
	h.press("F9")
	eventually(h.t, "the breakpoint's mark to change", func() bool { return hidden || mark("●◯") != before })
}

func (h *helix) stack() string {
	h.t.Helper()
	if !strings.Contains(h.screen(), "▶") {
		return ""
	}
	// The mark may be older than the program's going on.
	const outermost, none = "runtime.goexit", "No thread is currently active"
	h.press("Left")
	eventually(h.t, "an old answer to go away", func() bool { return !strings.Contains(h.screen(), none) })
	h.press("F6")
	stack := ""
	eventually(h.t, "the stack", func() bool {
		stack = h.screen()
		return strings.Contains(stack, outermost) || strings.Contains(stack, none)
	})
	if strings.Contains(stack, none) {
		return ""
	}
	h.press("C-c")
	eventually(h.t, "the stack to go away", func() bool { return !strings.Contains(h.screen(), outermost) })
	return stack
}

func (h *helix) command(text string) (answer string) {
	h.t.Helper()
	h.enter("debug-eval " + text)
	eventually(h.t, "an answer to "+text, func() bool {
		answer = h.bottom()
		return answer != "" && !strings.HasPrefix(answer, ":")
	})
	return answer
}

func TestHelix(t *testing.T) {
	requires(t, inPath("tmux") && inPath("hx"), "Helix, or tmux,")
	tellStory(t, startHelix)
}
