package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// headless runs work on the process pid: attach, work, detach. Patches stay.
func (a *app) headless(pid int, work func(*patcher.Engine) error) (err error) {
	if err := patcher.Check(pid, a.symbols); err != nil {
		return err
	}
	p, err := process.Attach(pid)
	if err != nil {
		return err
	}
	a.attached = patcher.AttachReceipt(p)
	defer func() {
		if failed := p.Close(); err == nil {
			err = failed
		}
	}()
	engine, err := patcher.Open(p)
	if err != nil {
		return err
	}
	defer engine.Close()
	return work(engine)
}

// pidFlag gives cmd the required flag --pid, --symbols and --children.
func (a *app) pidFlag(cmd *cobra.Command, pid *int) {
	a.symbolsFlag(cmd)
	cmd.Flags().BoolVar(&a.children, "children", false, "also for the processes that it has forked and that run the same program")
	cmd.Flags().IntVarP(pid, "pid", "p", 0, "`id` of the process")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *pid <= 0 {
			return usagef("which process? Give its id with --pid")
		}
		return nil
	}
}

// symbolsFlag gives cmd the flag --symbols.
func (a *app) symbolsFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.symbols, "symbols", "", "`file` that a stripped program was before it was stripped; remembered")
}

// outcome is what load, activate, deactivate and unload print with --json.
type outcome struct {
	Patch   *patcher.Patch   `json:"patch,omitempty"`
	Receipt *patcher.Receipt `json:"receipt"`
	// Attach is what it cost the program that the command attached to it.
	Attach *patcher.Receipt `json:"attach"`
}

func (a *app) printOutcome(patch *patcher.Patch, receipt *patcher.Receipt) error {
	if a.json {
		return a.printJSON(outcome{patch, receipt, a.attached})
	}
	if patch != nil {
		a.printPatch(patch)
		a.printFindings(patch.Findings)
	}
	fmt.Fprintln(a.stdout, describeReceipt(a.attached))
	fmt.Fprintln(a.stdout, describeReceipt(receipt))
	return nil
}

func (a *app) loadCommand() *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   "load --pid N MODULE",
		Short: "Map a module into a process; nothing runs it yet",
		Long: `Attach to the process, map the module's code into it, bind it to the program,
register it with the Go runtime if it has one, and detach. No function is replaced before
"darn activate".`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return a.eachProcess(pid, func(e *patcher.Engine) error {
				patch, receipt, err := e.Load(cmd.Context(), path)
				if err != nil {
					return err
				}
				return a.printOutcome(patch, receipt)
			})
		},
	}
	a.pidFlag(cmd, &pid)
	return a.jsonFlag(cmd)
}

func (a *app) activateCommand() *cobra.Command {
	options := patcher.ActivateOptions{Consistency: patcher.Immediate}
	cmd := a.switchCommand("activate", "Switch a patch on", `Switch all functions of a loaded patch to their new code, at one instant for
all threads.

With --consistency=immediate, the default, calls that are under way finish in
the old code; "darn list" counts them. With --consistency=quiescent the patch
is switched on at an instant at which no goroutine is in the old code: the
process is looked at again and again until that is so or the time is over, and
then the command says which calls hold it up.

With --replace all other active patches are switched off at the same instant,
as for a patch that holds their changes too. The patch may be active already.

What the patch brings that has to be initialised, new packages and variables, is
initialised before, by a goroutine of the program.`,
		func(ctx context.Context, e *patcher.Engine, id string) (*patcher.Patch, *patcher.Receipt, error) {
			show, wipe := progress(a.stderr)
			defer wipe()
			options.Waiting = func(_ *patcher.Patch, why *finding.Refusal) {
				show("waiting: "+why.Findings[0].Message, 0, 0)
			}
			return e.Activate(ctx, id, options)
		})
	cmd.Flags().StringVar(&options.Consistency, "consistency", options.Consistency, "`how`: immediate or quiescent")
	cmd.Flags().DurationVar(&options.Timeout, "timeout", patcher.QuiescenceTimeout, "how long a quiescent activation waits")
	cmd.Flags().BoolVar(&options.Replace, "replace", false, "switch all other patches off at the same instant")
	checkPID := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case options.Consistency != patcher.Immediate && options.Consistency != patcher.Quiescent:
			return usagef("--consistency is immediate or quiescent, not %q", options.Consistency)
		case options.Timeout <= 0:
			return usagef("--timeout must be more than nothing")
		case cmd.Flags().Changed("timeout") && options.Consistency != patcher.Quiescent:
			return usagef("--timeout needs --consistency=quiescent: nothing else waits")
		}
		return checkPID(cmd, args)
	}
	return cmd
}

func (a *app) deactivateCommand() *cobra.Command {
	return a.switchCommand("deactivate", "Switch a patch off", `Switch all functions of an active patch back to their old code, at one instant
for all threads. The patch stays loaded.`,
		func(ctx context.Context, e *patcher.Engine, id string) (*patcher.Patch, *patcher.Receipt, error) {
			return e.Deactivate(ctx, id)
		})
}

func (a *app) unloadCommand() *cobra.Command {
	return a.switchCommand("unload", "Take a patch out of a process", `Restore the entries of the replaced functions, prove that no goroutine, thread
or memory refers to the module, and give its memory back. If something still
does, the command says what, and the patch stays loaded.`,
		func(ctx context.Context, e *patcher.Engine, id string) (*patcher.Patch, *patcher.Receipt, error) {
			receipt, err := e.Unload(ctx, id)
			return nil, receipt, err
		})
}

// switchCommand is a command that changes the state of one loaded patch.
func (a *app) switchCommand(name, short, long string,
	change func(context.Context, *patcher.Engine, string) (*patcher.Patch, *patcher.Receipt, error)) *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   name + " --pid N PATCH",
		Short: short,
		Long:  long + "\n\nPATCH is the id that \"darn load\" and \"darn list\" print, or the module's file.",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.eachProcess(pid, func(e *patcher.Engine) error {
				id, err := patchID(ctx, e, patcher.Operation(name), args[0])
				if err != nil {
					return err
				}
				patch, receipt, err := change(ctx, e, id)
				if err != nil {
					return err
				}
				return a.printOutcome(patch, receipt)
			})
		},
	}
	a.pidFlag(cmd, &pid)
	return a.jsonFlag(cmd)
}

// patchID returns the id of the patch that was loaded from the file named
// arg, or arg itself if there is none.
func patchID(ctx context.Context, e *patcher.Engine, op patcher.Operation, arg string) (string, error) {
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", err
	}
	listing, err := e.Known(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range listing.Patches {
		if p.ID == arg {
			return arg, nil
		}
	}
	// The same file may have been loaded, changed and loaded again: the last
	// one is meant.
	id := arg
	for _, p := range listing.Patches {
		if p.Path != path {
			continue
		}
		id = p.ID
		if m, err := module.Open(path); op == patcher.OpActivate && err == nil && m.ID() != p.Module {
			return "", finding.Refuse(finding.NotLoaded,
				fmt.Sprintf("%s has changed since patch %s was loaded from it: what is in it now is not in the process", arg, p.ID),
				fmt.Sprintf("load it first; or give the id %s for what was loaded", p.ID))
		}
	}
	return id, nil
}

func (a *app) listCommand() *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   "list --pid N",
		Short: "Print the patches in a process",
		Long: `Print the patches in a process with their functions. Of an active patch it
counts the stack frames that are still in the code that it replaces, as calls
that were under way finish there.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.eachProcess(pid, func(e *patcher.Engine) error {
				listing, err := e.List(cmd.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(listing)
				}
				t := listing.Target
				fmt.Fprintf(a.stdout, "process %d, %s, %s\n", t.PID, cmp.Or(t.Version, "language "+t.Language), count(len(listing.Patches), "patch", "patches"))
				for i := range listing.Patches {
					a.printPatch(&listing.Patches[i])
				}
				if listing.Receipt != nil {
					fmt.Fprintln(a.stdout, describeReceipt(listing.Receipt))
				}
				return nil
			})
		},
	}
	a.pidFlag(cmd, &pid)
	return a.jsonFlag(cmd)
}
