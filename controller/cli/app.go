package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) appCommand() *cobra.Command {
	return group("app", "Apps: which traffic is closed together", c.appList(), c.appShow(), c.appSet(), c.appDelete())
}

func (c *cli) appList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List apps and what they match", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			set, _, err := api.apps(cmd.Context())
			if err != nil {
				return err
			}
			return c.print(cmd, set, func(w io.Writer) {
				rows := [][]string{{"APP", "MATCHES", "PASS"}}
				for _, s := range set.Apps {
					rows = append(rows, []string{s.Name, matches(s.Match), oneLine(passes(s), 80)})
				}
				table(w, rows...)
			})
		},
	}
}

func matches(m maintenance.Match) string {
	var parts []string
	for _, list := range []struct {
		what  string
		names []string
	}{{"", m.Hosts}, {"", m.Paths}, {"route ", m.Routes}, {"cluster ", m.Clusters}} {
		if len(list.names) > 0 {
			parts = append(parts, list.what+strings.Join(list.names, ","))
		}
	}
	if len(parts) == 0 {
		return "everything else"
	}
	return strings.Join(parts, " ")
}

func (c *cli) appShow() *cobra.Command {
	return &cobra.Command{
		Use: "show APP", Short: "Show what is written about an app, as YAML", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			spec, _, err := api.app(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			text, err := yaml.Marshal(spec)
			if err != nil {
				return fmt.Errorf("writing YAML: %w", err)
			}
			return c.print(cmd, spec, func(w io.Writer) { w.Write(text) })
		},
	}
}

func (c *cli) appSet() *cobra.Command {
	var file string
	var match maintenance.Match
	var retryAfter time.Duration
	cmd := &cobra.Command{
		Use:   "set APP",
		Short: "Create an app, or change what it matches",
		Long: `Create an app, or change what it matches. Each flag replaces one list, and what no
flag names stays. With -f everything is taken from a file, as app show prints it.`,
		Example: `  drydock app set shop --host shop.example.com --host "*.shop.example.com"
  drydock app set api --path /api --retry-after 10m
  drydock app set shop -f shop.yaml`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			spec, etag, err := api.app(cmd.Context(), args[0])
			if err != nil && !isNotFound(err) {
				return err
			}
			spec.Name = args[0]
			changed := false
			for flag, set := range map[string]func(){
				"host":        func() { spec.Match.Hosts = match.Hosts },
				"path":        func() { spec.Match.Paths = match.Paths },
				"route":       func() { spec.Match.Routes = match.Routes },
				"cluster":     func() { spec.Match.Clusters = match.Clusters },
				"retry-after": func() { spec.RetryAfter = int(retryAfter / time.Second) },
			} {
				if cmd.Flags().Changed(flag) {
					changed = true
					set()
				}
			}
			var body any = &spec
			switch {
			case file != "" && changed:
				return usagef("give either a file with -f, or flags")
			case file != "":
				if body, err = c.readSpec(cmd, api, file, args[0]); err != nil {
					return err
				}
			case !changed:
				return usagef("say what the app matches, with --host or --path, or give a file with -f")
			}
			out, err := api.putApp(cmd.Context(), args[0], etag, body)
			if err != nil {
				return err
			}
			return c.print(cmd, out, func(w io.Writer) {
				verb := "changed"
				if etag == "" {
					verb = "created"
				}
				fmt.Fprintf(w, "%s %s: matches %s\n", out.Name, verb, matches(out.Match))
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "file", "f", "", "YAML or JSON file with the app, - for standard input")
	flags.StringSliceVar(&match.Hosts, "host", nil, "host name, or *.name for every name below it; may be repeated")
	flags.StringSliceVar(&match.Paths, "path", nil, "path prefix; may be repeated")
	flags.StringSliceVar(&match.Routes, "route", nil, "Envoy route name; may be repeated")
	flags.StringSliceVar(&match.Clusters, "cluster", nil, "Envoy cluster name; may be repeated")
	flags.DurationVar(&retryAfter, "retry-after", 0, "what clients are told when no end is known")
	return cmd
}

func (c *cli) appDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete APP", Short: "Delete an app that is off; its traffic falls to the next best match", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if err := api.deleteApp(cmd.Context(), args[0], always); err != nil {
				return err
			}
			return c.print(cmd, map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "%s deleted\n", args[0]) })
		},
	}
}
