package cli

import (
	"fmt"
	"strings"

	"github.com/ianlancetaylor/demangle"
	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher"
	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/build/cbuild"
	"github.com/darn-dev/darn/patcher/finding"
)

func (a *app) buildCommand() *cobra.Command {
	var o build.Options
	var c cbuild.Options
	var change cbuild.ChangeOptions
	var steps bool
	var sign string
	cmd := &cobra.Command{
		Use:   "build [--pid N | --target EXE] [flags] [PACKAGE | FILE.c [-- CFLAGS]]",
		Short: "Make a patch module from an edit of the program's source",
		Long: `Compile the program's main package twice, as it was and as it is now, with the
Go toolchain, flags and environment that the running program was built with;
check that "as it was" is byte for byte what runs; and write a module with the
functions that the edit changed.

Standard output says of each function that the edit touches what becomes of it,
and standard error what was found, both as a compiler does: file:line, severity,
function, message, code. With --partial an edit that is refused only in part
makes a patch of the functions that do not depend on that part; the others are
named, and keep their old code.

The program is an executable (--target) or a process (--pid). "As it was" is
the git revision or the folder named by --base; without it, the revision in the
program's build information, or else HEAD. "As it is now" is the working tree,
with --overlay as "go build" has it.

Patches that the process has loaded already stay what they are: the variables
and types that they added to the program are shared, with the values they have.
With --pid those patches are found by themselves; --after names their modules.

For a program that was stripped, or built with -ldflags=-s or -w, the command
makes its symbols too, and remembers them for the commands that load the
module.

For a C or C++ program give a source file with the new functions instead: they
replace those with their names. It is compiled by CC or CXX, or else cc or c++,
with -shared -fPIC -g -O2 and what follows "--". Where several files of the
program have a static function of one name, --function FILE.c:NAME says which is
replaced, and --symbol FILE.c:NAME which is used.

Or give an edited source file with --base, the file that it was (or a git
revision, or a copy of the tree); or two trees, --base and --new. What the edit
concerns is then compiled as it was and as it is, with the flags that
--compile-commands has, or compile_commands.json near the file, or the program's
debugging information, and what follows "--"; "as it was" is compared with the
code that runs; and the functions that differ go into the module, with what they
need. They use the program's variables.`,
		Args: args(func(cmd *cobra.Command, given []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				given, c.Flags = given[:dash], given[dash:]
			}
			return cobra.MaximumNArgs(1)(cmd, given)
		}),
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
			if len(args) > len(c.Flags) {
				o.Package = args[0]
			}
			if sign != "" {
				var err error
				if o.Sign, err = guard.ReadPrivateKey(sign); err != nil {
					return err
				}
				c.Sign = o.Sign
			}
			show, wipe := progress(a.stderr)
			if steps {
				show = progressLines(a.stderr)
			}
			if change.New != "" || change.CompileCommands != "" || cbuild.IsSource(o.Package) && o.Base != "" {
				change.Source, change.Base, change.Target, change.Pid, change.Output = o.Package, o.Base, o.Target, o.Pid, o.Output
				change.Flags, change.Sign, change.Progress = c.Flags, c.Sign, show
				switch {
				case o.Base == "":
					return usagef("what was the program built from? Give the old source with --base")
				case o.Package != "" && !cbuild.IsSource(o.Package):
					return usagef("%s is not a source file of C or C++", o.Package)
				case o.Package == "" && change.New == "" && change.CompileCommands == "":
					return usagef("what was edited? Give a file, or the tree with --new")
				case len(c.Functions) > 0 || len(c.Symbols) > 0:
					return usagef("--function and --symbol are for a file with the new functions alone, without --base")
				}
				result, err := cbuild.BuildChange(cmd.Context(), change)
				wipe()
				if err != nil {
					return err
				}
				return a.printCBuild(result)
			}
			if cbuild.IsSource(o.Package) {
				c.Source, c.Target, c.Pid, c.Output = o.Package, o.Target, o.Pid, o.Output
				result, err := cbuild.Build(cmd.Context(), c)
				if err != nil {
					return err
				}
				return a.printCBuild(result)
			}
			if len(c.Flags) > 0 || len(c.Functions) > 0 || len(c.Symbols) > 0 {
				return usagef("flags for a C compiler, --function and --symbol need a source file of C or C++")
			}
			var lost []finding.Finding
			if o.Pid != 0 && !cmd.Flags().Changed("after") {
				var err error
				if o.After, lost, err = loadedModules(o.Pid); err != nil {
					return err
				}
			}
			o.Progress, o.Symbols = show, a.symbols
			result, err := build.Build(cmd.Context(), o)
			wipe()
			if err != nil {
				return err
			}
			result.Findings = append(lost, result.Findings...)
			return a.printBuild(result)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Output, "output", "o", "", "`file` to write the module to")
	f.StringVar(&o.Base, "base", "", "git `revision or folder` with the source that the program was built from")
	f.StringVar(&o.Target, "target", "", "the program's `executable`")
	f.IntVarP(&o.Pid, "pid", "p", 0, "`id` of the process")
	f.StringArrayVar(&o.After, "after", nil, "`module` that is loaded before this one; repeat it in the order of loading")
	f.StringVar(&o.Overlay, "overlay", "", "JSON `file` that replaces source files, as for go build")
	f.StringArrayVar(&c.Functions, "function", nil, "`FILE.c:NAME` of a static function that is replaced; repeatable")
	f.StringArrayVar(&c.Symbols, "symbol", nil, "`FILE.c:NAME` of a static function or variable that the source declares; repeatable")
	f.StringVar(&change.New, "new", "", "`folder` with the edited source of a C or C++ program")
	f.StringVar(&change.CompileCommands, "compile-commands", "", "`file` that says how the sources of a C or C++ program are compiled (compile_commands.json)")
	f.BoolVar(&o.Partial, "partial", false, "where the edit is refused in part, build what does not depend on that")
	f.StringVar(&sign, "sign", "", "sign the module with the private key in a `file`, as darn sign does")
	f.BoolVar(&steps, "progress", false, "print on standard error how far it is, each step as a line of JSON")
	a.symbolsFlag(cmd)
	return a.jsonFlag(cmd)
}

// loadedModules returns the paths of the modules that a process has loaded, and
// warns of those that are not there any more.
func loadedModules(pid int) (paths []string, lost []finding.Finding, err error) {
	loaded, err := patcher.LoadedModules(pid)
	for _, l := range loaded {
		if path := build.ModuleFile(l.Path, l.Hash); path != "" {
			paths = append(paths, path)
			continue
		}
		lost = append(lost, finding.Finding{Code: finding.NotLoaded, Severity: finding.Warning,
			Message: fmt.Sprintf("the module %s that patch %s was loaded from is not there any more: what it added to the program is not shared, the new module has variables and types of its own", l.Path, l.ID),
			Advice:  "give the path of a copy of that module with --after, if the edit uses what it added"})
	}
	return paths, lost, err
}

func (a *app) printBuild(r *build.Result) error {
	if a.json {
		return a.printJSON(r)
	}
	a.printFindings(r.Findings)
	after := ""
	if len(r.Requires) > 0 {
		after = "shares what " + strings.Join(r.Requires, ", ") + " added, and is to be loaded after that\n"
	}
	fmt.Fprintf(a.stdout, "%s: patch %s against %s\n%sreplaces %s:\n", r.Path, r.Name, r.Base, after, count(len(r.Functions), "function", "functions"))
	a.printVerdicts(r.Verdicts)
	return nil
}

func (a *app) printCBuild(r *cbuild.Result) error {
	if a.json {
		return a.printJSON(r)
	}
	a.printFindings(r.Findings)
	if r.Base != "" {
		for _, note := range r.Notes {
			fmt.Fprintln(a.stderr, note)
		}
		fmt.Fprintf(a.stdout, "%s: against %s\nreplaces %s:\n", r.Path, r.Base, count(len(r.Functions), "function", "functions"))
		for i := range r.Verdicts {
			r.Verdicts[i].Function = demangle.Filter(r.Verdicts[i].Function)
		}
		a.printVerdicts(r.Verdicts)
		return nil
	}
	fmt.Fprintf(a.stdout, "%s: replaces %s:\n", r.Path, count(len(r.Functions), "function", "functions"))
	for _, f := range r.Functions {
		fmt.Fprintf(a.stdout, "  %s  %s\n", demangle.Filter(f.Symbol), f.Source)
	}
	return nil
}
