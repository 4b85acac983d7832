// Package e2e runs Drydock as its users do: a real Envoy with a bootstrap from envoy/, the
// controller as a process of its own, and an app behind them. `make run` (e2e/run), the
// measurements (e2e/bench) and the scenarios in this package's tests start their processes with it.
//
// install.go finds an Envoy or installs one, bootstraps.go adapts a bootstrap to the ports of a
// run, envoy.go and controller.go start the two servers, process.go supervises any child process,
// and ports.go reserves ports. In the tests, deployment_test.go puts these together,
// clients_test.go holds the clients and upstream_test.go an app that records what reaches it; every
// other file is named after the behaviour that its scenarios show.
package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Root returns the root of the repository: the nearest folder with a go.mod, from the working
// directory upwards. Envoy runs there, because the paths in the bootstraps are relative to it.
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
			return "", fmt.Errorf("no go.mod in the working directory or above it: run this inside the repository")
		}
	}
}

// Binary returns the path of a program that `make build` puts into bin/, or an error if it is not
// there.
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
