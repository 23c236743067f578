package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/patcher/build"
)

func (a *app) buildCommand() *cobra.Command {
	var o build.Options
	cmd := &cobra.Command{
		Use:   "build [--pid N | --target EXE] [flags] [PACKAGE]",
		Short: "Make a patch module from an edit of the program's source",
		Long: `Compile the program's main package twice, as it was and as it is now, with the
Go toolchain, flags and environment that the running program was built with;
check that "as it was" is byte for byte what runs; and write a module with the
functions that the edit changed.

The program is an executable (--target) or a process (--pid). "As it was" is
the git revision or the folder named by --base; without it, the revision in the
program's build information, or else HEAD. "As it is now" is the working tree,
with --overlay as "go build" has it.`,
		Args: args(cobra.MaximumNArgs(1)),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			pid := cmd.Flags().Changed("pid")
			switch {
			case pid == (o.Target != ""):
				return usagef("which program? Give either --pid or --target")
			case pid && o.Pid <= 0:
				return usagef("--pid must be the id of a process")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Package = args[0]
			}
			show, wipe := progress(a.stderr)
			o.Progress = show
			result, err := build.Build(cmd.Context(), o)
			wipe()
			if err != nil {
				return err
			}
			return a.printBuild(result)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Output, "output", "o", "", "`file` to write the module to")
	f.StringVar(&o.Base, "base", "", "git `revision or folder` with the source that the program was built from")
	f.StringVar(&o.Target, "target", "", "the program's `executable`")
	f.IntVarP(&o.Pid, "pid", "p", 0, "`id` of the process")
	f.StringVar(&o.Overlay, "overlay", "", "JSON `file` that replaces source files, as for go build")
	return a.jsonFlag(cmd)
}

func (a *app) printBuild(r *build.Result) error {
	if a.json {
		return a.printJSON(r)
	}
	a.printFindings(r.Findings)
	fmt.Fprintf(a.stdout, "%s: patch %s against %s\nreplaces %s:\n", r.Path, r.Name, r.Base, count(len(r.Functions), "function", "functions"))
	for _, f := range r.Functions {
		fmt.Fprintln(a.stdout, strings.TrimRight(fmt.Sprintf("  %s  %s  %s", f.Name, f.Source, f.Why), " "))
	}
	return nil
}
