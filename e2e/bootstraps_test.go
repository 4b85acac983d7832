package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/drydock-proxy/drydock/e2e/golden"
)

// The bootstraps in envoy/ are configurations of Envoy in YAML, for users to copy from. The usual
// one is drydock.yaml. Each of the others is a whole file too, so that it runs as it stands, and
// shows one subject more.

// Each bootstrap differs from drydock.yaml only in its own subject. The golden file lists the
// differences, in the format of writeDifferences. two-filters.yaml has two listeners, each with a
// filter of its own: the first is compared like that of any other bootstrap, and the second, for
// partners, as a bootstrap of its own.
func TestBootstrapsDifferOnlyAsDocumented(t *testing.T) {
	root, err := Root()
	must(t, err)
	files, err := filepath.Glob(filepath.Join(root, "envoy", "*.yaml"))
	must(t, err)

	base := readBootstrap(t, "drydock.yaml")
	var out strings.Builder
	for _, file := range files {
		name := filepath.Base(file)
		if name == "drydock.yaml" {
			continue
		}
		tree := readBootstrap(t, name)
		if name == "two-filters.yaml" {
			second := takeSecondFilter(t, tree)
			writeDifferences(&out, name+" (second listener)", base, second)
		}
		writeDifferences(&out, name, base, tree)
	}

	golden.Compare(t, "testdata/bootstraps.golden", out.String())
}

// Bootstrap replaces exactly the ports and files that a Substitution names, and rejects one that it
// cannot apply.
func TestBootstrapSubstitution(t *testing.T) {
	data, err := Bootstrap("drydock.yaml", Substitution{
		Ports: map[int]string{8080: ":18080", 8081: "192.0.2.1:9", 7071: "127.0.0.1:17071"},
		Files: map[string]string{"bin/drydock.wasm": "elsewhere.wasm"},
	})
	must(t, err)
	var tree any
	must(t, json.Unmarshal(data, &tree))
	var got strings.Builder
	writeDifferences(&got, "substituted", readBootstrap(t, "drydock.yaml"), tree)

	// Both clusters that lead to the controller get its address.
	want := "substituted\n" +
		"  ~ clusters/app/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address: 192.0.2.1\n" +
		"  ~ clusters/app/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 9\n" +
		"  ~ clusters/drydock/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 17071\n" +
		"  ~ clusters/drydock_edge/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 17071\n" +
		"  ~ listeners/edge/address/socket_address/port_value: 18080\n" +
		"  ~ listeners/edge/http_filters/drydock/typed_config/config/vm_config/code/local/filename: elsewhere.wasm\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}

	for _, sub := range []Substitution{
		{Ports: map[int]string{4711: ":1"}},             // is not in the bootstrap
		{Files: map[string]string{"no/such/file": "x"}}, // is not in the bootstrap
		{Ports: map[int]string{8080: "no port"}},        // is not an address
	} {
		if _, err := Bootstrap("drydock.yaml", sub); err == nil {
			t.Errorf("%+v cannot be applied, but was accepted", sub)
		}
	}
}

// readBootstrap parses a bootstrap in envoy/. A key that occurs twice in an object fails the test.
func readBootstrap(t *testing.T, name string) map[string]any {
	t.Helper()
	root, err := Root()
	must(t, err)
	data, err := os.ReadFile(filepath.Join(root, "envoy", name))
	must(t, err)

	var tree map[string]any
	if err := yaml.UnmarshalStrict(data, &tree); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return tree
}

// takeSecondFilter removes the partners' listener and clusters from the parsed two-filters.yaml. It
// returns them as a bootstrap of their own, with the names that drydock.yaml uses, so that the two
// can be compared. What both filters use (the app's cluster, the admin interface and the overload
// manager) is in both bootstraps.
func takeSecondFilter(t *testing.T, tree map[string]any) map[string]any {
	t.Helper()
	static := tree["static_resources"].(map[string]any)
	secondStatic := map[string]any{}
	second := map[string]any{
		"admin": tree["admin"], "overload_manager": tree["overload_manager"], "static_resources": secondStatic,
	}
	for _, kind := range []string{"listeners", "clusters"} {
		var taken, kept []any
		for _, item := range static[kind].([]any) {
			name := item.(map[string]any)["name"].(string)
			switch {
			case strings.Contains(name, "partners"):
				taken = append(taken, item)
			case name == "app":
				taken, kept = append(taken, item), append(kept, item)
			default:
				kept = append(kept, item)
			}
		}
		if len(taken) == 0 || len(kept) == 0 {
			t.Fatalf("two-filters.yaml does not have %s for both filters", kind)
		}
		static[kind] = kept
		secondStatic[kind] = taken
	}

	// "drydock_partners" and "drydock_partners_edge" become "drydock" and "drydock_edge", and the
	// listener "partners" becomes "edge".
	data, err := json.Marshal(second)
	must(t, err)
	text := strings.NewReplacer("drydock_partners", "drydock", "partners", "edge").Replace(string(data))
	must(t, json.Unmarshal([]byte(text), &second))
	return second
}

// writeDifferences writes the name, and below it how the leaves of two parsed bootstraps differ: a
// line "- PATH" for each leaf that is only in before, "~ PATH: VALUE" for each one that has another
// value in after, and "+ PATH: VALUE" for each one that is only in after.
func writeDifferences(out *strings.Builder, name string, before, after any) {
	was, is := leaves(before), leaves(after)
	fmt.Fprintf(out, "%s\n", name)
	for _, path := range slices.Sorted(maps.Keys(was)) {
		value, kept := is[path]
		switch {
		case !kept:
			fmt.Fprintf(out, "  - %s\n", path)
		case value != was[path]:
			fmt.Fprintf(out, "  ~ %s: %s\n", path, value)
		}
	}

	for _, path := range slices.Sorted(maps.Keys(is)) {
		if _, existed := was[path]; !existed {
			fmt.Fprintf(out, "  + %s: %s\n", path, is[path])
		}
	}
}

// leaves returns the values of a parsed bootstrap that are not objects or lists, each as text, by
// their paths, such as "listeners/edge/address/socket_address/port_value". Two parts that nearly
// all paths have in common are left out of them.
func leaves(tree any) map[string]string {
	found := map[string]string{}
	addLeaves(found, "", tree)

	const manager = "/filter_chains/0/filters/envoy.filters.network.http_connection_manager/typed_config"
	shortened := map[string]string{}
	for path, value := range found {
		path = strings.TrimPrefix(path, "static_resources/")
		path = strings.Replace(path, manager, "", 1)
		shortened[path] = value
	}
	return shortened
}

// addLeaves adds the leaves of a node, whose path is at, to found. An element of a list has its
// field "name" in the path if it has one, and otherwise its index: another element before it does
// not change the path then. A string that contains a JSON object, as the configuration of the
// Drydock filter does, counts as that object. An empty object counts as a leaf.
func addLeaves(found map[string]string, at string, node any) {
	switch node := node.(type) {
	case map[string]any:
		if len(node) == 0 {
			found[at] = "{}"
		}
		for key, child := range node {
			addLeaves(found, path.Join(at, key), child)
		}

	case []any:
		for i, child := range node {
			key := strconv.Itoa(i)
			if named, ok := child.(map[string]any); ok {
				if name, ok := named["name"].(string); ok {
					key = name
				}
			}
			addLeaves(found, path.Join(at, key), child)
		}

	case string:
		var inner map[string]any
		if strings.HasPrefix(node, "{") && json.Unmarshal([]byte(node), &inner) == nil {
			addLeaves(found, at, inner)
			return
		}
		found[at] = node

	default:
		found[at] = fmt.Sprint(node)
	}
}
