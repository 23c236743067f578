package cli

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/module"
)

// casesJSON is what the commands of quarantine print with --json.
type casesJSON struct {
	Cases []guard.Kept `json:"cases"`
}

func (a *app) quarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "Say which modules are in quarantine, or end that",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return usagef("list or remove?")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.quarantineListCommand(), a.quarantineRemoveCommand())
	return cmd
}

func (a *app) quarantineListCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "list",
		Short: "Print which modules have ended a process, and the files in which more is kept of that",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := a.newGuard(); err != nil {
				return err
			}
			cases, err := a.guard.Cases()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(casesJSON{append([]guard.Kept{}, cases...)})
			}
			for _, k := range cases {
				a.printCase(&k)
			}
			return nil
		},
	})
}

func (a *app) printCase(k *guard.Kept) {
	if k.How == "" {
		fmt.Fprintf(a.stdout, "module %.16s: %s\n  %s\n", k.Module, k.Note, k.File)
		return
	}
	state := "is refused for this build"
	if k.Lifted != nil {
		state = fmt.Sprintf("was forced by %s on %s", k.Lifter, k.Lifted.Local().Format(time.DateTime))
	}
	fmt.Fprintf(a.stdout, "module %.16s (%s) %s\n  %s: %s: %v\n  %s\n", k.Module, k.Path, state,
		k.Ended.Local().Format(time.DateTime), cmp.Or(k.Exe, "program"), &k.Case, k.File)
}

func (a *app) quarantineRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove MODULE...",
		Short: "Take modules out of quarantine, and remove what was kept of them",
		Long: `Take modules out of quarantine for all builds, and remove what was kept of how they
have ended a process. MODULE is a module's file, or the beginning of its hash as "darn
quarantine list" prints it. Loading a module with --force ends its quarantine too,
for one build, and keeps the rest.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, modules []string) error {
			if err := a.newGuard(); err != nil {
				return err
			}
			var removed []guard.Kept
			for _, id := range modules {
				if m, err := module.Open(id); err == nil {
					id = m.ID()
				}
				cases, err := a.guard.Remove(id)
				if err != nil {
					return err
				}
				removed = append(removed, cases...)
			}
			if a.json {
				return a.printJSON(casesJSON{removed})
			}
			for _, k := range removed {
				fmt.Fprintf(a.stdout, "module %.16s (%s) is no longer in quarantine; %s is removed\n", k.Module, k.Path, k.File)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&a.audit, "audit", "", "write what is done to a `file`, or to journald")
	return a.jsonFlag(cmd)
}
