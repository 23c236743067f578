package cli

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/patcher/build"
	"github.com/darn-dev/darn/patcher/module"
)

func (a *app) sourcesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sources MODULE",
		Short: "Say where the old and the new source of a module are",
		Long: `Print for each file that the module's edit changed where copies of its old and
its new text are, to compare them. The copies are in the user's cache since
"darn build" made the module. MODULE is its file, or the sha256 of that, as
"darn list --json" prints it.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			id := args[0]
			if sum, err := hex.DecodeString(id); err != nil || len(sum) != 32 {
				m, err := module.Open(id)
				if err != nil {
					return err
				}
				id = m.ID()
			}
			texts, err := build.Texts(id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string][]build.Text{"sources": texts})
			}
			for _, t := range texts {
				old := t.Old
				if old == "" {
					old = "/dev/null"
				}
				fmt.Fprintf(a.stdout, "%s\n  old %s\n  new %s\n", t.Path, old, t.New)
			}
			return nil
		},
	}
	return a.jsonFlag(cmd)
}
