package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// An appFile is a YAML or JSON file with one app or with a set of apps. Its fields are not checked
// here, because the controller does that and names the field.
type appFile struct {
	path string // "-" for standard input
	data []byte
}

func readAppFile(path string, stdin io.Reader) (*appFile, error) {
	if path == "-" {
		data, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return &appFile{path, data}, nil
	}

	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return &appFile{path, data}, nil
}

// parse returns the file's content. Duplicate keys are an error.
func (f *appFile) parse() (content map[string]any, err error) {
	asJSON, err := yaml.YAMLToJSONStrict(f.data)
	if err == nil {
		err = json.Unmarshal(asJSON, &content)
	}
	if err != nil {
		return nil, usagef("%s: %w", f.path, err)
	}
	return content, nil
}

// uploadPages stores the pages of an app that are given as paths of HTML files, relative to the
// app's file, and replaces the paths by the SHA-256 of the pages. In a dry run nothing is stored.
// field is the field of the app in the file, with a dot at its end, for errors.
func (f *appFile) uploadPages(ctx context.Context, api *client, field string, app any, dryRun bool) error {
	spec, _ := app.(map[string]any)
	pages, _ := spec["pages"].(map[string]any)
	for lang, v := range pages {
		page, ok := v.(string)
		if !ok || isSHA256(page) {
			continue
		}

		path := page
		if !filepath.IsAbs(path) && f.path != "-" {
			path = filepath.Join(filepath.Dir(f.path), path)
		}
		html, err := os.ReadFile(path)
		if err != nil {
			return usagef("%s: %spages.%s: %w", f.path, field, lang, err)
		}

		sum := sha256.Sum256(html)
		sha := hex.EncodeToString(sum[:])
		if !dryRun {
			if err := api.putPage(ctx, sha, html); err != nil {
				return f.named(fmt.Errorf("%spages.%s: %s: %w", field, lang, page, err))
			}
		}
		pages[lang] = sha
	}
	return nil
}

func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return len(s) == 2*sha256.Size && err == nil
}

// named adds the file's name to an error of the API that names fields.
func (f *appFile) named(err error) error {
	var api *apiError
	if errors.As(err, &api) && len(api.Errors) > 0 {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return err
}
