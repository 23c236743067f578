package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/finding"
	"github.com/darn-dev/darn/patcher/module"
)

func (a *app) inspectCommand() *cobra.Command {
	var pid int
	cmd := &cobra.Command{
		Use:   "inspect [--pid N] MODULE",
		Short: "Say what is in a module, and what loading it would do",
		Long: `Print what a module replaces, for which build of which program, and what its
builder found. With --pid, check it against the process too: what would happen
at a load. The process is not changed. Exits with status 1 if it could not be
loaded.`,
		Args: args(cobra.ExactArgs(1)),
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("pid") && pid <= 0 {
				return usagef("--pid must be the id of a process")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if pid == 0 {
				if err := a.newGuard(); err != nil {
					return err
				}
				act, err := a.guard.Begin("inspect", 0, false)
				if err != nil {
					return err
				}
				m, found, err := act.Open(path)
				if err != nil {
					return err
				}
				findings := append(found, m.Manifest.Findings...)
				return a.printInspection(&patcher.Inspection{
					Module: patcher.DescribeModule(m, path), Verdicts: m.Manifest.Verdicts(findings), Findings: findings, OK: guard.Refusal(found) == nil,
				}, m)
			}
			return a.headless("inspect", pid, func(e *patcher.Engine, act *guard.Act) error {
				m, found, err := act.Open(path, guard.OwnerOf(pid)...)
				if err != nil {
					return err
				}
				in, err := e.InspectModule(cmd.Context(), m, path, found...)
				if err != nil {
					return err
				}
				return a.printInspection(in, m)
			})
		},
	}
	cmd.Flags().IntVarP(&pid, "pid", "p", 0, "`id` of the process to check the module against")
	a.symbolsFlag(cmd)
	a.guardFlags(cmd)
	return a.jsonFlag(cmd)
}

// errNotLoadable ends darn inspect after it has printed why.
var errNotLoadable = errors.New("the module could not be loaded")

func (a *app) printInspection(in *patcher.Inspection, module *module.Module) error {
	if in.Findings == nil {
		in.Findings = []finding.Finding{}
	}
	if a.json {
		if err := a.printJSON(in); err != nil {
			return err
		}
	} else {
		m := in.Module
		fmt.Fprintf(a.stdout, "module %s, a patch for a %s program\n", m.Name, m.Language)
		if m.Description != "" {
			fmt.Fprintln(a.stdout, m.Description)
		}
		fmt.Fprintf(a.stdout, "sha256 %s\nfor build %s\n", m.ID, m.BuildID)
		if signer := a.guard.SignerName(module); signer != "" {
			fmt.Fprintf(a.stdout, "signed by %s\n", signer)
		}
		if m.Base != "" {
			fmt.Fprintf(a.stdout, "against %s\n", m.Base)
		}
		fmt.Fprintf(a.stdout, "replaces %s:\n", count(len(m.Functions), "function", "functions"))
		if len(m.Functions) > 0 && m.Functions[0].Address != 0 {
			a.printFunctions(m.Functions)
		}
		a.printVerdicts(in.Verdicts)
	}
	a.printFindings(in.Findings)
	if !in.OK {
		return errNotLoadable
	}
	return nil
}
