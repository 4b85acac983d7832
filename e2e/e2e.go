// Package e2e runs Drydock as its users do: a real Envoy with a bootstrap from envoy/ (Envoy's name
// for the configuration that it starts with), the controller as a process of its own, and an app
// behind Envoy. `make run` (e2e/run), the measurements (e2e/bench) and the scenarios in this
// package's tests start their processes with it.
//
// install.go finds an Envoy or installs one, bootstraps.go adapts a bootstrap to the ports of a
// run, envoy.go and controller.go start the two servers, process.go supervises any child process,
// and ports.go reserves ports.
//
// A scenario is a test against real processes. deployment_test.go starts a controller, an Envoy and
// an app for it, clients_test.go holds the clients of Envoy, and upstream_test.go an app that
// records what reaches it. Every other test file is named after the behaviour that its scenarios
// show.
package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Root returns the root of the repository: the nearest folder with a go.mod, from the working
// directory upwards. Envoy runs there, because the paths in the bootstraps are relative to it. A
// caller in e2e/graphql or e2e/frameworks, which have a go.mod of their own, must change to the
// root of the repository first.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}

	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}

		parent := filepath.Dir(dir)
		if parent == dir { // dir is the root of the file system
			return "", errors.New("no go.mod in the working directory or above it: run this inside the repository")
		}
		dir = parent
	}
}

// Binary returns the path of a program that `make build` puts into bin/. It returns an error if the
// program is not there.
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
