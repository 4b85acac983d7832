package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

func (c *cli) tokenCommand() *cobra.Command {
	return group("token", "API tokens", c.tokenList(), c.tokenCreate(), c.tokenRevoke())
}

func (c *cli) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			out, err := api.tokens(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := [][]string{{"ID", "NAME", "ROLE", "CREATED", "BY"}}
				for _, t := range out.Tokens {
					rows = append(rows, []string{t.ID, t.Name, string(t.Role), t.Created.Local().Format(time.DateTime), t.CreatedBy})
				}
				table(w, rows...)
			})
		},
	}
}

func (c *cli) tokenCreate() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token and print it, this once", Args: args(cobra.ExactArgs(1)),
		Example: `  drydock token create deploy-pipeline --role operator`,
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			out, err := api.createToken(cmd.Context(), args[0], role)
			if err != nil {
				return err
			}
			// The token alone on standard output: TOKEN=$(drydock token create …).
			return c.print(cmd, out, func(w io.Writer) { fmt.Fprintln(w, out.Secret) })
		},
	}
	cmd.Flags().StringVar(&role, "role", string(keeper.Viewer), "viewer or operator")
	return cmd
}

func (c *cli) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a token at once", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if err := api.revokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			return c.print(cmd, map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s revoked\n", args[0]) })
		},
	}
}
