// Package cli is the darn command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// The exit statuses of darn.
const (
	exitDone    = 0
	exitRefused = 1 // or failed; the reason is on standard error
	exitUsage   = 2
)

// app holds what every command needs.
type app struct {
	stdout, stderr io.Writer
	demo           fs.FS // the source of the demo server and of its fix
	json           bool  // print JSON
	symbols        string
	children       bool // also the process's children
	resident       string
	coming         *module.Module // what is to be loaded, if it can be read

	attached *patcher.Receipt // of the attach of a headless command

	guard       *guard.Guard // of the commands that touch processes
	signatures  string       // --require-signature
	audit       string       // --audit
	force       bool
	activations []*guard.Activation
	watch       *process.Watch       // that looks on at what comes of activations; nil without one
	last        bool                 // no process is attached to after this one
	detach      func() error         // from the one that is
	ends        map[int]*process.End // of processes that ended while they were attached to, by id
}

// Main runs darn with args (without the program's name) and returns its exit
// status. demo holds the folder testdata/demo. SIGINT and SIGTERM end the
// command after it has cleaned up.
func Main(args []string, demo fs.FS, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	a := &app{stdout: plain{stdout}, stderr: plain{stderr}, demo: demo}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if usage, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(a.stderr, "darn: %v\nRun '%s --help' for usage.\n", usage, cmd.CommandPath())
		return exitUsage
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	a.printError(err)
	return exitRefused
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// args makes the error of a check of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "darn",
		Short: "Patch running programs",
		Long: strings.TrimSpace(`
Darn replaces functions in a running Go program. The program needs no
preparation, isn't restarted and keeps its memory, connections and goroutines.

  darn build      makes a patch module from an edit of the program's source
  darn load       maps a module into the process; nothing runs it yet
  darn activate   switches its functions on, all at once
  darn deactivate switches them off again
  darn unload     proves that nothing uses the module, and takes it out
  darn dap        does the same, and debugs, for an editor`),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return usagef("which command?")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.dapCommand(),
		a.buildCommand(),
		a.inspectCommand(),
		a.loadCommand(),
		a.activateCommand(),
		a.deactivateCommand(),
		a.unloadCommand(),
		a.listCommand(),
		a.sourcesCommand(),
		a.keygenCommand(),
		a.signCommand(),
		a.quarantineCommand(),
		a.demoCommand(),
		a.versionCommand(),
	)
	return root
}

// jsonFlag gives cmd the flag --json.
func (a *app) jsonFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return cmd
}
