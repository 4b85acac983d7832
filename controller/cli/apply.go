package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/controller/web"
)

// applyCommand returns the command drydock apply, which replaces the definitions of all apps by
// those in a file. Like every command that calls the API, it passes a function to callAPI (cli.go),
// which calls the function with a client (client.go) and prints the result (output.go).
func (c *commandLine) applyCommand() *cobra.Command {
	var path string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Replace the definitions of all apps by those in a file",
		Long: `Replace the definitions of all apps by those in a file: all of them, or none if one is
invalid. Apps that are not in the file are deleted, and the app default loses its rules if it is
not in the file, with the addresses that drydock allow added. What is on stays on.

The file is YAML or JSON, with a list of apps under "apps". A page may be given as the
path of an HTML file, relative to the file with the apps; it is uploaded.`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef("no file is given: use apply -f FILE, or -f - for standard input")
			}
			return c.callAPI(cmd, func(ctx context.Context, api *client) (result, error) {
				file, err := readAppFile(path, cmd.InOrStdin())
				if err != nil {
					return result{}, err
				}

				applied, err := file.apply(ctx, api, dryRun)
				return result{applied, func(w io.Writer) { printApplied(w, applied) }}, err
			})
		},
	}

	cmd.Flags().StringVarP(&path, "file", "f", "", "YAML or JSON file, or - for standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would change, and change nothing")
	return cmd
}

// apply replaces the definitions of all apps by those in the file, and returns what changed. A dry
// run returns what would change.
func (f *appFile) apply(ctx context.Context, api *client, dryRun bool) (web.Applied, error) {
	set, err := f.parse()
	if err != nil {
		return web.Applied{}, err
	}
	apps, ok := set["apps"].([]any)
	if !ok {
		return web.Applied{}, usagef(`%s: must have a list of apps, which starts with "apps:"`, f.path)
	}

	for i, app := range apps {
		if err := f.uploadPages(ctx, api, fmt.Sprintf("apps[%d].", i), app, dryRun); err != nil {
			return web.Applied{}, err
		}
	}

	body, err := json.Marshal(set)
	if err != nil {
		return web.Applied{}, fmt.Errorf("%s: %w", f.path, err)
	}
	_, etag, err := api.listApps(ctx)
	if err != nil {
		return web.Applied{}, err
	}

	// With this ETag, the controller refuses the set if somebody changes an app in the meantime.
	applied, err := api.applyApps(ctx, etag, body, dryRun)
	return applied, f.addFileName(err)
}

func printApplied(w io.Writer, applied web.Applied) {
	for _, change := range applied.Changes {
		printChange(w, change)
	}

	switch {
	case len(applied.Changes) == 0:
		fmt.Fprintln(w, "nothing to change")
	case applied.DryRun:
		fmt.Fprintln(w, "dry run: nothing was changed")
	default:
		fmt.Fprintf(w, "applied as revision %d\n", applied.Version.Revision)
	}
}

// printChange prints the name of an app with a sign before it: + if the app was created, - if it
// was deleted, and ~ if it was changed. Below that it prints, as YAML, the parts of the definition
// that differ: as they were with -, and as they are now with +.
//
// change.Before and change.After hold these parts as JSON objects. They have the whole definition
// on one side, and nothing on the other, if the app was created or deleted.
func printChange(w io.Writer, change keeper.Change) {
	sign := "~"
	switch {
	case isWholeApp(change.After):
		sign = "+"
	case isWholeApp(change.Before):
		sign = "-"
	}
	fmt.Fprintf(w, "%s %s\n", sign, change.App)

	printSide(w, "-", change.Before)
	printSide(w, "+", change.After)
}

// printSide prints one side of a change, JSON that may be nil, with a sign before each line.
func printSide(w io.Writer, sign string, side json.RawMessage) {
	if side == nil {
		return
	}
	text, err := yaml.JSONToYAML(side)
	if err != nil {
		text = side // the JSON itself can be read too
	}

	for line := range strings.Lines(string(text)) {
		fmt.Fprintf(w, "    %s %s", sign, line)
	}
}

// isWholeApp reports whether a side of a change is the whole definition of an app, and not only the
// parts that differ. It tells them apart by the app's name: this is part of every definition, and
// never differs, because the name of an app cannot be changed.
func isWholeApp(side json.RawMessage) bool {
	var app struct{ Name *string }
	return json.Unmarshal(side, &app) == nil && app.Name != nil
}
