package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
)

func (c *cli) auditCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "audit [APP]", Short: "Show who changed what, when and from where, newest first", Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			app := ""
			if len(args) > 0 {
				app = args[0]
			}

			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				log, err := api.audit(ctx, app, limit)
				return result{log, func(w io.Writer) { printAudit(w, log) }}, err
			})
		},
	}

	cmd.Flags().IntVar(&limit, "limit", 20, "how many entries to show, at most 1000")
	return cmd
}

func printAudit(w io.Writer, log web.Audit) {
	rows := [][]string{{"TIME", "WHO", "FROM", "WHAT", "APP", "BEFORE", "AFTER"}}
	for _, e := range log.Entries {
		rows = append(rows, []string{
			e.Time.Local().Format(time.DateTime), e.Actor.Name, orDash(e.Remote), e.Action, orDash(e.App),
			orDash(oneLine(string(e.Before), 60)), orDash(oneLine(string(e.After), 60)),
		})
	}
	table(w, rows...)

	if log.Next > 0 {
		fmt.Fprintln(w, "older entries are not shown; see --limit")
	}
}
