// Command darn patches running Go programs, from the command line or as the
// debug adapter of an editor.
package main

import (
	"embed"
	"io/fs"
	"os"

	"github.com/darn-dev/darn/internal/cli"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
)

//go:embed testdata/demo
var testdata embed.FS

func main() {
	patcher.GuardMain()
	// darn build makes the Go toolchain call darn in place of some of its
	// tools; this plays them and doesn't return then.
	build.ToolMain()

	demo, err := fs.Sub(testdata, "testdata/demo")
	if err != nil {
		panic(err) // the name is a constant
	}
	os.Exit(cli.Main(os.Args[1:], demo, os.Stdout, os.Stderr))
}
