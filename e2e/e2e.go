// Package e2e runs Drydock as its users do: the real Envoy with a bootstrap from envoy/,
// the controller as a process of its own, the demo app behind it. `make run` (e2e/run)
// and the scenarios in this package's tests share what is here.
package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Root is the repository's root: the folder above the working directory that holds
// go.mod. Envoy runs there, because the paths in the bootstraps are relative to it.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the working directory: run this inside the repository")
		}
	}
}

// Binary is a program that `make build` makes.
func Binary(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run `make build` first", err)
	}
	return path, nil
}
