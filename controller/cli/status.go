package cli

import (
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
		Short: "What is on and why, and which proxies enforce it",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				st, err := api.status(cmd.Context())
				if err != nil {
					return err
				}
				return c.print(cmd, st, func(w io.Writer) { overview(w, st, time.Now()) })
			}
			st, err := api.appStatus(cmd.Context(), args[0], "", 0)
			if err != nil {
				return err
			}
			spec, _, err := api.app(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(cmd, st, func(w io.Writer) {
				describe(w, st, time.Now(), []string{"  pass", passes(spec)})
			})
		},
	}
}

// overview is a line an app, those that are on first, and what is wrong.
func overview(w io.Writer, st web.Status, now time.Time) {
	rows := [][]string{{"APP", "MODE", "PHASE", "SINCE", "UNTIL", "PROXIES", "WHY"}}
	var off, notes [][]string
	told := map[keeper.WaitingFor]bool{}
	for _, a := range st.Apps {
		row := []string{a.App, string(a.Mode), string(a.Phase), "-", "-", enforcing(a.Proxies), oneLine(a.Message, 60)}
		if a.Mode == maintenance.Off {
			if a.Next != nil {
				row[6] = fmt.Sprintf("%s planned for %s", a.Next.Mode, moment(a.Next.Start, now))
			}
			off = append(off, row)
		} else {
			row[3], row[4] = moment(a.Since, now), end(a.Until, now)
			rows = append(rows, row)
		}
		for _, f := range a.Waiting {
			if !told[f] && f.Proxy != "" {
				told[f] = true
				notes = append(notes, []string{"  " + named(f), f.Reason})
			}
		}
	}
	table(w, append(rows, off...)...)
	switch p := st.Proxies; {
	case p.Known == 0:
		fmt.Fprintln(w, "\nNo proxy has spoken to this controller: nothing is enforced anywhere.")
	case len(notes) > 0:
		fmt.Fprintln(w, "\nNot as it should be:")
		table(w, notes...)
	}
}

// describe is all about one app.
func describe(w io.Writer, st keeper.AppStatus, now time.Time, more ...[]string) {
	if st.Mode == maintenance.Off {
		fmt.Fprintf(w, "%s is off\n", st.App)
	} else {
		fmt.Fprintf(w, "%s is in %s since %s, until %s\n", st.App, st.Mode, moment(st.Since, now), end(st.Until, now))
	}
	var rows [][]string
	for _, c := range st.Activations {
		by := string(c.Source)
		if c.Source == maintenance.SourceWindow {
			by += " " + c.ID
		}
		if c.Actor != "" {
			by += " by " + c.Actor
		}
		if c.Remote != "" {
			by += " from " + c.Remote
		}
		message := "(no message)"
		if c.Message != "" {
			message = `"` + oneLine(c.Message, 200) + `"`
		}
		rows = append(rows, []string{"  why", fmt.Sprintf("%s %s, %s", c.Mode, message, by)})
	}
	if st.Next != nil {
		rows = append(rows, []string{"  next", fmt.Sprintf("%s from %s until %s, window %s", st.Next.Mode, moment(st.Next.Start, now), moment(st.Next.End, now), st.Next.Window)})
	}
	rows = append(rows, []string{"  phase", string(st.Phase)})
	rows = append(rows, []string{"  proxies", fmt.Sprintf("%d of %d enforce it", st.Proxies.Enforcing, st.Proxies.Known)})
	for _, f := range st.Waiting {
		rows = append(rows, []string{"  waiting", strings.TrimSpace(named(f) + " " + f.Reason)})
	}
	table(w, append(rows, more...)...)
}

func named(f keeper.WaitingFor) string {
	if f.Node != "" && f.Node != f.Proxy {
		return fmt.Sprintf("%s (%s)", f.Proxy, f.Node)
	}
	return f.Proxy
}

func enforcing(p keeper.ProxyCount) string { return fmt.Sprintf("%d/%d", p.Enforcing, p.Known) }

// passes says who passes, without a list of thousands.
func passes(spec maintenance.Spec) string {
	var parts []string
	some := func(list []string, many string) {
		const shown = 8
		if len(list) > shown {
			parts = append(parts, fmt.Sprintf("%s and %d more %s", strings.Join(list[:shown], ", "), len(list)-shown, many))
		} else if len(list) > 0 {
			parts = append(parts, strings.Join(list, ", "))
		}
	}
	some(spec.Bypass.IPs, "addresses")
	var claims []string
	for _, r := range spec.Bypass.Claims {
		claim := "any token"
		if len(r.Claim) > 0 {
			claim = strings.Join(r.Claim, ".")
			if len(r.Values) > 0 {
				claim += fmt.Sprintf(" in %v", r.Values)
			}
		}
		claims = append(claims, fmt.Sprintf("%s of %s", claim, r.Issuer))
	}
	some(claims, "claims")
	some(spec.Bypass.Principals, "principals")
	for _, e := range spec.Exempt {
		parts = append(parts, strings.TrimSpace(strings.Join(e.Methods, ",")+" "+e.Path+e.Prefix))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, "; ")
}

func oneLine(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// moment is a time as people say it: the clock, the day where it is another one, and
// how far away it is.
func moment(t, now time.Time) string {
	t = t.In(now.Location())
	layout := "15:04:05"
	if t.Format(time.DateOnly) != now.Format(time.DateOnly) {
		layout = "2006-01-02 15:04"
	}
	away := t.Sub(now)
	if away < 0 {
		return fmt.Sprintf("%s (%s ago)", t.Format(layout), span(-away))
	}
	return fmt.Sprintf("%s (in %s)", t.Format(layout), span(away))
}

func end(t, now time.Time) string {
	if t.IsZero() {
		return "turned off"
	}
	return moment(t, now)
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
