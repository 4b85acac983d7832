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

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [APP]",
		Short: "Show what is on and why, and how many proxies enforce it",
		Args:  arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				if len(args) == 0 {
					st, err := api.status(ctx)
					return result{st, func(w io.Writer) { printOverview(w, st, time.Now()) }}, err
				}

				st, err := api.appStatus(ctx, args[0], "", 0)
				if err != nil {
					return result{}, err
				}

				spec, _, err := api.app(ctx, args[0])
				return result{st, func(w io.Writer) {
					printStatus(w, st, time.Now(), []string{"  pass", passing(spec)})
				}}, err
			})
		},
	}
}

// statusResult is the result of commands that change an app's status.
func statusResult(st keeper.AppStatus) result {
	return result{st, func(w io.Writer) { printStatus(w, st, time.Now()) }}
}

// printOverview prints a line for each app, with those that are on first, and then the problems of
// proxies.
func printOverview(w io.Writer, st web.Status, now time.Time) {
	on := [][]string{{"APP", "MODE", "PHASE", "SINCE", "UNTIL", "PROXIES", "WHY"}}
	var off [][]string
	for _, a := range st.Apps {
		row := []string{a.App, string(a.Mode), string(a.Phase), "-", "-", fmt.Sprintf("%d/%d", a.Proxies.Enforcing, a.Proxies.Known), oneLine(a.Message, 60)}
		if a.Mode != maintenance.Off {
			row[3], row[4] = moment(a.Since, now), endOf(a.Until, now)
			on = append(on, row)
			continue
		}

		if a.Next != nil {
			row[6] = fmt.Sprintf("%s planned for %s", a.Next.Mode, moment(a.Next.Start, now))
		}
		off = append(off, row)
	}
	table(w, append(on, off...)...)

	problems := proxyProblems(st.Apps)
	switch {
	case st.Proxies.Known == 0:
		fmt.Fprintln(w, "\nNo proxy has reported to this controller: nothing is enforced anywhere.")
	case len(problems) > 0:
		fmt.Fprintln(w, "\nProblems:")
		table(w, problems...)
	}
}

// proxyProblems returns what apps wait for, once for each proxy and reason.
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

// printStatus prints all that is known of one app, and more rows after that.
func printStatus(w io.Writer, st keeper.AppStatus, now time.Time, more ...[]string) {
	if st.Mode == maintenance.Off {
		fmt.Fprintf(w, "%s is off\n", st.App)
	} else {
		fmt.Fprintf(w, "%s is in %s since %s, until %s\n", st.App, st.Mode, moment(st.Since, now), endOf(st.Until, now))
	}

	var rows [][]string
	for _, a := range st.Activations {
		message := "(no message)"
		if a.Message != "" {
			message = `"` + oneLine(a.Message, 200) + `"`
		}
		rows = append(rows, []string{"  why", fmt.Sprintf("%s %s, %s", a.Mode, message, origin(a))})
	}
	if next := st.Next; next != nil {
		rows = append(rows, []string{"  next", fmt.Sprintf("%s from %s until %s, window %s", next.Mode, moment(next.Start, now), moment(next.End, now), next.Window)})
	}

	rows = append(rows, []string{"  phase", string(st.Phase)})
	rows = append(rows, []string{"  proxies", fmt.Sprintf("%d of %d enforce it", st.Proxies.Enforcing, st.Proxies.Known)})
	for _, waiting := range st.Waiting {
		rows = append(rows, []string{"  waiting", strings.TrimSpace(proxyName(waiting) + " " + waiting.Reason)})
	}
	table(w, append(rows, more...)...)
}

// origin returns the source of an activation and who began it, such as
// "manual by alice from 192.0.2.7".
func origin(a keeper.ActivationStatus) string {
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

// proxyName returns a proxy's id, with its node where that says more.
func proxyName(w keeper.WaitingFor) string {
	if w.Node != "" && w.Node != w.Proxy {
		return fmt.Sprintf("%s (%s)", w.Proxy, w.Node)
	}
	return w.Proxy
}

// passing describes which clients and requests an app lets pass during maintenance. It shortens
// lists, which may have thousands of entries.
func passing(spec maintenance.Spec) string {
	var claims []string
	for _, rule := range spec.Bypass.Claims {
		claims = append(claims, claimText(rule))
	}

	var parts []string
	for _, kind := range []struct {
		entries []string
		plural  string
	}{{spec.Bypass.IPs, "addresses"}, {claims, "claims"}, {spec.Bypass.Principals, "principals"}} {
		if len(kind.entries) > 0 {
			parts = append(parts, firstOf(kind.entries, kind.plural))
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

func firstOf(entries []string, plural string) string {
	const most = 8
	if len(entries) > most {
		return fmt.Sprintf("%s and %d more %s", strings.Join(entries[:most], ", "), len(entries)-most, plural)
	}
	return strings.Join(entries, ", ")
}

func claimText(rule maintenance.ClaimRule) string {
	claim := "any token"
	if len(rule.Claim) > 0 {
		claim = strings.Join(rule.Claim, ".")
		if len(rule.Values) > 0 {
			claim += fmt.Sprintf(" in %v", rule.Values)
		}
	}
	return claim + " of " + rule.Issuer
}
