package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command runs a program in dir and returns its standard output. When ctx is
// done the program and all that it has started are killed, and gone when
// command returns. lines, if not nil, is given the lines of its standard error
// and says which of them not to put into the error.
func command(ctx context.Context, dir string, env []string, lines func(string) bool, name string, args ...string) (string, error) {
	return commandInput(ctx, dir, env, nil, lines, name, args...)
}

func commandInput(ctx context.Context, dir string, env []string, input io.Reader, lines func(string) bool, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), env...), "PWD="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin = input
	var out, complaint bytes.Buffer
	cmd.Stdout = &out
	stderr := &lineWriter{keep: func(line string) {
		if lines == nil || !lines(line) {
			complaint.WriteString(line + "\n")
		}
	}}
	cmd.Stderr = stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			waitGroup(cmd.Process.Pid)
		}
		return "", ctx.Err()
	}
	stderr.flush()
	if err != nil {
		return "", &commandError{name: name, arg: args[0], err: err, text: strings.TrimSpace(complaint.String())}
	}
	return out.String(), nil
}

// commandError is a program that failed, with what it said.
type commandError struct {
	name, arg string
	err       error
	text      string
}

func (e *commandError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s %s: %v", e.name, e.arg, e.err)
	}
	return fmt.Sprintf("%s %s: %v:\n%s", e.name, e.arg, e.err, e.text)
}

func (e *commandError) Unwrap() error { return e.err }

// waitGroup waits until no process of a killed process group runs any more, or
// a second has passed: processes that nobody waits for stay on as zombies.
func waitGroup(group int) {
	for range 100 {
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// lineWriter hands on whole lines.
type lineWriter struct {
	keep func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		n, line, _ := bufio.ScanLines(w.rest, false)
		if n == 0 {
			return len(p), nil
		}
		w.keep(string(line))
		w.rest = w.rest[n:]
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.keep(string(w.rest))
		w.rest = nil
	}
}
