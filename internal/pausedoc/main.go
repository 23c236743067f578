// Pausedoc makes docs/pauses.md, whose path it is given, of what the benchmarks
// of pauses have printed, which it reads from standard input. It is run by make
// pauses, on the machine that they ran on.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/darn-dev/darn/internal/pausedoc/results"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	r, err := results.Read(os.Stdin)
	if err != nil {
		return err
	}
	return os.WriteFile(os.Args[1], []byte(page(r, here())), 0o644)
}

// here describes this machine.
func here() machine {
	m := machine{cores: runtime.NumCPU(), golang: runtime.Version()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.kernel = unix.ByteSliceToString(name.Release[:])
	}
	if out, err := exec.Command("gdb", "--version").Output(); err == nil {
		m.gdb, _, _ = strings.Cut(string(out), "\n")
	}
	return m
}
