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

// An appFile is a YAML or JSON file with the definition of one app, for app set -f, or of a set of
// apps, for apply -f. Its fields are not checked here: the controller checks them, and its errors
// name the field.
type appFile struct {
	path string // standardInput, or as the user gave it
	data []byte
}

// standardInput is the path that means standard input.
const standardInput = "-"

func readAppFile(path string, stdin io.Reader) (*appFile, error) {
	if path == standardInput {
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

// parse returns the object in the file. Duplicate keys are an error, and so is a file with
// something other than an object. The content of an empty file is nil.
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

// uploadPages stores the pages of one app of the file in the controller. The definition of an app
// has a field "pages", which names a page for each language. In the API, a page is named by the
// SHA-256 of its HTML. In a file it may also be the path of an HTML file, relative to the folder of
// f: uploadPages stores the content of such a file and puts its SHA-256 in the place of the path.
//
// app is the app's definition, as it was parsed. appPrefix is the path of its fields in the file,
// such as "apps[1].", for errors. A dry run replaces the paths too, but stores nothing.
func (f *appFile) uploadPages(ctx context.Context, api *client, appPrefix string, app any, dryRun bool) error {
	// A value of another type is left as it is: the controller refuses it, and says why. Reading a
	// nil map is fine.
	spec, _ := app.(map[string]any)
	pages, _ := spec["pages"].(map[string]any)

	for lang, value := range pages {
		page, ok := value.(string)
		if !ok || isSHA256(page) {
			continue
		}

		path := page
		if !filepath.IsAbs(path) && f.path != standardInput {
			path = filepath.Join(filepath.Dir(f.path), path)
		}
		html, err := os.ReadFile(path)
		if err != nil {
			return usagef("%s: %spages.%s: %w", f.path, appPrefix, lang, err)
		}

		sum := sha256.Sum256(html)
		sha := hex.EncodeToString(sum[:])
		if !dryRun {
			if err := api.putPage(ctx, sha, html); err != nil {
				return f.addFileName(fmt.Errorf("%spages.%s: %s: %w", appPrefix, lang, page, err))
			}
		}
		pages[lang] = sha
	}
	return nil
}

// isSHA256 reports whether s is a SHA-256 in hex.
func isSHA256(s string) bool {
	_, err := hex.DecodeString(s)
	return len(s) == 2*sha256.Size && err == nil
}

// addFileName puts the file's name before an error of the API that names invalid fields, because
// these fields are in the file. It returns any other error, and nil, as it is.
func (f *appFile) addFileName(err error) error {
	var fromAPI *apiError
	if errors.As(err, &fromAPI) && len(fromAPI.Errors) > 0 {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return err
}
