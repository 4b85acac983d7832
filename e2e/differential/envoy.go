package differential

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// EnvoyGate is the real Envoy with bin/drydock.wasm and the bootstrap that people copy, but for the ports, and with one
// listener for each server, so that requests may name any host. The state comes from a server that answers as the
// controller does. The working directory becomes the repository's root.
func EnvoyGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return envoy(t, servers, state, true)
}

// EnvoyPluginGate is Envoy without allow_on_headers_stop_iteration, as a plain WasmPlugin of Istio has it: there a
// request's headers are upstream before its body is judged. As in a mesh whose edge is somebody else's, nothing before
// the filter makes paths one or removes headers, trailers pass, and HTTP/2 may carry WebSockets.
func EnvoyPluginGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return envoy(t, servers, state, false)
}

func envoy(t testing.TB, servers []*Server, document maintenance.Document, held bool) (addrs []string) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The e2e package looks for the product from the working directory upwards; here this module would be in its way.
	root, err := filepath.Abs("../..")
	fail(err)
	t.Chdir(root)
	// The module of an older source would show nothing, or too much.
	if out, err := exec.Command("make", "-s", "bin/drydock.wasm").CombinedOutput(); err != nil {
		t.Fatalf("make bin/drydock.wasm: %v\n%s", err, out)
	}
	binary, err := e2e.FindEnvoy(t.Context(), os.Stderr)
	fail(err)

	const token = "token-of-the-rig"
	state, err := json.Marshal(document)
	fail(err)
	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var has maintenance.SyncRequest
		switch {
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != maintenance.SyncPath:
			w.WriteHeader(http.StatusNoContent)
		case json.NewDecoder(r.Body).Decode(&has) != nil:
			w.WriteHeader(http.StatusBadRequest)
		case has.Revision > 0:
			select { // a long poll: there will be nothing newer
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Write(state)
		}
	}))
	t.Cleanup(controller.Close)

	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: ":0", 8081: servers[0].Addr, 7071: controller.Listener.Addr().String(), 9901: ":0",
	}})
	fail(err)
	bootstrap, err = listeners(bootstrap, servers, held)
	fail(err)
	e, err := e2e.StartEnvoy(t.Context(), e2e.EnvoyOptions{
		Binary: binary, Bootstrap: bootstrap, Dir: t.TempDir(), Env: []string{"DRYDOCK_SYNC_TOKEN=" + token}, Workers: 2,
	})
	fail(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of Envoy's log:\n%s", e.Tail(30))
		}
		e.Kill()
	})
	for _, s := range servers {
		addrs = append(addrs, e.Listeners[s.Name])
	}
	return addrs
}

// listeners gives a bootstrap that leads from one listener to one app a listener and a cluster for each server instead.
func listeners(bootstrap []byte, servers []*Server, held bool) (_ []byte, err error) {
	var tree map[string]any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the bootstrap is not of the form that the rig knows: %v", r)
		}
	}()
	resources := tree["static_resources"].(map[string]any)
	edge := resources["listeners"].([]any)[0]
	if !held {
		notHeld(edge)
		lenient(connectionManager(edge))
	}
	// Over HTTP/2 Envoy says nothing to what is malformed, and closes the connection after this time, by default a
	// second. A quarter of the generated requests would wait for it.
	connectionManager(edge)["delayed_close_timeout"] = "0.05s"
	clusters := resources["clusters"].([]any)
	app := clusters[slices.IndexFunc(clusters, func(c any) bool { return c.(map[string]any)["name"] == "app" })]
	var all []any
	for _, s := range servers {
		l := clone(edge).(map[string]any)
		l["name"] = s.Name
		routes := connectionManager(l)["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)["routes"].([]any)
		routes[len(routes)-1].(map[string]any)["route"].(map[string]any)["cluster"] = s.Name
		all = append(all, l)

		cluster, err := clusterOf(app, s)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, cluster)
	}
	resources["listeners"], resources["clusters"] = all, clusters
	return json.Marshal(tree)
}

// clusterOf returns the app's cluster with a server in the app's place.
func clusterOf(app any, s *Server) (any, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	c := clone(app).(map[string]any)
	c["name"] = s.Name
	// The servers speak HTTP/1.1 only, whatever the client speaks.
	for _, o := range c["typed_extension_protocol_options"].(map[string]any) {
		o := o.(map[string]any)
		delete(o, "use_downstream_protocol_config")
		o["explicit_http_config"] = map[string]any{"http_protocol_options": map[string]any{"enable_trailers": true}}
		if s.OneRequest {
			o["common_http_protocol_options"] = map[string]any{"max_requests_per_connection": 1}
		}
	}
	for object := range e2e.Objects(c) {
		if object["socket_address"] != nil {
			object["socket_address"] = map[string]any{"address": host, "port_value": number}
		}
	}
	return c, nil
}

func connectionManager(listener any) map[string]any {
	filters := listener.(map[string]any)["filter_chains"].([]any)[0].(map[string]any)["filters"].([]any)
	return filters[0].(map[string]any)["typed_config"].(map[string]any)
}

// notHeld takes allow_on_headers_stop_iteration from a listener's filter.
func notHeld(listener any) {
	for _, f := range connectionManager(listener)["http_filters"].([]any) {
		f := f.(map[string]any)
		if f["name"] != "drydock" {
			continue
		}
		config := f["typed_config"].(map[string]any)["config"].(map[string]any)
		delete(config, "allow_on_headers_stop_iteration")
		own := config["configuration"].(map[string]any)
		own["value"] = strings.Replace(own["value"].(string), `"allow_on_headers_stop_iteration": true`, `"allow_on_headers_stop_iteration": false`, 1)
	}
}

// clone copies a parsed bootstrap's part.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for key, value := range v {
			c[key] = clone(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, value := range v {
			c[i] = clone(value)
		}
		return c
	}
	return v
}

// lenient takes from a connection manager what our bootstraps do before the filter, and allows what they do not.
func lenient(manager map[string]any) {
	for _, name := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "early_header_mutation_extensions"} {
		delete(manager, name)
	}
	manager["http_protocol_options"] = map[string]any{"accept_http_10": true, "default_host_for_http_10": AnyHost, "enable_trailers": true}
	manager["http2_protocol_options"].(map[string]any)["allow_connect"] = true
}
