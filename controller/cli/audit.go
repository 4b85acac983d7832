package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/web"
)

// auditCommand returns the command drydock audit, which shows the audit log. Like every command
// that calls the API, it passes a function to callAPI (cli.go), which calls the function with a
// client (client.go) and prints the result (output.go).
func (c *commandLine) auditCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "audit [APP]", Short: "Show who changed what, when and from where, newest first", Args: checkArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			app := ""
			if len(args) > 0 {
				app = args[0]
			}

			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				log, err := api.listAudit(ctx, app, limit)
				return result{log, func(w io.Writer) { printAudit(w, log) }}, err
			})
		},
	}

	cmd.Flags().IntVar(&limit, "limit", 20, "how many entries to show, at most 1000")
	return cmd
}

// printAudit prints a table of the entries. Before and After of an entry are JSON of any length
// with the parts that the change replaced and the parts that took their place.
func printAudit(w io.Writer, log web.Audit) {
	const maxChars = 60 // of a cell with JSON
	rows := [][]string{{"TIME", "WHO", "FROM", "WHAT", "APP", "BEFORE", "AFTER"}}
	for _, e := range log.Entries {
		rows = append(rows, []string{
			e.Time.Local().Format(time.DateTime), e.Actor.Name, orDash(e.Remote), e.Action, orDash(e.App),
			orDash(oneLine(string(e.Before), maxChars)), orDash(oneLine(string(e.After), maxChars)),
		})
	}
	writeTable(w, rows...)

	// Next is set if the log has entries that are older than those of this answer.
	if log.Next > 0 {
		fmt.Fprintln(w, "older entries are not shown; see --limit")
	}
}
