package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Patch a running web server and see it happen",
		Long: `Build a small web server with a bug, start it, keep it busy with requests whose
every answer is checked, build a patch from the fix, and take it through a
debug session as an editor would: load, activate, deactivate, unload. Needs Go
and nothing else. Everything is made in a temporary folder and removed at the
end. Done only if every step was seen and no request failed.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDemo(cmd.Context()) },
	}
	return a.jsonFlag(cmd)
}

// writeTree copies the files of source (not its folders) into dir.
func writeTree(dir string, source fs.FS) error {
	entries, err := fs.ReadDir(source, ".")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		data, err := fs.ReadFile(source, entry.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, entry.Name()), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// goBuild runs go build in dir, and puts temporary files beside it.
func goBuild(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOTMPDIR="+filepath.Dir(dir)) // what it leaves if interrupted is removed
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("the demo needs Go: no go command in PATH")
	}
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// child is a process that the demo started.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startChild starts a command in a process group of its own, so that a Ctrl-C
// at the terminal reaches the demo alone, which then ends its children in the
// right order. It returns what follows prefix in the first line of the
// child's output that begins so.
func startChild(prefix, name string, args ...string) (*child, string, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	var problems strings.Builder
	cmd.Stderr = &problems
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	c := &child{cmd, make(chan struct{})}
	found := make(chan string, 1)
	go func() {
		defer close(c.done)
		defer close(found)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), prefix); ok {
				found <- rest
				break
			}
		}
		_, _ = io.Copy(io.Discard, out) // never let it block on its output
		_ = cmd.Wait()                  // that it was killed is no news
	}()
	select {
	case line, ok := <-found:
		if !ok {
			<-c.done
			return nil, "", fmt.Errorf("%s ended at once: %s", filepath.Base(name), problems.String())
		}
		return c, line, nil
	case <-time.After(30 * time.Second):
		c.kill()
		return nil, "", fmt.Errorf("%s said nothing for 30 seconds", filepath.Base(name))
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ended reports whether the child ends by itself within a while.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// kill ends the child.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}

// demoPaths are the files that the demo makes in its temporary folder.
type demoPaths struct{ source, base, program, module string }

// prepareDemo writes the demo server's source, a copy of it to compare with,
// and builds the server.
func (a *app) prepareDemo(ctx context.Context, dir string) (demoPaths, error) {
	p := demoPaths{
		source:  filepath.Join(dir, "teahouse"),
		base:    filepath.Join(dir, "teahouse-as-built"),
		program: filepath.Join(dir, "teahouse-server"),
		module:  filepath.Join(dir, "fix.so"),
	}
	for _, tree := range []string{p.source, p.base} {
		if err := os.Mkdir(tree, 0o755); err != nil {
			return p, err
		}
		if err := writeTree(tree, a.demo); err != nil {
			return p, err
		}
		// Not a file of testdata: a folder with a go.mod can't be embedded.
		if err := os.WriteFile(filepath.Join(tree, "go.mod"), []byte("module teahouse\n\ngo 1.24\n"), 0o644); err != nil {
			return p, err
		}
	}
	return p, goBuild(ctx, p.source, "-o", p.program, ".")
}

// editDemo makes the edit that fixes the server's bug and returns it as a
// diff of whole lines.
func (a *app) editDemo(p demoPaths) (string, error) {
	fix, err := fs.Sub(a.demo, "fixed")
	if err != nil {
		return "", err
	}
	if err := writeTree(p.source, fix); err != nil {
		return "", err
	}
	was, err := os.ReadFile(filepath.Join(p.base, "bill.go"))
	if err != nil {
		return "", err
	}
	is, err := os.ReadFile(filepath.Join(p.source, "bill.go"))
	if err != nil {
		return "", err
	}
	old, edited := strings.Split(string(was), "\n"), strings.Split(string(is), "\n")
	var diff strings.Builder
	for i := range min(len(old), len(edited)) {
		if old[i] != edited[i] {
			fmt.Fprintf(&diff, "- %s\n+ %s\n", strings.TrimSpace(old[i]), strings.TrimSpace(edited[i]))
		}
	}
	return diff.String(), nil
}
