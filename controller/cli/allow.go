package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// allowCommand returns the command drydock allow, which lists or changes the allowlist of an app.
// Like every command that calls the API, it passes a function to callAPI (cli.go), which calls the
// function with a client (client.go) and prints the result (output.go).
func (c *commandLine) allowCommand() *cobra.Command {
	var app string
	var remove bool
	cmd := &cobra.Command{
		Use:   "allow [IP|CIDR…]",
		Short: "Add addresses to an app's allowlist, or list it",
		Long: `Add addresses and CIDRs to an app's allowlist: clients with these addresses bypass
maintenance. Without arguments, print the allowlist.`,
		Example: `  drydock allow 192.0.2.7 10.0.0.0/8
  drydock allow --app shop 2001:db8::/32
  drydock allow --remove 192.0.2.7`,
		RunE: func(cmd *cobra.Command, ips []string) error {
			if remove && len(ips) == 0 {
				return usagef("--remove: at least one address or CIDR must be given")
			}

			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				var list web.IPs
				var err error
				switch {
				case len(ips) == 0:
					list, err = api.listIPs(ctx, app)
				case remove:
					list, err = api.disallow(ctx, app, ips)
				default:
					list, err = api.allow(ctx, app, ips)
				}
				changed := len(ips) > 0
				return result{list, func(w io.Writer) { printAllowlist(w, app, list.IPs, changed) }}, err
			})
		},
	}

	cmd.Flags().StringVar(&app, "app", maintenance.DefaultApp, "app with the allowlist")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the addresses from the allowlist")
	return cmd
}

// printAllowlist prints the allowlist of an app or, after a change, only how long the list is.
func printAllowlist(w io.Writer, app string, ips []string, changed bool) {
	if changed {
		entries := "entries"
		if len(ips) == 1 {
			entries = "entry"
		}
		fmt.Fprintf(w, "%s: the allowlist has %d %s\n", app, len(ips), entries)
		return
	}

	for _, ip := range ips {
		fmt.Fprintln(w, ip)
	}
}
