package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) offCommand() *cobra.Command {
	var wait waiting
	cmd := &cobra.Command{
		Use:   "off [APP]",
		Short: "End an app's maintenance",
		Long: `End an app's maintenance: what was turned on, and the running occurrence of a window.

While a file or a Kubernetes resource holds the app nothing is ended, and the exit code is 5.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			app := appOf(args)
			if err := wait.check(cmd, args); err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			st, err := api.off(cmd.Context(), app)
			if err == nil {
				st, err = wait.for_(cmd.Context(), api, st, func(st keeper.AppStatus) error {
					if st.Mode != maintenance.Off {
						return fmt.Errorf("app %s was turned on again while waiting", app)
					}
					return nil
				})
			}
			if err != nil {
				return err
			}
			return c.print(cmd, st, func(w io.Writer) { describe(w, st, time.Now()) })
		},
	}
	wait.flags(cmd)
	return cmd
}

// appOf is the app that a command names, or the default one.
func appOf(args []string) string {
	if len(args) == 0 {
		return maintenance.DefaultApp
	}
	return args[0]
}
