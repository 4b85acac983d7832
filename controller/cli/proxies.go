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

// proxiesCommand returns the command drydock proxies, which lists the proxies that report to the
// controller. Like every command that calls the API, it passes a function to callAPI (cli.go),
// which calls the function with a client (client.go) and prints the result (output.go).
func (c *commandLine) proxiesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxies",
		Short: "List the proxies, and the version that each enforces",
		Long: `List the proxies, and the version of the state that each enforces.

VMS       VMs that report, of those that are known: one for each worker of Envoy, and one
          for its main thread
REQUESTS  requests that the proxy let through and that are not answered yet
CLOCK     the proxy's clock minus the controller's`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				proxies, err := api.listProxies(ctx)
				return result{proxies, func(w io.Writer) { printProxies(w, proxies, time.Now()) }}, err
			})
		},
	}

	cmd.AddCommand(c.proxiesForgetCommand())
	return cmd
}

// printProxies prints a table of the proxies. The help of the command explains its columns.
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
			p.Node, p.ID, p.State, describeVersion(p.Version, proxies.Version), fmt.Sprintf("%d/%d", live, len(p.VMs)),
			fmt.Sprint(p.Requests), fmt.Sprintf("%+dms", p.SkewMS), formatDuration(now.Sub(p.SeenAt)) + " ago",
		})
	}
	writeTable(w, rows...)
}

// describeVersion describes a version that a proxy enforces by its distance from the newest version
// of the controller, in revisions. Revisions of different epochs cannot be compared: an epoch
// begins with a new store. A proxy is ahead if the file of the store was replaced by an older copy.
func describeVersion(v, newest maintenance.Version) string {
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

func (c *commandLine) proxiesForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget PROXY", Short: "Stop waiting for a proxy that is gone", Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				return confirmation(args[0], "forgotten"), api.forgetProxy(ctx, args[0])
			})
		},
	}
}
