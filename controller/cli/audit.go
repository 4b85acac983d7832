package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) auditCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "audit [APP]", Short: "Who changed what, when and from where; newest first", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			app := ""
			if len(args) > 0 {
				app = args[0]
			}
			out, err := api.audit(cmd.Context(), app, limit)
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				rows := [][]string{{"TIME", "WHO", "FROM", "WHAT", "APP", "BEFORE", "AFTER"}}
				for _, e := range out.Entries {
					rows = append(rows, []string{
						e.Time.Local().Format(time.DateTime), e.Actor.Name, dash(e.Remote), e.Action, dash(e.App),
						dash(oneLine(string(e.Before), 60)), dash(oneLine(string(e.After), 60)),
					})
				}
				table(w, rows...)
				if out.Next > 0 {
					fmt.Fprintf(w, "older ones are not shown; see --limit\n")
				}
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "how many, at most 1000")
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
