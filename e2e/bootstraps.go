package e2e

import (
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"sigs.k8s.io/yaml"
)

// A Substitution names the ports and paths of a bootstrap in envoy/ that a run replaces. Nothing
// else of a bootstrap may change.
type Substitution struct {
	// Ports maps a port_value in the file to the address to use instead: "host:port", or ":port" to
	// keep the host. With port 0 Envoy chooses one.
	Ports map[int]string

	// Files maps a filename in the file to the path to use instead.
	Files map[string]string
}

// Bootstrap reads a bootstrap from envoy/ and returns it with the substitution applied, as JSON,
// which Envoy reads too. It returns an error if a port or a filename to replace is not in the file:
// the file and its caller no longer fit each other.
func Bootstrap(file string, sub Substitution) ([]byte, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(root, "envoy", file))
	if err != nil {
		return nil, err
	}
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}

	replaced, err := sub.apply(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for port := range sub.Ports {
		if name := fmt.Sprint("port ", port); !replaced[name] {
			return nil, fmt.Errorf("%s does not have the %s to replace", file, name)
		}
	}

	for path := range sub.Files {
		if name := "file " + path; !replaced[name] {
			return nil, fmt.Errorf("%s does not have the %s to replace", file, name)
		}
	}

	return json.Marshal(tree)
}

// apply replaces the ports and filenames of a parsed bootstrap in place. It returns which it found,
// such as "port 8080" and "file bin/drydock.wasm".
func (sub Substitution) apply(tree any) (replaced map[string]bool, err error) {
	replaced = map[string]bool{}
	for node := range Objects(tree) {
		if port, ok := node["port_value"].(float64); ok {
			if addr, ok := sub.Ports[int(port)]; ok {
				replaced[fmt.Sprint("port ", port)] = true
				if err := setAddress(node, addr); err != nil {
					return nil, fmt.Errorf("the address for port %v: %w", port, err)
				}
			}
		}

		if name, ok := node["filename"].(string); ok {
			if path, ok := sub.Files[name]; ok {
				replaced["file "+name] = true
				node["filename"] = path
			}
		}
	}

	return replaced, nil
}

// setAddress sets the port of a socket address and, if addr has one, its host.
func setAddress(node map[string]any, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}

	node["port_value"] = number
	if host != "" {
		node["address"] = host
	}
	return nil
}

// Objects returns an iterator over every object of a parsed bootstrap, an outer object before those
// in it. The caller may change the object that it gets.
func Objects(tree any) iter.Seq[map[string]any] {
	return func(yield func(map[string]any) bool) { eachObject(tree, yield) }
}

// eachObject calls yield for every object until it returns false, and reports whether it never did.
func eachObject(node any, yield func(map[string]any) bool) bool {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			if !eachObject(child, yield) {
				return false
			}
		}
	case map[string]any:
		if !yield(node) {
			return false
		}
		for _, child := range node {
			if !eachObject(child, yield) {
				return false
			}
		}
	}

	return true
}
