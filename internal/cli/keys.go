package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/darn-dev/darn/internal/guard"
	"github.com/darn-dev/darn/patcher/module"
)

func (a *app) keygenCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "keygen -o FILE",
		Short: "Make a key to sign modules with",
		Long: `Make a pair of keys for Ed25519: the private one in FILE, which only you can
read, and the public one in FILE.pub. Nothing is written over. Both are PEM, as
OpenSSL reads and writes it.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if path == "" {
				return usagef("where? Give the file of the private key with -o")
			}
			key, err := guard.GenerateKey(path)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"private": path, "public": path + guard.PublicSuffix, "fingerprint": module.Fingerprint(key)})
			}
			fmt.Fprintf(a.stdout, "private key %s\npublic key %s\nfingerprint %s\n", path, path+guard.PublicSuffix, module.Fingerprint(key))
			return nil
		},
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "`file` of the private key")
	return a.jsonFlag(cmd)
}

func (a *app) signCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "sign --key KEY MODULE...",
		Short: "Sign modules",
		Long: `Sign modules with a private key, of darn keygen or in PEM (PKCS #8), for
--require-signature. The signature is put at the end of each file, in place of
one that is there; the rest of it stays what it is. Modules that a C compiler
made can be signed as those of darn build.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, modules []string) error {
			if path == "" {
				return usagef("by whom? Give the file of the private key with --key")
			}
			key, err := guard.ReadPrivateKey(path)
			if err != nil {
				return err
			}
			for _, m := range modules {
				before, err := guard.SignFile(m, key)
				if err != nil {
					return fmt.Errorf("%s: %w", m, err)
				}
				signed, err := module.Open(m)
				if err != nil {
					return err
				}
				if a.json {
					err = a.printJSON(map[string]string{"path": m, "module": signed.ID(), "signer": module.Fingerprint(signed.Signer())})
				} else {
					if before != "" {
						before = ", no longer by " + before
					}
					_, err = fmt.Fprintf(a.stdout, "%s: signed by %s%s\n", m, module.Fingerprint(signed.Signer()), before)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "key", "", "`file` of the private key")
	return a.jsonFlag(cmd)
}
