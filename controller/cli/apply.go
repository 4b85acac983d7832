package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/drydock-proxy/drydock/controller/web"
)

func (c *cli) applyCommand() *cobra.Command {
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make the apps what a file says, all at once or not at all",
		Long: `Make the apps what a file says, all at once or not at all. Apps that are not in the
file are deleted; what is on stays on.

The file is YAML or JSON: a list of apps under "apps". A page may be the path of an
HTML file, seen from the file; it is uploaded.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("say which file: apply -f FILE, or -f - for standard input")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			data, err := readFile(cmd, file)
			if err != nil {
				return err
			}
			var set map[string]any
			if err := readYAML(file, data, &set); err != nil {
				return err
			}
			apps, ok := set["apps"].([]any)
			if !ok {
				return usagef(`%s: has no list of apps: begin it with "apps:"`, file)
			}
			for i, app := range apps {
				if err := uploadPages(cmd, api, file, fmt.Sprintf("apps[%d].", i), app, dryRun); err != nil {
					return err
				}
			}
			body, err := json.Marshal(set)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			_, etag, err := api.apps(cmd.Context())
			if err != nil {
				return err
			}
			out, err := api.apply(cmd.Context(), etag, body, dryRun)
			if err != nil {
				return inFile(file, err)
			}
			return c.print(cmd, out, func(w io.Writer) { changes(w, out) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file, - for standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "tell what would change, and change nothing")
	return cmd
}

func changes(w io.Writer, out web.Applied) {
	if len(out.Changes) == 0 {
		fmt.Fprintln(w, "nothing to change")
		return
	}
	for _, change := range out.Changes {
		sign := "~"
		switch {
		case whole(change.After):
			sign = "+"
		case whole(change.Before):
			sign = "-"
		}
		fmt.Fprintf(w, "%s %s\n", sign, change.App)
		for _, side := range []struct {
			sign string
			json json.RawMessage
		}{{"-", change.Before}, {"+", change.After}} {
			if side.json == nil {
				continue
			}
			text, err := yaml.JSONToYAML(side.json)
			if err != nil {
				text = side.json
			}
			for line := range strings.Lines(string(text)) {
				fmt.Fprintf(w, "    %s %s", side.sign, line)
			}
		}
	}
	if out.DryRun {
		fmt.Fprintln(w, "nothing was changed: a dry run")
	} else {
		fmt.Fprintf(w, "applied as revision %d\n", out.Version.Revision)
	}
}

// whole tells whether one side of a change is all of an app: a name never changes.
func whole(side json.RawMessage) bool {
	var app struct{ Name *string }
	return json.Unmarshal(side, &app) == nil && app.Name != nil
}

// readSpec reads one app from a file. Its name may be left out.
func (c *cli) readSpec(cmd *cobra.Command, api *client, file, name string) (any, error) {
	data, err := readFile(cmd, file)
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := readYAML(file, data, &spec); err != nil {
		return nil, err
	}
	if spec == nil {
		return nil, usagef("%s: is empty", file)
	}
	if _, ok := spec["name"]; !ok {
		spec["name"] = name
	}
	return spec, uploadPages(cmd, api, file, "", spec, false)
}

func readFile(cmd *cobra.Command, file string) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(cmd.InOrStdin())
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return data, nil
}

// readYAML is strict about duplicate keys; what fields there are the controller knows.
func readYAML(file string, data []byte, out any) error {
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err == nil {
		err = json.Unmarshal(asJSON, out)
	}
	if err != nil {
		return usagef("%s: %w", file, err)
	}
	return nil
}

// uploadPages replaces pages that are given as files by their SHA-256. In a dry run
// nothing is uploaded.
func uploadPages(cmd *cobra.Command, api *client, file, at string, app any, dryRun bool) error {
	spec, _ := app.(map[string]any)
	pages, _ := spec["pages"].(map[string]any)
	for lang, v := range pages {
		page, ok := v.(string)
		if !ok || isSHA(page) {
			continue
		}
		path := page
		if !filepath.IsAbs(path) && file != "-" {
			path = filepath.Join(filepath.Dir(file), path)
		}
		html, err := os.ReadFile(path)
		if err != nil {
			return usagef("%s: %spages.%s: %w", file, at, lang, err)
		}
		sum := sha256.Sum256(html)
		sha := hex.EncodeToString(sum[:])
		if dryRun {
			pages[lang] = sha
			continue
		}
		if err := api.putPage(cmd.Context(), sha, html); err != nil {
			return inFile(file, fmt.Errorf("%spages.%s: %s: %w", at, lang, page, err))
		}
		pages[lang] = sha
	}
	return nil
}

func isSHA(s string) bool {
	_, err := hex.DecodeString(s)
	return len(s) == 64 && err == nil
}

// inFile says which file an answer about a field is about.
func inFile(file string, err error) error {
	var api *apiError
	if errors.As(err, &api) && len(api.Errors) > 0 {
		return fmt.Errorf("%s: %w", file, err)
	}
	return err
}
