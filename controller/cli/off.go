package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// offCommand returns the command drydock off, which ends the maintenance of an app. Like every
// command that calls the API, it passes a function to callAPI (cli.go), which calls the function
// with a client (client.go) and prints the result (output.go).
func (c *commandLine) offCommand() *cobra.Command {
	var wait waitFlags
	cmd := &cobra.Command{
		Use:   "off [APP]",
		Short: "End an app's maintenance",
		Long: `End an app's maintenance: its manual activation, and the running occurrences of its
windows.`,
		Args: checkArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wait.check(cmd, args); err != nil {
				return err
			}

			app := maintenance.DefaultApp
			if len(args) > 0 {
				app = args[0]
			}

			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				st, err := api.turnOff(ctx, app)
				if err == nil {
					st, err = wait.await(ctx, api, st, turnedOff)
				}
				return statusResult(st), err
			})
		},
	}

	wait.register(cmd)
	return cmd
}
