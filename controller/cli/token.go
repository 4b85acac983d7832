package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/web"
)

// tokenCommand returns the command drydock token, whose subcommands are about API tokens. Like
// every command that calls the API, each of them passes a function to callAPI (cli.go), which calls
// the function with a client (client.go) and prints the result (output.go).
func (c *commandLine) tokenCommand() *cobra.Command {
	return commandGroup("token", "Manage API tokens", c.tokenListCommand(), c.tokenCreateCommand(), c.tokenRevokeCommand())
}

func (c *commandLine) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				tokens, err := api.listTokens(ctx)
				return result{tokens, func(w io.Writer) { printTokens(w, tokens) }}, err
			})
		},
	}
}

func printTokens(w io.Writer, tokens web.Tokens) {
	rows := [][]string{{"ID", "NAME", "ROLE", "CREATED", "BY"}}
	for _, t := range tokens.Tokens {
		created := t.Created.Local().Format(time.DateTime)
		rows = append(rows, []string{t.ID, t.Name, string(t.Role), created, t.CreatedBy})
	}
	writeTable(w, rows...)
}

func (c *commandLine) tokenCreateCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a token and print it; it is not shown again", Args: checkArgs(cobra.ExactArgs(1)),
		Example: `  drydock token create deploy-pipeline --role operator`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				token, err := api.createToken(ctx, args[0], role)
				// The text is the token alone, so that a script can write
				// TOKEN=$(drydock token create NAME).
				return result{token, func(w io.Writer) { fmt.Fprintln(w, token.Secret) }}, err
			})
		},
	}

	cmd.Flags().StringVar(&role, "role", string(keeper.Viewer), "viewer or operator")
	return cmd
}

func (c *commandLine) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a token at once", Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				return confirmation(args[0], "revoked"), api.revokeToken(ctx, args[0])
			})
		},
	}
}
