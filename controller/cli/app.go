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

// appCommand returns the command drydock app, whose subcommands are about the definitions of single
// apps. Like every command that calls the API, each of them passes a function to callAPI (cli.go),
// which calls the function with a client (client.go) and prints the result (output.go).
func (c *commandLine) appCommand() *cobra.Command {
	return commandGroup("app", "Manage apps: parts of the traffic that go into maintenance together",
		c.appListCommand(), c.appShowCommand(), c.appSetCommand(), c.appDeleteCommand())
}

func (c *commandLine) appListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List apps, what they match, and what passes during maintenance", Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				set, _, err := api.listApps(ctx)
				return result{set, func(w io.Writer) {
					rows := [][]string{{"APP", "MATCHES", "PASS"}}
					for _, s := range set.Apps {
						rows = append(rows, []string{s.Name, describeMatch(s.Match), oneLine(describeBypass(s), 80)})
					}
					writeTable(w, rows...)
				}}, err
			})
		},
	}
}

// describeMatch returns which requests belong to an app, such as "shop.example.com /cart".
func describeMatch(m maintenance.Match) string {
	var parts []string
	for _, list := range []struct {
		prefix string // hosts and paths need none: only paths begin with a slash
		names  []string
	}{{"", m.Hosts}, {"", m.Paths}, {"route ", m.Routes}, {"cluster ", m.Clusters}} {
		if len(list.names) > 0 {
			parts = append(parts, list.prefix+strings.Join(list.names, ","))
		}
	}

	// Only the default app matches nothing by itself: it gets the requests of no other app.
	if len(parts) == 0 {
		return "everything else"
	}
	return strings.Join(parts, " ")
}

func (c *commandLine) appShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show APP", Short: "Print the definition of an app, as YAML", Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				spec, _, err := api.getApp(ctx, args[0])
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

// appSetFlags are the values of the flags of app set: either a file, or parts of a definition.
type appSetFlags struct {
	file       string
	match      maintenance.Match
	retryAfter time.Duration
}

func (c *commandLine) appSetCommand() *cobra.Command {
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
		Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(_ context.Context, api *client) (result, error) {
				return f.setApp(cmd, api, args[0])
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

// setApp creates or changes the app of that name.
func (f *appSetFlags) setApp(cmd *cobra.Command, api *client, name string) (result, error) {
	// An app that does not exist yet starts from an empty definition, and has no ETag.
	present, etag, err := api.getApp(cmd.Context(), name)
	if err != nil && !isNotFound(err) {
		return result{}, err
	}
	present.Name = name

	definition, err := f.newDefinition(cmd, api, &present)
	if err != nil {
		return result{}, err
	}

	verb := "changed"
	if etag == "" {
		verb = "created"
	}

	spec, err := api.putApp(cmd.Context(), name, etag, definition)
	return result{spec, func(w io.Writer) {
		fmt.Fprintf(w, "%s %s: matches %s\n", spec.Name, verb, describeMatch(spec.Match))
	}}, err
}

// newDefinition returns the new definition of an app, to be sent as JSON: either the one in the
// file or the present definition, spec, with the parts replaced for which there is a flag.
func (f *appSetFlags) newDefinition(cmd *cobra.Command, api *client, spec *maintenance.Spec) (any, error) {
	changed := false
	for flag, replace := range map[string]func(){
		"host":        func() { spec.Match.Hosts = f.match.Hosts },
		"path":        func() { spec.Match.Paths = f.match.Paths },
		"route":       func() { spec.Match.Routes = f.match.Routes },
		"cluster":     func() { spec.Match.Clusters = f.match.Clusters },
		"retry-after": func() { spec.RetryAfter = int(f.retryAfter / time.Second) },
	} {
		if cmd.Flags().Changed(flag) {
			changed = true
			replace()
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

// readDefinition reads the definition of an app from a file, and uploads the app's pages. The name
// of the app may be absent from the file.
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

	const noPrefix, dryRun = "", false // the app is the whole file
	return spec, file.uploadPages(cmd.Context(), api, noPrefix, spec, dryRun)
}

func (c *commandLine) appDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete APP", Short: "Delete an app that is off; the next best match handles its traffic", Args: checkArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				return confirmation(args[0], "deleted"), api.deleteApp(ctx, args[0])
			})
		},
	}
}
