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

	"github.com/drydock-proxy/drydock/internal/golden"
)

// Each bootstrap stands on its own, and yet differs from drydock.yaml only in what it is
// about: the golden file lists the differences.
func TestBootstrapsDifferOnlyAsDocumented(t *testing.T) {
	root, err := Root()
	must(t, err)
	files, err := filepath.Glob(filepath.Join(root, "envoy", "*.yaml"))
	must(t, err)
	read := func(file string) map[string]any {
		data, err := os.ReadFile(file)
		must(t, err)
		var tree map[string]any
		if err := yaml.UnmarshalStrict(data, &tree); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return tree
	}
	base := read(filepath.Join(root, "envoy", "drydock.yaml"))
	var out strings.Builder
	for _, file := range files {
		name := filepath.Base(file)
		if name == "drydock.yaml" {
			continue
		}
		tree := read(file)
		if name == "two-filters.yaml" {
			// Its second listener and clusters are held against the first ones.
			renamed := secondFilterAlone(t, tree)
			diff(&out, name+" (second listener)", base, renamed)
		}
		diff(&out, name, base, tree)
	}
	golden.Compare(t, "testdata/bootstraps.golden", out.String())
}

// secondFilterAlone takes the partners' listener and clusters out of a bootstrap, and returns
// them as if they were all of it, under the first one's names.
func secondFilterAlone(t *testing.T, tree map[string]any) map[string]any {
	t.Helper()
	static := tree["static_resources"].(map[string]any)
	second := map[string]any{"admin": tree["admin"], "overload_manager": tree["overload_manager"], "static_resources": map[string]any{}}
	for _, kind := range []string{"listeners", "clusters"} {
		var mine, rest []any
		for _, item := range static[kind].([]any) {
			name := item.(map[string]any)["name"].(string)
			switch {
			case strings.Contains(name, "partners"):
				mine = append(mine, item)
			case name == "app":
				mine, rest = append(mine, item), append(rest, item)
			default:
				rest = append(rest, item)
			}
		}
		if len(mine) == 0 || len(rest) == 0 {
			t.Fatalf("two-filters.yaml has no two %s", kind)
		}
		static[kind] = rest
		second["static_resources"].(map[string]any)[kind] = mine
	}
	data, err := json.Marshal(second)
	must(t, err)
	text := strings.NewReplacer("drydock_partners", "drydock", "partners", "edge").Replace(string(data))
	must(t, json.Unmarshal([]byte(text), &second))
	return second
}

// diff writes the leaves that were added, removed and changed.
func diff(out *strings.Builder, name string, before, after any) {
	a, b := leaves(before), leaves(after)
	fmt.Fprintf(out, "%s\n", name)
	for _, key := range slices.Sorted(maps.Keys(a)) {
		switch now, ok := b[key]; {
		case !ok:
			fmt.Fprintf(out, "  - %s\n", key)
		case now != a[key]:
			fmt.Fprintf(out, "  ~ %s: %s\n", key, now)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[key]; !ok {
			fmt.Fprintf(out, "  + %s: %s\n", key, b[key])
		}
	}
}

// leaves flattens a tree. Elements of a list go by their name where they have one, so that
// one more in front does not shift the rest; the plugin's JSON is part of the tree.
func leaves(node any) map[string]string {
	found := map[string]string{}
	var walk func(at string, node any)
	walk = func(at string, node any) {
		switch node := node.(type) {
		case map[string]any:
			if len(node) == 0 {
				found[at] = "{}"
			}
			for key, child := range node {
				walk(path.Join(at, key), child)
			}
		case []any:
			for i, child := range node {
				key := strconv.Itoa(i)
				if named, ok := child.(map[string]any); ok {
					if name, ok := named["name"].(string); ok {
						key = name
					}
				}
				walk(path.Join(at, key), child)
			}
		case string:
			var inner map[string]any
			if strings.HasPrefix(node, "{") && json.Unmarshal([]byte(node), &inner) == nil {
				walk(at, inner)
				return
			}
			found[at] = node
		default:
			found[at] = fmt.Sprint(node)
		}
	}
	walk("", node)
	// Nearly all is within one filter.
	const http = "/filter_chains/0/filters/envoy.filters.network.http_connection_manager/typed_config"
	short := map[string]string{}
	for key, value := range found {
		short[strings.Replace(strings.TrimPrefix(key, "static_resources/"), http, "", 1)] = value
	}
	return short
}

func TestBootstrapSubstitution(t *testing.T) {
	got, err := Bootstrap("drydock.yaml", Substitution{
		Ports: map[int]string{8080: ":18080", 8081: "192.0.2.1:9", 7071: "127.0.0.1:17071"},
		Files: map[string]string{"bin/drydock.wasm": "elsewhere.wasm"},
	})
	must(t, err)
	var tree any
	must(t, json.Unmarshal(got, &tree))
	root, err := Root()
	must(t, err)
	data, err := os.ReadFile(filepath.Join(root, "envoy", "drydock.yaml"))
	must(t, err)
	var base any
	must(t, yaml.Unmarshal(data, &base))
	var out strings.Builder
	diff(&out, "substituted", base, tree)
	// Both clusters that lead to the controller move; nothing else changes.
	const at = "  ~ "
	want := "substituted\n" +
		at + "clusters/app/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address: 192.0.2.1\n" +
		at + "clusters/app/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 9\n" +
		at + "clusters/drydock/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 17071\n" +
		at + "clusters/drydock_edge/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value: 17071\n" +
		at + "listeners/edge/address/socket_address/port_value: 18080\n" +
		at + "listeners/edge/http_filters/drydock/typed_config/config/vm_config/code/local/filename: elsewhere.wasm\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	for _, sub := range []Substitution{
		{Ports: map[int]string{4711: ":1"}},
		{Files: map[string]string{"no/such/file": "x"}},
		{Ports: map[int]string{8080: "no port"}},
	} {
		if _, err := Bootstrap("drydock.yaml", sub); err == nil {
			t.Errorf("%+v: no error, although it cannot be carried out", sub)
		}
	}
}
