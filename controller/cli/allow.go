package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) allowCommand() *cobra.Command {
	var app string
	var remove bool
	cmd := &cobra.Command{
		Use:   "allow [IP|CIDR…]",
		Short: "Let addresses pass during maintenance; without any, list them",
		Example: `  drydock allow 192.0.2.7 10.0.0.0/8
  drydock allow --app shop 2001:db8::/32
  drydock allow --remove 192.0.2.7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if remove && len(args) == 0 {
				return usagef("--remove: say which addresses")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			var out web.IPs
			switch {
			case len(args) == 0:
				out, err = api.ips(cmd.Context(), app)
			case remove:
				out, err = api.disallow(cmd.Context(), app, args)
			default:
				out, err = api.allow(cmd.Context(), app, args)
			}
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				if len(args) > 0 {
					fmt.Fprintf(w, "%s: %d addresses and CIDRs pass\n", app, len(out.IPs))
					return
				}
				for _, ip := range out.IPs {
					fmt.Fprintln(w, ip)
				}
			})
		},
	}
	cmd.Flags().StringVar(&app, "app", maintenance.DefaultApp, "the app")
	cmd.Flags().BoolVar(&remove, "remove", false, "let them pass no longer")
	return cmd
}
