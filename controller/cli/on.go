package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// onFlags are the values of the flags of the command on.
type onFlags struct {
	app, mode string
	until     string        // --until, as given
	duration  time.Duration // --for
	wait      waitFlags
}

// onCommand returns the command drydock on, which puts an app into maintenance. Like every command
// that calls the API, it passes a function to callAPI (cli.go), which calls the function with a
// client (client.go) and prints the result (output.go).
func (c *commandLine) onCommand() *cobra.Command {
	var f onFlags
	cmd := &cobra.Command{
		Use:   "on [MESSAGE]",
		Short: "Put an app into maintenance",
		Long: `Put an app into maintenance: the default app, unless --app names another one. MESSAGE is
shown to users.

If the app is on already, its mode, message and end are replaced.`,
		Example: `  drydock on "Database migration"
  drydock on --app shop --mode read-only --for 2h "Moving disks"
  drydock on --until 06:00 --wait "Upgrade"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			activation, err := f.activation(cmd, args)
			if err != nil {
				return err
			}

			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				st, err := api.turnOn(ctx, f.app, activation)
				if err == nil {
					st, err = f.wait.await(ctx, api, st, turnedOn)
				}
				return statusResult(st), err
			})
		},
	}

	flags := cmd.Flags()
	flags.StringVar(&f.app, "app", maintenance.DefaultApp, "app to put into maintenance")
	flags.StringVar(&f.mode, "mode", string(maintenance.NoAccess), maintenance.ModeList())
	flags.DurationVar(&f.duration, "for", 0, "how long, such as 90m or 2h (default: until turned off)")
	flags.StringVar(&f.until, "until", "", "when it ends: RFC 3339, or HH:MM in local time")
	f.wait.register(cmd)
	return cmd
}

// activation returns the request to the API that the flags ask for. The arguments of the command
// are the words of the message.
func (f *onFlags) activation(cmd *cobra.Command, args []string) (on web.On, err error) {
	on = web.On{Mode: maintenance.Mode(f.mode), Message: strings.Join(args, " ")}
	if err := f.wait.check(cmd, args); err != nil {
		return on, err
	}

	if cmd.Flags().Changed("for") {
		if f.until != "" {
			return on, usagef("use either --for or --until, not both")
		}
		if f.duration < time.Second {
			return on, usagef("--for %s: must be at least a second", f.duration)
		}
		// The API takes whole seconds. Round up, so that maintenance does not end too early.
		on.Duration = int((f.duration + time.Second - 1) / time.Second)
	}

	if f.until != "" {
		if on.Until, err = parseTime(f.until, time.Now()); err != nil {
			return on, usagef("--until %w", err)
		}
	}
	return on, nil
}
