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

// EnvoyGate is the real Envoy with bin/drydock.wasm and envoy/drydock.yaml. The ports are free
// ones, and every server has a listener of its own, so that requests may name any host. The state
// comes from a server that answers as the controller does. The working directory becomes the root
// of the repository.
func EnvoyGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return envoy(t, servers, state, true)
}

// EnvoyPluginGate is Envoy without allow_on_headers_stop_iteration, as with a plain WasmPlugin of
// Istio: the headers of a request are upstream before its body is judged. As in a mesh whose edge
// somebody else operates, nothing before the filter normalizes paths or removes headers, trailers
// pass, and HTTP/2 may carry WebSockets.
func EnvoyPluginGate(t testing.TB, servers []*Server, state maintenance.Document) []string {
	t.Helper()
	return envoy(t, servers, state, false)
}

// envoy starts Envoy in front of the servers. hold is allow_on_headers_stop_iteration.
func envoy(t testing.TB, servers []*Server, document maintenance.Document, hold bool) (addrs []string) {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	// The e2e package looks for the product from the working directory upwards, and would find the
	// module of the rig first.
	root, err := filepath.Abs("../..")
	fail(err)
	t.Chdir(root)
	// A filter that was built from older source would make the test say something about that.
	if out, err := exec.Command("make", "-s", "bin/drydock.wasm").CombinedOutput(); err != nil {
		t.Fatalf("make bin/drydock.wasm: %v\n%s", err, out)
	}
	binary, err := e2e.FindEnvoy(t.Context(), os.Stderr)
	fail(err)

	controller := publish(t, document)
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: ":0", 8081: servers[0].Addr, 7071: controller, 9901: ":0",
	}})
	fail(err)
	bootstrap, err = listeners(bootstrap, servers, hold)
	fail(err)

	e, err := e2e.StartEnvoy(t.Context(), e2e.EnvoyOptions{
		Binary: binary, Bootstrap: bootstrap, Dir: t.TempDir(), Env: []string{"DRYDOCK_SYNC_TOKEN=" + syncToken}, Workers: 2,
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

const syncToken = "token-of-the-rig"

// publish starts a server that answers the filter as the controller does, and returns its address
// (host:port).
func publish(t testing.TB, document maintenance.Document) (addr string) {
	t.Helper()
	state, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}

	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var has maintenance.SyncRequest
		switch {
		case r.Header.Get("Authorization") != "Bearer "+syncToken:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path != maintenance.SyncPath:
			w.WriteHeader(http.StatusNoContent)
		case json.NewDecoder(r.Body).Decode(&has) != nil:
			w.WriteHeader(http.StatusBadRequest)
		case has.Revision > 0:
			select { // a long poll, which there will be nothing newer for
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

// listeners returns a bootstrap with one listener and one app changed to have a listener and a
// cluster for each server.
func listeners(bootstrap []byte, servers []*Server, hold bool) (_ []byte, err error) {
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
	if !hold {
		passHeaders(edge)
		trustClients(connectionManager(edge))
	}
	// Over HTTP/2 Envoy does not answer malformed requests. It closes the connection after this
	// time, which is a second by default. A quarter of the generated requests would wait for it.
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

// clusterOf returns the cluster of the app with a server in the place of the app.
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

	// The servers speak only HTTP/1.1, whatever the client speaks.
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

// passHeaders takes allow_on_headers_stop_iteration from the filter of a listener.
func passHeaders(listener any) {
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

// trustClients takes from a connection manager what our bootstraps do before the filter, and allows
// what they do not.
func trustClients(manager map[string]any) {
	for _, name := range []string{"normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "early_header_mutation_extensions"} {
		delete(manager, name)
	}
	manager["http_protocol_options"] = map[string]any{"accept_http_10": true, "default_host_for_http_10": AnyHost, "enable_trailers": true}
	manager["http2_protocol_options"].(map[string]any)["allow_connect"] = true
}
