package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/go-delve/delve/pkg/version"
	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print versions",
		Long: `Print the version of Delve that Darn is built on, as "dlv version" does, then
Darn's own: editors that look for Delve find it.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{
					"darn":  Version(),
					"delve": delveVersion(),
					"go":    runtime.Version(),
				})
			}
			delve := version.DelveVersion
			// As it is, Delve would put the revision of our own source there.
			delve.Build = strings.TrimSuffix(strings.TrimPrefix(delve.Build, "$Id: "), " $")
			fmt.Fprintf(a.stdout, "Delve Debugger\n%s\n", delve)
			fmt.Fprintf(a.stdout, "Darn: %s\n", Version())
			if verbose {
				fmt.Fprintf(a.stdout, "Build Details: %s\n", version.BuildInfo())
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print the build's details too")
	return a.jsonFlag(cmd)
}

// Version is Darn's version: that of its module if it was installed by
// version, else the revision it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func delveVersion() string {
	v := version.DelveVersion
	return v.Major + "." + v.Minor + "." + v.Patch
}
