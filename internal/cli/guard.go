package cli

import (
	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
)

// policyFile and stateDir are where the machine's policy is, and where the
// quarantine is kept, "" for the user's own place. Only the linker changes them,
// for tests: what a user could set would bind nobody.
var (
	policyFile = guard.SystemPolicy
	stateDir   = ""
)

// newGuard makes the guard of a command, once.
func (a *app) newGuard() (err error) {
	if a.guard == nil {
		a.guard, err = guard.New(guard.Options{
			Policy: policyFile, RequireSignature: a.signatures, Audit: a.audit, State: stateDir, Warn: a.stderr,
		})
	}
	return err
}

// guardFlags gives cmd the flags of what is asked for besides the policy.
func (a *app) guardFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.signatures, "require-signature", "", "refuse modules that are not signed by one of the `keys` in a file or directory")
	cmd.Flags().StringVar(&a.audit, "audit", "", "write what is done to a `file`, or to journald")
}

// forceFlag gives cmd the flag --force.
func (a *app) forceFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.force, "force", false, "also a module that others could have changed, or that is in quarantine")
}
