package meter

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// ErrNoGDB says that there is no gdb.
var ErrNoGDB = errors.New("gdb is not installed")

// GDB lets gdb attach to a process, write eight bytes at a function's
// entry as activating a patch does (those that are there), and detach. It makes it easy
// for gdb, which reads the symbols of exe before it attaches and nothing
// that it does not need. It returns ErrNoGDB if there is none. The test must
// not be tracing anything by Delve, which would reap gdb.
func GDB(exe string, pid int, function string) error {
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		return ErrNoGDB
	}
	out, err := exec.Command(gdb, "-batch", "-nx",
		"-iex", "set auto-load off", "-iex", "set debuginfod enabled off", "-iex", "set auto-solib-add off", "-iex", "set language c",
		"-ex", "file "+exe,
		"-ex", fmt.Sprintf("attach %d", pid),
		"-ex", fmt.Sprintf("set variable *(unsigned long long *)&'%s' = *(unsigned long long *)&'%[1]s'", function),
		"-ex", "detach",
	).CombinedOutput()
	if err != nil {
		return fmt.Errorf("gdb: %w\n%s", err, out)
	}
	if !strings.Contains(string(out), "detached]") {
		return fmt.Errorf("gdb has not done it:\n%s", out)
	}
	return nil
}
