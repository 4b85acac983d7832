package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) proxiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "proxies", Short: "Which proxies there are, and what they enforce", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			out, err := api.proxies(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				if len(out.Proxies) == 0 {
					fmt.Fprintln(w, "No proxy has spoken to this controller.")
					return
				}
				now := time.Now()
				rows := [][]string{{"NODE", "PROXY", "STATE", "ENFORCES", "VMS", "REQUESTS", "CLOCK", "SEEN"}}
				for _, p := range out.Proxies {
					live := 0
					for _, vm := range p.VMs {
						if vm.State == "live" {
							live++
						}
					}
					rows = append(rows, []string{
						p.Node, p.ID, p.State, enforces(p.Version, out.Version), fmt.Sprintf("%d/%d", live, len(p.VMs)),
						fmt.Sprint(p.Requests), fmt.Sprintf("%+dms", p.SkewMS), span(now.Sub(p.SeenAt)) + " ago",
					})
				}
				table(w, rows...)
			})
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "forget PROXY", Short: "Wait no longer for a proxy that is gone", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if err := api.forget(cmd.Context(), args[0]); err != nil {
				return err
			}
			return c.print(cmd, map[string]string{"forgotten": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s forgotten\n", args[0]) })
		},
	})
	return cmd
}

// enforces is a version beside the newest one.
func enforces(v, newest maintenance.Version) string {
	switch {
	case v == newest:
		return "newest"
	case v.Epoch != newest.Epoch:
		return "another store's"
	case v.Revision > newest.Revision:
		return "newer than ours"
	}
	return fmt.Sprintf("%d behind", newest.Revision-v.Revision)
}
