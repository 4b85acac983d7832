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

// A bootstrap is the configuration with which Envoy starts. The folder envoy/ has bootstraps for
// users to copy from, in YAML. Tests and rigs run these same files, with other ports, so that what
// they show holds for what users copy.

// Substitution names the ports and paths that a run replaces in a bootstrap. [Bootstrap] changes
// nothing else.
type Substitution struct {
	// Ports maps a port_value of the bootstrap to the address to use instead: "host:port", or
	// ":port" to keep the host. With port 0, Envoy chooses a free port.
	Ports map[int]string

	// Files maps a filename of the bootstrap to the path to use instead.
	Files map[string]string
}

// Bootstrap reads a bootstrap from envoy/ and returns it with the substitution applied, as JSON,
// which Envoy reads too. It returns an error if a port or a filename to replace is not in the file,
// since the file and its caller then no longer fit each other.
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
		if !replaced[portName(port)] {
			return nil, fmt.Errorf("%s does not have the %s to replace", file, portName(port))
		}
	}

	for path := range sub.Files {
		if !replaced[fileName(path)] {
			return nil, fmt.Errorf("%s does not have the %s to replace", file, fileName(path))
		}
	}

	return json.Marshal(tree)
}

// portName and fileName return the keys under which apply reports what it has replaced. Errors name
// a port or a filename in the same way.
func portName(port int) string    { return fmt.Sprint("port ", port) }
func fileName(path string) string { return "file " + path }

// apply replaces the ports and filenames of a parsed bootstrap in place. It returns the names of
// those that it has found and replaced.
func (sub Substitution) apply(tree any) (replaced map[string]bool, err error) {
	replaced = map[string]bool{}
	for object := range Objects(tree) {
		// The YAML parser returns every number as a float64. Only socket addresses have the key
		// port_value, and only data sources (code, keys) have the key filename.
		if number, ok := object["port_value"].(float64); ok {
			port := int(number)
			if addr, ok := sub.Ports[port]; ok {
				replaced[portName(port)] = true
				if err := setAddress(object, addr); err != nil {
					return nil, fmt.Errorf("the address for port %d: %w", port, err)
				}
			}
		}

		if path, ok := object["filename"].(string); ok {
			if instead, ok := sub.Files[path]; ok {
				replaced[fileName(path)] = true
				object["filename"] = instead
			}
		}
	}

	return replaced, nil
}

// setAddress sets the port of a socket address to that of addr and, unless addr is ":port", also
// its host.
func setAddress(socketAddress map[string]any, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}

	socketAddress["port_value"] = number
	if host != "" {
		socketAddress["address"] = host
	}
	return nil
}

// Objects returns an iterator over every JSON object (a map) of a parsed bootstrap, an outer object
// before the objects in it, so that a caller reaches a setting without its whole path. The caller
// may change each object when it comes: what is in the object then is what the iterator goes
// through next.
func Objects(tree any) iter.Seq[map[string]any] {
	return func(yield func(map[string]any) bool) { eachObject(tree, yield) }
}

// eachObject calls yield for every object of the tree until yield returns false. Its result is that
// of the last call: false means that the iteration is over.
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
