package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/web"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// statusCommand returns the command drydock status, which shows the status of all apps or of one.
// Like every command that calls the API, it passes a function to callAPI (cli.go), which calls the
// function with a client (client.go) and prints the result (output.go).
func (c *commandLine) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [APP]",
		Short: "Show what is on and why, and how many proxies enforce it",
		Args:  checkArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				if len(args) == 0 {
					st, err := api.getStatus(ctx)
					return result{st, func(w io.Writer) { printOverview(w, st, time.Now()) }}, err
				}

				return showAppStatus(ctx, api, args[0])
			})
		},
	}
}

// showAppStatus returns the status of an app. For people it adds who bypasses the maintenance,
// which is a part of the app's definition and not of its status.
func showAppStatus(ctx context.Context, api *client, app string) (result, error) {
	const noWait, noTimeout = "", 0
	st, err := api.getAppStatus(ctx, app, noWait, noTimeout)
	if err != nil {
		return result{}, err
	}

	spec, _, err := api.getApp(ctx, app)
	return result{st, func(w io.Writer) {
		printStatus(w, st, time.Now(), []string{"  pass", describeBypass(spec)})
	}}, err
}

// statusResult is the result of commands that change an app's status.
func statusResult(st keeper.AppStatus) result {
	return result{st, func(w io.Writer) { printStatus(w, st, time.Now()) }}
}

// printOverview prints a line for each app, with the apps that are on before those that are off,
// and then the problems of proxies.
func printOverview(w io.Writer, st web.Status, now time.Time) {
	header := []string{"APP", "MODE", "PHASE", "SINCE", "UNTIL", "PROXIES", "WHY"}
	var on, off [][]string
	for _, a := range st.Apps {
		since, until, why := "-", "-", ""
		switch {
		case a.Mode != maintenance.Off:
			since, until, why = formatTime(a.Since, now), formatEnd(a.Until, now), oneLine(a.Message, 60)
		case a.Next != nil:
			why = fmt.Sprintf("%s planned for %s", a.Next.Mode, formatTime(a.Next.Start, now))
		}

		proxies := fmt.Sprintf("%d/%d", a.Proxies.Enforcing, a.Proxies.Known)
		row := []string{a.App, string(a.Mode), string(a.Phase), since, until, proxies, why}
		if a.Mode != maintenance.Off {
			on = append(on, row)
		} else {
			off = append(off, row)
		}
	}
	writeTable(w, slices.Concat([][]string{header}, on, off)...)

	problems := proxyProblems(st.Apps)
	switch {
	case st.Proxies.Known == 0:
		fmt.Fprintln(w, "\nNo proxy has reported to this controller: nothing is enforced anywhere.")
	case len(problems) > 0:
		fmt.Fprintln(w, "\nProblems:")
		writeTable(w, problems...)
	}
}

// proxyProblems returns a row for each proxy and reason that keeps an app from being enforced or
// active everywhere. Several apps usually wait for the same proxy, which is listed once. Reasons
// that are not about a certain proxy are left out.
func proxyProblems(apps []keeper.AppStatus) (rows [][]string) {
	listed := map[keeper.WaitingFor]bool{}
	for _, a := range apps {
		for _, waiting := range a.Waiting {
			if waiting.Proxy != "" && !listed[waiting] {
				listed[waiting] = true
				rows = append(rows, []string{"  " + proxyName(waiting), waiting.Reason})
			}
		}
	}
	return rows
}

// printStatus prints all that is in the status of one app: a sentence, and below it a table of
// names and values, to which moreRows are added.
func printStatus(w io.Writer, st keeper.AppStatus, now time.Time, moreRows ...[]string) {
	if st.Mode == maintenance.Off {
		fmt.Fprintf(w, "%s is off\n", st.App)
	} else {
		fmt.Fprintf(w, "%s is in %s since %s, until %s\n", st.App, st.Mode, formatTime(st.Since, now), formatEnd(st.Until, now))
	}

	var rows [][]string
	for _, a := range st.Activations {
		message := "(no message)"
		if a.Message != "" {
			message = `"` + oneLine(a.Message, 200) + `"`
		}
		rows = append(rows, []string{"  why", fmt.Sprintf("%s %s, %s", a.Mode, message, describeOrigin(a))})
	}
	if next := st.Next; next != nil {
		window := fmt.Sprintf("%s from %s until %s, window %s",
			next.Mode, formatTime(next.Start, now), formatTime(next.End, now), next.Window)
		rows = append(rows, []string{"  next", window})
	}

	rows = append(rows, []string{"  phase", string(st.Phase)})
	rows = append(rows, []string{"  proxies", fmt.Sprintf("%d of %d enforce it", st.Proxies.Enforcing, st.Proxies.Known)})
	for _, waiting := range st.Waiting {
		rows = append(rows, []string{"  waiting", strings.TrimSpace(proxyName(waiting) + " " + waiting.Reason)})
	}
	writeTable(w, append(rows, moreRows...)...)
}

// describeOrigin returns the source of an activation, the name of the token with which somebody
// began it, and the address of that client, such as "manual by alice from 192.0.2.7".
func describeOrigin(a keeper.ActivationStatus) string {
	text := string(a.Source)
	if a.Source == maintenance.SourceWindow {
		text += " " + a.ID
	}

	if a.Actor != "" {
		text += " by " + a.Actor
	}
	if a.Remote != "" {
		text += " from " + a.Remote
	}
	return text
}

// proxyName returns the id of a proxy, and in parentheses the name of its node if that differs. It
// is empty for a reason that is not about a certain proxy.
func proxyName(w keeper.WaitingFor) string {
	if w.Node != "" && w.Node != w.Proxy {
		return fmt.Sprintf("%s (%s)", w.Proxy, w.Node)
	}
	return w.Proxy
}

// describeBypass describes who bypasses the maintenance of an app, and which requests are exempt
// from it. It shortens the lists of clients, which may have thousands of entries.
func describeBypass(spec maintenance.Spec) string {
	var parts []string
	for _, kind := range spec.Bypass.Kinds() {
		if len(kind.Entries) > 0 {
			parts = append(parts, shortenList(kind.Entries, kind.Plural))
		}
	}

	for _, e := range spec.Exempt {
		parts = append(parts, strings.TrimSpace(strings.Join(e.Methods, ",")+" "+e.Path+e.Prefix))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, "; ")
}

// shortenList joins the entries of a list. It only counts those after the first few, and calls them
// by the plural, as in "a, b and 2 more claims".
func shortenList(entries []string, plural string) string {
	const shown = 8
	if len(entries) > shown {
		return fmt.Sprintf("%s and %d more %s", strings.Join(entries[:shown], ", "), len(entries)-shown, plural)
	}
	return strings.Join(entries, ", ")
}
