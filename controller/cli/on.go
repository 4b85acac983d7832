package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) onCommand() *cobra.Command {
	var app, mode, until string
	var duration time.Duration
	var wait waiting
	cmd := &cobra.Command{
		Use:   "on [MESSAGE]",
		Short: "Put an app into maintenance",
		Long: `Put an app into maintenance. The message is what people read.

On again changes the mode, the message and the end of what is on.`,
		Example: `  drydock on "Database migration"
  drydock on --app shop --mode read-only --for 2h "Moving house"
  drydock on --until 06:00 --wait "Upgrade"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			what := web.On{Mode: maintenance.Mode(mode), Message: strings.Join(args, " ")}
			if err := wait.check(cmd, args); err != nil {
				return err
			}
			if cmd.Flags().Changed("for") {
				if until != "" {
					return usagef("give either --for or --until")
				}
				if duration < time.Second {
					return usagef("--for %s: must be a second or more", duration)
				}
				what.Duration = int((duration + time.Second - 1) / time.Second)
			}
			if until != "" {
				var err error
				if what.Until, err = parseTime(until, time.Now()); err != nil {
					return usagef("--until %w", err)
				}
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			st, err := api.on(cmd.Context(), app, what)
			if err == nil {
				st, err = wait.for_(cmd.Context(), api, st, func(st keeper.AppStatus) error {
					if st.Mode == maintenance.Off {
						return fmt.Errorf("app %s was turned off while waiting", app)
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
	flags := cmd.Flags()
	flags.StringVar(&app, "app", maintenance.DefaultApp, "the app")
	flags.StringVar(&mode, "mode", string(maintenance.NoAccess), "no-access or read-only")
	flags.DurationVar(&duration, "for", 0, "how long, such as 90m or 2h; without an end it lasts until off")
	flags.StringVar(&until, "until", "", "until when: RFC 3339, or HH:MM of local time")
	wait.flags(cmd)
	return cmd
}

// waiting is --wait and --timeout.
type waiting struct {
	until   string
	timeout time.Duration
}

func (wt *waiting) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&wt.until, "wait", "", "wait until every proxy enforces it (enforced), or until nothing that could write is still running (active)")
	cmd.Flags().Lookup("wait").NoOptDefVal = "active"
	cmd.Flags().DurationVar(&wt.timeout, "timeout", time.Minute, "how long to wait")
}

func (wt *waiting) check(cmd *cobra.Command, args []string) error {
	switch {
	case wt.until != "" && wt.until != "enforced" && wt.until != "active":
		return usagef("--wait=%s: must be enforced or active", wt.until)
	case cmd.Flags().Changed("wait") && len(args) > 0 && (args[0] == "enforced" || args[0] == "active"):
		return usagef("write --wait=%s, with =", args[0])
	case wt.timeout < 0:
		return usagef("--timeout %s: must not be negative", wt.timeout)
	}
	return nil
}

// for_ waits for an app to stand as asked for. failed tells what makes waiting useless.
func (wt *waiting) for_(ctx context.Context, api *client, st keeper.AppStatus, failed func(keeper.AppStatus) error) (keeper.AppStatus, error) {
	if wt.until == "" {
		return st, nil
	}
	const poll = 25 * time.Second
	deadline := time.Now().Add(wt.timeout)
	for {
		if err := failed(st); err != nil {
			return st, err
		}
		if wt.until == "enforced" && st.Enforced || wt.until == "active" && (st.Phase == keeper.PhaseActive || st.Mode == maintenance.Off && st.Enforced) {
			return st, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			var why []string
			for _, w := range st.Waiting {
				why = append(why, strings.TrimSpace(w.Proxy+" "+w.Reason))
			}
			return st, &codeError{exitTimedOut, fmt.Errorf("app %s is %s, but not %s after %s: %s", st.App, st.Mode, wt.until, wt.timeout, strings.Join(why, "; "))}
		}
		var err error
		if st, err = api.appStatus(ctx, st.App, wt.until, min(poll, left.Round(time.Second))); err != nil {
			return st, err
		}
	}
}

// parseTime reads RFC 3339, or the next HH:MM of local time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	clock, err := time.Parse("15:04", s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: must be like 2026-11-21T22:00:00Z, or 22:00 of local time", s)
	}
	t := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !t.After(now) {
		t = time.Date(now.Year(), now.Month(), now.Day()+1, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	return t, nil
}
