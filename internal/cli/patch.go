package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
	"github.com/darn-dev/darn/patcher/process"
)

// headless runs work on the process pid: attach, work, detach. Patches stay. op is
// what it is for.
func (a *app) headless(op string, pid int, work func(*patcher.Engine, *guard.Act) error) (err error) {
	if err := a.newGuard(); err != nil {
		return err
	}
	act, err := a.guard.Begin(op, pid, a.force)
	if err != nil {
		return err
	}
	defer func() { err = act.End(err) }()
	if err := process.CheckOwner(pid); err != nil {
		return err
	}
	if err := patcher.Check(pid, a.symbols); err != nil {
		return err
	}
	p, engine, err := patcher.Attach(pid, a.residentOptions(op)...)
	if err != nil {
		return err
	}
	a.attached, a.detach = patcher.AttachReceipt(p), p.Detach
	defer func() {
		if failed := p.Close(); err == nil {
			err = failed
		}
		if end := p.HowEnded(); end != nil {
			a.ends = map[int]*process.End{pid: end}
		}
	}()
	defer engine.Close()
	act.Target(engine.Target())
	return work(engine, act)
}

// pidFlag gives cmd the required flag --pid, --symbols, --children, and those of
// the guard.
func (a *app) pidFlag(cmd *cobra.Command, pid *int) {
	a.symbolsFlag(cmd)
	a.guardFlags(cmd)
	cmd.Flags().BoolVar(&a.children, "children", false, "also for the processes that it has forked and that run the same program")
	cmd.Flags().IntVarP(pid, "pid", "p", 0, "`id` of the process")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *pid <= 0 {
			return usagef("which process? Give its id with --pid")
		}
		return nil
	}
}

// residentFlag gives cmd the flag --resident.
func (a *app) residentFlag(cmd *cobra.Command) {
	a.resident = residentAuto
	cmd.Flags().StringVar(&a.resident, "resident", residentAuto,
		"`whether` a thread of Darn's in the process may do what otherwise takes a halt: auto or never")
}

// The values of --resident.
const residentAuto, residentNever = "auto", "never"

// checkResident returns a usage error for another value of the flag.
func (a *app) checkResident() error {
	if a.resident != residentAuto && a.resident != residentNever {
		return usagef("--resident is %s or %s, not %q", residentAuto, residentNever, a.resident)
	}
	return nil
}

// residentOptions are the options for the engine of a headless command. Those that
// do all that they do under a halt, or nothing, have no use for the thread.
func (a *app) residentOptions(op string) []func(*patcher.Engine) {
	switch patcher.Operation(op) {
	case patcher.OpLoad, patcher.OpActivate, patcher.OpDeactivate:
		if a.resident == residentAuto {
			options := []func(*patcher.Engine){patcher.ForOneOperation()}
			if a.coming != nil {
				options = append(options, patcher.ForLoading(a.coming))
			}
			return options
		}
	}
	return []func(*patcher.Engine){patcher.WithoutResident()}
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
	var options patcher.LoadOptions
	cmd := &cobra.Command{
		Use:   "load --pid N MODULE",
		Short: "Map a module into a process; nothing runs it yet",
		Long: `Attach to the process, map the module's code into it, bind it to the program,
register it with the Go runtime if it has one, and detach. No function is replaced before
"darn activate".

Refused is also a module that others than you, root and the process's owner
could have changed, one that has ended a process of this build before (see "darn
activate"), both unless --force is given, and one that is not signed as
--require-signature or the machine's policy demands.

A module for C that was linked with a library which the program has not loaded is
refused, unless --dlopen is given: then a thread of the program that waits in a
system call loads the library by the program's own dlopen. The library runs its
constructors, and stays when the patch is unloaded.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if err := a.checkResident(); err != nil {
				return err
			}
			// What is wrong with it is said when it is to be loaded.
			a.coming, _ = module.Open(path)
			return a.eachProcess(string(patcher.OpLoad), pid, func(e *patcher.Engine, act *guard.Act) error {
				m, found, err := act.Open(path, guard.OwnerOf(e.Target().PID)...)
				if err != nil {
					return err
				}
				if err := guard.Refusal(found); err != nil {
					return err
				}
				patch, receipt, err := e.LoadModule(cmd.Context(), m, path, options)
				if err != nil {
					return err
				}
				act.Patch(patch)
				patch.Findings = append(found, patch.Findings...)
				return a.printOutcome(patch, receipt)
			})
		},
	}
	a.pidFlag(cmd, &pid)
	a.forceFlag(cmd)
	a.residentFlag(cmd)
	cmd.Flags().BoolVar(&options.Dlopen, "dlopen", false, "C: let the program load the libraries that the module was linked with")
	return a.jsonFlag(cmd)
}

func (a *app) activateCommand() *cobra.Command {
	options := patcher.ActivateOptions{Consistency: patcher.Immediate}
	cmd, pid := a.switchCommand("activate", "Switch a patch on", `Switch all functions of a loaded patch to their new code, at one instant for
all threads.

With --consistency=immediate, the default, calls that are under way finish in
the old code; "darn list" counts them. With --consistency=quiescent the patch
is switched on at an instant at which no goroutine is in the old code: the
process is looked at again and again until that is so or the time is over, and
then the command says which calls hold it up.

With --replace all other active patches are switched off at the same instant,
as for a patch that holds their changes too. The patch may be active already.

What the patch brings that has to be initialised, new packages and variables, is
initialised before, by a goroutine of the program.

When the patch is active and that is printed, the command looks on for --watch
and traces the process meanwhile, without stopping it, until another darn wants the
process or Ctrl-C. If the process ends by a fault of its own, the command says so with exit status 1, keeps the registers and
the stack of the thread that ended it, and from then on the module is refused
for this build of the program until it is loaded with --force.`,
		func(ctx context.Context, e *patcher.Engine, act *guard.Act, id string) (*patcher.Patch, *patcher.Receipt, error) {
			done, err := a.activating(ctx, e, act, id)
			if err != nil {
				return nil, nil, err
			}
			show, wipe := progress(a.stderr)
			defer wipe()
			options.Waiting = func(_ *patcher.Patch, why *finding.Refusal) {
				show("waiting: "+why.Findings[0].Message, 0, 0)
			}
			options.LetGo = a.letGo()
			p, r, err := e.Activate(ctx, id, options)
			if err == nil {
				done(r)
			}
			return p, r, err
		})
	watch, err := time.ParseDuration(watchTime)
	if err != nil {
		panic(err) // it is a constant
	}
	cmd.Flags().DurationVar(&watch, "watch", watch, "how long to look on afterwards, in case that the process ends; 0 for not at all")
	a.forceFlag(cmd)
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if watch == 0 {
			return run(cmd, args)
		}
		pids, err := family(*pid, a.children)
		if err != nil {
			return err
		}
		a.watch = process.NewWatch(pids...)
		defer a.watch.Close()
		return a.lookOn(cmd.Context(), watch, run(cmd, args))
	}
	cmd.Flags().StringVar(&options.Consistency, "consistency", options.Consistency, "`how`: immediate or quiescent")
	cmd.Flags().DurationVar(&options.Timeout, "timeout", patcher.QuiescenceTimeout, "how long a quiescent activation waits")
	cmd.Flags().BoolVar(&options.Replace, "replace", false, "switch all other patches off at the same instant")
	checkPID := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case options.Consistency != patcher.Immediate && options.Consistency != patcher.Quiescent:
			return usagef("--consistency is immediate or quiescent, not %q", options.Consistency)
		case watch < 0:
			return usagef("--watch can't be less than nothing")
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
	cmd, _ := a.switchCommand("deactivate", "Switch a patch off", `Switch all functions of an active patch back to their old code, at one instant
for all threads. The patch stays loaded.`,
		func(ctx context.Context, e *patcher.Engine, _ *guard.Act, id string) (*patcher.Patch, *patcher.Receipt, error) {
			return e.Deactivate(ctx, id)
		})
	return cmd
}

func (a *app) unloadCommand() *cobra.Command {
	cmd, _ := a.switchCommand("unload", "Take a patch out of a process", `Restore the entries of the replaced functions, prove that no goroutine, thread
or memory refers to the module, and give its memory back. If something still
does, the command says what, and the patch stays loaded.`,
		func(ctx context.Context, e *patcher.Engine, _ *guard.Act, id string) (*patcher.Patch, *patcher.Receipt, error) {
			receipt, err := e.Unload(ctx, id)
			return nil, receipt, err
		})
	return cmd
}

// switchCommand is a command that changes the state of one loaded patch. pid is
// where it has the process's id from.
func (a *app) switchCommand(name, short, long string,
	change func(context.Context, *patcher.Engine, *guard.Act, string) (*patcher.Patch, *patcher.Receipt, error)) (_ *cobra.Command, pid *int) {
	pid = new(int)
	cmd := &cobra.Command{
		Use:   name + " --pid N PATCH",
		Short: short,
		Long:  long + "\n\nPATCH is the id that \"darn load\" and \"darn list\" print, or the module's file.",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := a.checkResident(); err != nil {
				return err
			}
			return a.eachProcess(name, *pid, func(e *patcher.Engine, act *guard.Act) error {
				p, err := findPatch(ctx, e, patcher.Operation(name), args[0])
				if err != nil {
					return err
				}
				act.Patch(p)
				patch, receipt, err := change(ctx, e, act, p.ID)
				if err != nil {
					return err
				}
				return a.printOutcome(patch, receipt)
			})
		},
	}
	a.pidFlag(cmd, pid)
	a.residentFlag(cmd)
	return a.jsonFlag(cmd), pid
}

// findPatch returns the patch with the id arg, or that was loaded from the file
// of that name; if there is neither, one with that id of which nothing is known.
func findPatch(ctx context.Context, e *patcher.Engine, op patcher.Operation, arg string) (*patcher.Patch, error) {
	path, err := filepath.Abs(arg)
	if err != nil {
		return nil, err
	}
	listing, err := e.Known(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range listing.Patches {
		if p.ID == arg {
			return &p, nil
		}
	}
	// The same file may have been loaded, changed and loaded again: the last
	// one is meant.
	found := &patcher.Patch{ID: arg}
	for _, p := range listing.Patches {
		if p.Path != path {
			continue
		}
		found = &p
		if m, err := module.Open(path); op == patcher.OpActivate && err == nil && m.ID() != p.Module {
			return nil, finding.Refuse(finding.NotLoaded,
				fmt.Sprintf("%s has changed since patch %s was loaded from it: what is in it now is not in the process", arg, p.ID),
				fmt.Sprintf("load it first; or give the id %s for what was loaded", p.ID))
		}
	}
	return found, nil
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
			return a.eachProcess(string(patcher.OpList), pid, func(e *patcher.Engine, _ *guard.Act) error {
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
