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

// Substitution is all that may differ between a bootstrap as it stands in envoy/ and as
// it is run: ports and paths.
type Substitution struct {
	// Ports gives each port_value of the file the address to use instead: "host:port",
	// or ":port" to keep the host. Port 0 lets Envoy choose.
	Ports map[int]string
	// Files gives a filename of the file the path to use instead.
	Files map[string]string
}

// Bootstrap reads a bootstrap file of envoy/ and applies the substitution to its parsed
// form. It returns JSON, which Envoy reads as well. A substitution that finds nothing to
// replace is an error: the file and its user have drifted apart.
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
	unused := map[string]bool{}
	for port := range sub.Ports {
		unused[fmt.Sprint("port ", port)] = true
	}
	for name := range sub.Files {
		unused["file "+name] = true
	}
	for node := range Objects(tree) {
		if port, ok := node["port_value"].(float64); ok {
			if addr, ok := sub.Ports[int(port)]; ok {
				delete(unused, fmt.Sprint("port ", port))
				host, number, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, fmt.Errorf("%s: the address for port %v: %w", file, port, err)
				}
				if node["port_value"], err = strconv.Atoi(number); err != nil {
					return nil, fmt.Errorf("%s: the address for port %v: %w", file, port, err)
				}
				if host != "" {
					node["address"] = host
				}
			}
		}
		if name, ok := node["filename"].(string); ok {
			if path, ok := sub.Files[name]; ok {
				delete(unused, "file "+name)
				node["filename"] = path
			}
		}
	}
	for what := range unused {
		return nil, fmt.Errorf("%s has no %s to replace", file, what)
	}
	return json.Marshal(tree)
}

// Objects yields every object of a parsed bootstrap, the outer before the inner ones. Its
// values may be replaced meanwhile.
func Objects(tree any) iter.Seq[map[string]any] {
	return func(yield func(map[string]any) bool) { eachObject(tree, yield) }
}

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
