package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) proxiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "proxies", Short: "List the proxies, and the version that each enforces", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				proxies, err := api.proxies(ctx)
				return result{proxies, func(w io.Writer) { printProxies(w, proxies, time.Now()) }}, err
			})
		},
	}

	cmd.AddCommand(c.proxiesForgetCommand())
	return cmd
}

func printProxies(w io.Writer, proxies web.Proxies, now time.Time) {
	if len(proxies.Proxies) == 0 {
		fmt.Fprintln(w, "No proxy has reported to this controller.")
		return
	}

	rows := [][]string{{"NODE", "PROXY", "STATE", "ENFORCES", "VMS", "REQUESTS", "CLOCK", "SEEN"}}
	for _, p := range proxies.Proxies {
		live := 0
		for _, vm := range p.VMs {
			if vm.State == "live" {
				live++
			}
		}

		rows = append(rows, []string{
			p.Node, p.ID, p.State, versionBeside(p.Version, proxies.Version), fmt.Sprintf("%d/%d", live, len(p.VMs)),
			fmt.Sprint(p.Requests), fmt.Sprintf("%+dms", p.SkewMS), rounded(now.Sub(p.SeenAt)) + " ago",
		})
	}
	table(w, rows...)
}

// versionBeside describes a version by its distance from the newest one of the controller.
func versionBeside(v, newest maintenance.Version) string {
	switch {
	case v == newest:
		return "newest"
	case v.Epoch != newest.Epoch:
		return "another epoch"
	case v.Revision > newest.Revision:
		return fmt.Sprintf("%d ahead", v.Revision-newest.Revision)
	}
	return fmt.Sprintf("%d behind", newest.Revision-v.Revision)
}

func (c *cli) proxiesForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget PROXY", Short: "Stop waiting for a proxy that is gone", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				return done(args[0], "forgotten"), api.forgetProxy(ctx, args[0])
			})
		},
	}
}
