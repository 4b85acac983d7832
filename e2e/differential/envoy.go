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

// This file has the gates (gate.go) with a real Envoy. One Envoy stands in front of all servers.
// Its bootstrap is envoy/drydock.yaml, the one that operators copy, with the filter
// bin/drydock.wasm and these changes: it has a listener and a cluster for each server, so that a
// request may name any host, and its ports are free ones. Envoy gets the state from a server that
// answers as the controller does.
//
// allow_on_headers_stop_iteration is a setting of Envoy's Wasm filter. With it, Envoy keeps the
// headers of a request back while the filter waits for the body. Without it, they go to the server
// at once. Drydock's filter has a setting of the same name in its own configuration, which
// tells it what Envoy does.

// EnvoyGate is Envoy with its bootstrap's own settings. It changes the working directory to the
// root of the repository.
func EnvoyGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return startEnvoy(t, servers, state, asShipped)
}

// EnvoyPluginGate is Envoy as in a mesh, with the filter as a plain WasmPlugin of Istio. There is
// no allow_on_headers_stop_iteration, so the headers of a request are at the server before its body
// is judged. Since others operate the edge of the mesh, nothing before the filter normalizes paths
// or removes headers, and HTTP/2 may carry WebSockets. The working directory becomes the root of
// the repository.
func EnvoyPluginGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return startEnvoy(t, servers, state, asPlugin)
}

// asShipped leaves the edge listener of the bootstrap as it is.
func asShipped(any) {}

// asPlugin changes the edge listener as EnvoyPluginGate says.
func asPlugin(listener any) {
	sendHeadersBeforeBody(listener)
	trustClients(connectionManager(listener))
}

// startEnvoy starts Envoy in front of the servers, and returns the address of the listener of each.
// edit may change the edge listener of the bootstrap before it is copied for each server.
func startEnvoy(t testing.TB, servers []*Server, document maintenance.Document, edit func(listener any)) (addrs []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	// The functions of package e2e look for the root of the repository from the working directory
	// upwards, by its go.mod. A rig has a go.mod of its own, which they would find first.
	root, err := filepath.Abs("../..")
	must(err)
	t.Chdir(root)
	// make builds the filter again if its source has changed.
	if out, err := exec.Command("make", "-s", "bin/drydock.wasm").CombinedOutput(); err != nil {
		t.Fatalf("make bin/drydock.wasm: %v\n%s", err, out)
	}
	binary, err := e2e.FindEnvoy(t.Context(), os.Stderr)
	must(err)

	controller := publish(t, document)
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: ":0",            // the edge listener: a free port
		8081: servers[0].Addr, // the app, which withListeners replaces
		7071: controller,
		9901: ":0", // Envoy's admin port
	}})
	must(err)
	bootstrap, err = withListeners(bootstrap, servers, edit)
	must(err)

	e, err := e2e.StartEnvoy(t.Context(), e2e.EnvoyOptions{
		Binary: binary, Bootstrap: bootstrap, Dir: t.TempDir(), Workers: 2,
		Env: []string{"DRYDOCK_SYNC_TOKEN=" + syncToken},
	})
	must(err)
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

// syncToken is the token with which the filter fetches the state.
const syncToken = "token-of-the-rig"

// publish starts a server that answers the filter as the controller does, and returns its address
// (host:port). A filter without a state, whose revision is 0, gets the document. The filter then
// asks for a newer one: the answer, after a second, is that there is none.
func publish(t testing.TB, document maintenance.Document) (addr string) {
	t.Helper()
	state, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}

	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request maintenance.SyncRequest // with the revision that the filter has
		switch {
		case r.Header.Get("Authorization") != "Bearer "+syncToken:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != maintenance.SyncPath:
			w.WriteHeader(http.StatusNoContent) // what else the filter sends is not needed here
		case json.NewDecoder(r.Body).Decode(&request) != nil:
			w.WriteHeader(http.StatusBadRequest)
		case request.Revision > 0:
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Write(state)
		}
	}))
	t.Cleanup(controller.Close)
	return controller.Listener.Addr().String()
}

// withListeners returns a bootstrap in which the edge listener is replaced by a copy for each
// server, named as the server. Each routes to a cluster of that name, a copy of the app's. edit may
// change the edge listener before it is copied.
//
// A bootstrap is a tree of maps and slices here, and its form is known, so this function and those
// that it calls use type assertions without a check. withListeners returns an error if one fails.
func withListeners(bootstrap []byte, servers []*Server, edit func(listener any)) (_ []byte, err error) {
	var tree map[string]any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the bootstrap does not have the form that the rig expects: %v", r)
		}
	}()

	resources := tree["static_resources"].(map[string]any)
	edge := resources["listeners"].([]any)[0]
	edit(edge)
	// Over HTTP/2, Envoy closes the connection of a malformed request without an answer, after this
	// time. It is a second by default, for which a quarter of the generated requests would wait.
	connectionManager(edge)["delayed_close_timeout"] = "0.05s"

	clusters := resources["clusters"].([]any)
	app := clusters[slices.IndexFunc(clusters, func(c any) bool { return c.(map[string]any)["name"] == "app" })]
	var listeners []any
	for _, s := range servers {
		listener := clone(edge).(map[string]any)
		listener["name"] = s.Name
		virtualHost := connectionManager(listener)["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)
		routes := virtualHost["routes"].([]any)
		last := routes[len(routes)-1].(map[string]any) // the one for all paths, which goes to the app
		last["route"].(map[string]any)["cluster"] = s.Name
		listeners = append(listeners, listener)

		cluster, err := clusterOf(app, s)
		if err != nil {
			return nil, err
		}
		clusters = append(clusters, cluster)
	}

	resources["listeners"], resources["clusters"] = listeners, clusters
	return json.Marshal(tree)
}

// clusterOf returns a copy of the cluster of the app that leads to a server.
func clusterOf(app any, s *Server) (any, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	portNumber, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}

	cluster := clone(app).(map[string]any)
	cluster["name"] = s.Name

	// The servers speak only HTTP/1.1, whatever the client speaks.
	for _, o := range cluster["typed_extension_protocol_options"].(map[string]any) {
		options := o.(map[string]any)
		delete(options, "use_downstream_protocol_config")
		options["explicit_http_config"] = map[string]any{"http_protocol_options": map[string]any{"enable_trailers": true}}
		if s.OneRequest {
			options["common_http_protocol_options"] = map[string]any{"max_requests_per_connection": 1}
		}
	}

	for object := range e2e.Objects(cluster) {
		if object["socket_address"] != nil {
			object["socket_address"] = map[string]any{"address": host, "port_value": portNumber}
		}
	}
	return cluster, nil
}

// connectionManager returns the configuration of the HTTP connection manager of a listener, its
// only network filter.
func connectionManager(listener any) map[string]any {
	filters := listener.(map[string]any)["filter_chains"].([]any)[0].(map[string]any)["filters"].([]any)
	return filters[0].(map[string]any)["typed_config"].(map[string]any)
}

// sendHeadersBeforeBody removes allow_on_headers_stop_iteration from the Wasm filter of a listener,
// and sets it to false in the filter's own configuration, which is a text in JSON.
func sendHeadersBeforeBody(listener any) {
	for _, f := range connectionManager(listener)["http_filters"].([]any) {
		f := f.(map[string]any)
		if f["name"] != "drydock" {
			continue
		}

		config := f["typed_config"].(map[string]any)["config"].(map[string]any)
		delete(config, "allow_on_headers_stop_iteration")
		own := config["configuration"].(map[string]any)
		own["value"] = strings.Replace(own["value"].(string),
			`"allow_on_headers_stop_iteration": true`, `"allow_on_headers_stop_iteration": false`, 1)
	}
}

// trustClients removes from a connection manager what our bootstraps do with a request before the
// filter, and allows what they do not: HTTP/1.0, trailers, and WebSockets over HTTP/2.
func trustClients(manager map[string]any) {
	for _, name := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "early_header_mutation_extensions"} {
		delete(manager, name)
	}
	manager["http_protocol_options"] = map[string]any{"accept_http_10": true, "default_host_for_http_10": AnyHost, "enable_trailers": true}
	manager["http2_protocol_options"].(map[string]any)["allow_connect"] = true
}

// clone returns a deep copy of a part of a parsed bootstrap.
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
