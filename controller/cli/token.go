package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
)

func (c *cli) tokenCommand() *cobra.Command {
	return group("token", "Manage API tokens", c.tokenListCommand(), c.tokenCreateCommand(), c.tokenRevokeCommand())
}

func (c *cli) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				tokens, err := api.tokens(ctx)
				return result{tokens, func(w io.Writer) {
					rows := [][]string{{"ID", "NAME", "ROLE", "CREATED", "BY"}}
					for _, t := range tokens.Tokens {
						rows = append(rows, []string{t.ID, t.Name, string(t.Role), t.Created.Local().Format(time.DateTime), t.CreatedBy})
					}
					table(w, rows...)
				}}, err
			})
		},
	}
}

func (c *cli) tokenCreateCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a token and print it; it is not shown again", Args: arguments(cobra.ExactArgs(1)),
		Example: `  drydock token create deploy-pipeline --role operator`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				token, err := api.createToken(ctx, args[0], role)
				// Nothing but the token is printed, for TOKEN=$(drydock token create …).
				return result{token, func(w io.Writer) { fmt.Fprintln(w, token.Secret) }}, err
			})
		},
	}

	cmd.Flags().StringVar(&role, "role", string(keeper.Viewer), "viewer or operator")
	return cmd
}

func (c *cli) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token at once", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				return done(args[0], "revoked"), api.revokeToken(ctx, args[0])
			})
		},
	}
}
