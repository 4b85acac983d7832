package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

func (c *cli) appCommand() *cobra.Command {
	return group("app", "Manage apps: parts of the traffic that go into maintenance together",
		c.appListCommand(), c.appShowCommand(), c.appSetCommand(), c.appDeleteCommand())
}

func (c *cli) appListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List apps, what they match, and what passes during maintenance", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				set, _, err := api.apps(ctx)
				return result{set, func(w io.Writer) {
					rows := [][]string{{"APP", "MATCHES", "PASS"}}
					for _, s := range set.Apps {
						rows = append(rows, []string{s.Name, matching(s.Match), oneLine(passing(s), 80)})
					}
					table(w, rows...)
				}}, err
			})
		},
	}
}

func matching(m maintenance.Match) string {
	var parts []string
	for _, list := range []struct {
		kind  string
		names []string
	}{{"", m.Hosts}, {"", m.Paths}, {"route ", m.Routes}, {"cluster ", m.Clusters}} {
		if len(list.names) > 0 {
			parts = append(parts, list.kind+strings.Join(list.names, ","))
		}
	}

	if len(parts) == 0 {
		return "everything else"
	}
	return strings.Join(parts, " ")
}

func (c *cli) appShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show APP", Short: "Print the definition of an app, as YAML", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				spec, _, err := api.app(ctx, args[0])
				if err != nil {
					return result{}, err
				}

				text, err := yaml.Marshal(spec)
				if err != nil {
					return result{}, fmt.Errorf("writing YAML: %w", err)
				}
				return result{spec, func(w io.Writer) { w.Write(text) }}, nil
			})
		},
	}
}

type appSetFlags struct {
	file       string
	match      maintenance.Match
	retryAfter time.Duration
}

func (c *cli) appSetCommand() *cobra.Command {
	var f appSetFlags
	cmd := &cobra.Command{
		Use:   "set APP",
		Short: "Create an app, or change what it matches",
		Long: `Create an app, or change what it matches. Each flag replaces one part of the definition,
and parts without a flag stay as they are. With -f, the whole definition is taken from a
file, in the format that app show prints.`,
		Example: `  drydock app set shop --host shop.example.com --host "*.shop.example.com"
  drydock app set api --path /api --retry-after 10m
  drydock app set shop -f shop.yaml`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				spec, etag, err := api.app(ctx, args[0])
				if err != nil && !isNotFound(err) {
					return result{}, err
				}
				spec.Name = args[0]

				body, err := f.definition(cmd, api, &spec)
				if err != nil {
					return result{}, err
				}

				verb := "changed"
				if etag == "" {
					verb = "created"
				}

				out, err := api.putApp(ctx, args[0], etag, body)
				return result{out, func(w io.Writer) { fmt.Fprintf(w, "%s %s: matches %s\n", out.Name, verb, matching(out.Match)) }}, err
			})
		},
	}

	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "YAML or JSON file with the definition, or - for standard input")
	flags.StringSliceVar(&f.match.Hosts, "host", nil, "host name, or *.name for all names below it; may be repeated")
	flags.StringSliceVar(&f.match.Paths, "path", nil, "path prefix; may be repeated")
	flags.StringSliceVar(&f.match.Routes, "route", nil, "name of an Envoy route; may be repeated")
	flags.StringSliceVar(&f.match.Clusters, "cluster", nil, "name of an Envoy cluster; may be repeated")
	flags.DurationVar(&f.retryAfter, "retry-after", 0, "Retry-After that clients get when no end is known")
	return cmd
}

// definition returns the new definition of an app: the one in the file, or the present one with
// what the flags change.
func (f *appSetFlags) definition(cmd *cobra.Command, api *client, spec *maintenance.Spec) (any, error) {
	changed := false
	for flag, set := range map[string]func(){
		"host":        func() { spec.Match.Hosts = f.match.Hosts },
		"path":        func() { spec.Match.Paths = f.match.Paths },
		"route":       func() { spec.Match.Routes = f.match.Routes },
		"cluster":     func() { spec.Match.Clusters = f.match.Clusters },
		"retry-after": func() { spec.RetryAfter = int(f.retryAfter / time.Second) },
	} {
		if cmd.Flags().Changed(flag) {
			changed = true
			set()
		}
	}

	switch {
	case f.file != "" && changed:
		return nil, usagef("use either -f or other flags, not both")
	case f.file != "":
		return readDefinition(cmd, api, f.file, spec.Name)
	case !changed:
		return nil, usagef("nothing is given to set: use --host, --path or another flag, or a file with -f")
	}
	return spec, nil
}

// readDefinition reads the definition of an app from a file, in which its name may be absent.
func readDefinition(cmd *cobra.Command, api *client, path, name string) (any, error) {
	file, err := readAppFile(path, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	spec, err := file.parse()
	if err != nil {
		return nil, err
	}

	if spec == nil {
		return nil, usagef("%s: is empty", path)
	}

	if _, ok := spec["name"]; !ok {
		spec["name"] = name
	}
	return spec, file.uploadPages(cmd.Context(), api, "", spec, false)
}

func (c *cli) appDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete APP", Short: "Delete an app that is off; the next best match handles its traffic", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, func(ctx context.Context, api *client) (result, error) {
				return done(args[0], "deleted"), api.deleteApp(ctx, args[0])
			})
		},
	}
}
