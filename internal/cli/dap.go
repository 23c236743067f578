package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-delve/delve/pkg/config"
	"github.com/go-delve/delve/pkg/logflags"
	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/adapter"
	"github.com/darn-dev/darn/patcher/exe"
)

// dapFlags are the flags of "dlv dap". Editors start Darn in its place and
// pass what they pass to it.
type dapFlags struct {
	listen, clientAddr string
	stdio              bool
	log                bool
	logOutput, logDest string
	onlySameUser       bool
	checkGoVersion     bool
	disableASLR        bool

	// Accepted and without effect here, as in "dlv dap".
	headless, acceptMulti, allowNonTerminal bool
	apiVersion                              int
	initFile, backend, buildFlags, wd       string
	redirects                               []string
}

func (a *app) dapCommand() *cobra.Command {
	var o dapFlags
	cmd := &cobra.Command{
		Use:   "dap",
		Short: "Start a debug adapter for an editor",
		Long: `Start a server that speaks the Debug Adapter Protocol and wait for an editor.
It debugs Go programs as "dlv dap" does, takes its flags, and answers Darn's
requests too: darn/inspect, darn/load, darn/activate, darn/deactivate,
darn/unload and darn/list. One session, then it ends.

Launch with mode exec, debug or test, and attach with a process id.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.dap(cmd, &o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.listen, "listen", "l", "127.0.0.1:0", "`address` to listen at; prefix with unix: for a socket in the file system")
	f.StringVar(&o.clientAddr, "client-addr", "", "`address` of a waiting client to dial, in place of listening")
	f.BoolVar(&o.stdio, "stdio", false, "speak on standard input and output, in place of listening")
	f.BoolVar(&o.log, "log", false, "log what the server does")
	f.StringVar(&o.logOutput, "log-output", "", "comma separated `list` of what to log: debugger, dap, rpc, fncall, stack...")
	f.StringVar(&o.logDest, "log-dest", "", "`file` or file descriptor to log to; the listening line goes there too")
	f.BoolVar(&o.onlySameUser, "only-same-user", true, "serve only connections of the user that started the server; whose one from another machine is can't be known")
	f.BoolVar(&o.checkGoVersion, "check-go-version", true, "refuse programs whose Go version doesn't fit")
	f.BoolVar(&o.disableASLR, "disable-aslr", false, "launch programs without address space randomization")

	a.symbolsFlag(cmd)
	a.guardFlags(cmd)
	a.residentFlag(cmd)

	f.BoolVar(&o.headless, "headless", false, "")
	f.BoolVar(&o.acceptMulti, "accept-multiclient", false, "")
	f.BoolVar(&o.allowNonTerminal, "allow-non-terminal-interactive", false, "")
	f.IntVar(&o.apiVersion, "api-version", 2, "")
	f.StringVar(&o.initFile, "init", "", "")
	f.StringVar(&o.backend, "backend", "default", "")
	f.StringVar(&o.buildFlags, "build-flags", "", "")
	f.StringVar(&o.wd, "wd", "", "")
	f.StringArrayVarP(&o.redirects, "redirect", "r", nil, "")
	for _, name := range ignoredFlags {
		if err := f.MarkHidden(name); err != nil {
			panic(err) // defined above
		}
	}
	return cmd
}

// ignoredFlags are flags that "dlv dap" takes without using them.
var ignoredFlags = []string{
	"headless", "accept-multiclient", "allow-non-terminal-interactive", "api-version",
	"init", "backend", "build-flags", "wd", "redirect",
}

func (a *app) dap(cmd *cobra.Command, o *dapFlags, args []string) error {
	if o.stdio && (o.clientAddr != "" || cmd.Flags().Changed("listen")) || o.clientAddr != "" && cmd.Flags().Changed("listen") {
		return usagef("--listen, --client-addr and --stdio exclude each other")
	}
	if err := a.checkResident(); err != nil {
		return err
	}
	if o.backend != "default" && o.backend != "native" {
		return usagef("unknown backend %q: Darn has the native one only", o.backend)
	}
	for _, name := range ignoredFlags {
		if cmd.Flags().Changed(name) {
			fmt.Fprintf(a.stderr, "Warning: --%s ignored with dap; the client says such things in its launch or attach request\n", name)
		}
	}
	if len(args) > 0 {
		fmt.Fprintln(a.stderr, "Warning: arguments ignored with dap; the client says such things in its launch or attach request")
	}
	if err := logflags.Setup(o.log, o.logOutput, o.logDest); err != nil {
		return usageError{err}
	}
	defer logflags.Close()
	delve, err := config.LoadConfig()
	if err != nil {
		// As "dlv dap" does: its configuration is a help, not a need.
		logflags.DebuggerLogger().Errorf("%v", err)
		delve = &config.Config{}
	}
	if err := a.newGuard(); err != nil {
		return err
	}
	cfg := adapter.Config{
		Guard:                a.guard,
		Listen:               o.listen,
		ClientAddr:           o.clientAddr,
		OnlySameUser:         o.onlySameUser,
		CheckGoVersion:       o.checkGoVersion,
		DisableASLR:          o.disableASLR,
		DebugInfoDirectories: delve.DebugInfoDirectories,
		WithoutResident:      a.resident == residentNever,
	}
	if a.symbols != "" {
		if err := exe.KeepSymbols(a.symbols); err != nil {
			return err
		}
	}
	serve := adapter.Listen
	switch {
	case o.stdio:
		serve = adapter.ServeStdio
	case o.clientAddr != "":
		serve = adapter.Dial
	}
	err = serve(cmd.Context(), cfg)
	if errors.Is(err, context.Canceled) {
		return nil // asked to end, and ended
	}
	return err
}
