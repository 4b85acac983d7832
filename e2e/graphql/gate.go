package graphql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
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

// A Gate stands between the generator and the servers. It guards them in read-only, with the settings that an app has
// when nobody has set any, until the test ends, and returns, in the servers' order, how each is reached through it.
type Gate func(t testing.TB, servers []*Server) []Target

// Target is where a server is reached: an address and the host to ask it for.
type Target struct{ Addr, Host string }

// NoGate lets everything through.
func NoGate(_ testing.TB, servers []*Server) (targets []Target) {
	for _, s := range servers {
		targets = append(targets, Target{s.Addr, anyHost})
	}
	return targets
}

// readOnly is the state that the gates enforce.
func readOnly() maintenance.Document {
	return maintenance.Document{Version: maintenance.Version{Epoch: 1, Revision: 1}, Apps: []maintenance.App{{
		Spec: maintenance.Spec{Name: maintenance.DefaultApp},
		Activations: []maintenance.Activation{{
			ID: "rig", Source: maintenance.SourceManual, Mode: maintenance.ReadOnly, Since: time.Now().Add(-time.Minute).UTC().Truncate(time.Second),
		}},
	}}}
}

// CoreGate judges by the core as it is, in a proxy of Go's net/http. It is there to find a hole in the rules fast, and
// to tell it from one that only Envoy makes.
func CoreGate(t testing.TB, servers []*Server) (targets []Target) {
	t.Helper()
	state, err := maintenance.Compile(readOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		gate := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { guard(w, r, state, s) }))
		gate.Config.ErrorLog = log.New(io.Discard, "", 0)
		gate.Start()
		t.Cleanup(gate.Close)
		targets = append(targets, Target{gate.Listener.Addr().String(), anyHost})
	}
	return targets
}

// anonymous is a client of whom the proxy knows nothing.
type anonymous struct{}

func (anonymous) SourceAddress() string      { return "192.0.2.1:1234" }
func (anonymous) Principal() string          { return "" }
func (anonymous) Route() string              { return "" }
func (anonymous) Cluster() string            { return "" }
func (anonymous) Claims() maintenance.Claims { return "" }

// guard decides as the filter does, once by the headers and, where asked to, again by the body, and forwards what passes
// as it came.
func guard(w http.ResponseWriter, r *http.Request, state *maintenance.State, s *Server) {
	// A target in absolute form says host and path, as Envoy reads it too.
	target := r.RequestURI
	if r.URL.IsAbs() {
		target = r.URL.RequestURI()
	}
	m := &maintenance.Request{Method: r.Method, Authority: r.Host, Path: target, EndStream: r.Body == http.NoBody, Attributes: anonymous{}}
	for name, values := range r.Header {
		for _, v := range values {
			m.Headers = append(m.Headers, [2]string{strings.ToLower(name), v})
		}
	}
	d := state.Decide(m, time.Now())
	body, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		return
	}
	if d.Verdict == maintenance.NeedBody {
		// The filter reads one byte more than is asked for.
		m.Body, m.BodyRead = body[:min(len(body), d.MaxBody+1)], true
		d = state.Decide(m, time.Now())
	}
	if d.Verdict != maintenance.Pass {
		w.Header().Set(refusedBy, string(d.Rule))
		http.Error(w, string(d.Rule), http.StatusServiceUnavailable)
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, target, r.Host)
	for name, values := range r.Header {
		if slices.Contains([]string{"Connection", "Content-Length", "Expect", "Te", "Trailer", "Upgrade"}, name) {
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	if r.Body != http.NoBody {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	res, err := send(s.Addr, b.Bytes(), r.Method, 15*time.Second, false)
	if err != nil || res.Status < 200 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if t := res.Header.Get("Content-Type"); t != "" {
		w.Header().Set("Content-Type", t)
	}
	w.WriteHeader(res.Status)
	w.Write(res.Body)
}

// refusedBy is the header in which CoreGate names its rule.
const refusedBy = "X-Refused-By"

// EnvoyGate is the real Envoy with bin/drydock.wasm and the bootstrap that people copy, but for the ports, and for one
// virtual host a server. The state comes from a listener that answers as the controller's does.
func EnvoyGate(t testing.TB, servers []*Server) []Target { return envoy(t, servers, true) }

// EnvoyPluginGate is Envoy without allow_on_headers_stop_iteration, as a plain WasmPlugin of Istio has it: there a
// request's headers are upstream before its body is judged.
func EnvoyPluginGate(t testing.TB, servers []*Server) []Target { return envoy(t, servers, false) }

func envoy(t testing.TB, servers []*Server, held bool) (targets []Target) {
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
	state, err := json.Marshal(readOnly())
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
	bootstrap, targets, err = virtualHosts(bootstrap, servers, held)
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
	for i := range targets {
		targets[i].Addr = e.Listeners["edge"]
	}
	return targets
}

// virtualHosts gives a bootstrap that leads to one app a cluster and a virtual host for each server instead.
func virtualHosts(bootstrap []byte, servers []*Server, held bool) (_ []byte, targets []Target, err error) {
	var tree map[string]any
	if err := json.Unmarshal(bootstrap, &tree); err != nil {
		return nil, nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the bootstrap is not of the form that the rig knows: %v", r)
		}
	}()
	resources := tree["static_resources"].(map[string]any)
	clusters := resources["clusters"].([]any)
	app, err := json.Marshal(clusters[slices.IndexFunc(clusters, func(c any) bool { return c.(map[string]any)["name"] == "app" })])
	if err != nil {
		return nil, nil, err
	}
	filters := resources["listeners"].([]any)[0].(map[string]any)["filter_chains"].([]any)[0].(map[string]any)["filters"].([]any)
	manager := filters[0].(map[string]any)["typed_config"].(map[string]any)
	routes := manager["route_config"].(map[string]any)
	all, err := json.Marshal(routes["virtual_hosts"].([]any)[0])
	if err != nil {
		return nil, nil, err
	}
	var hosts []any
	for _, s := range servers {
		host, port, err := net.SplitHostPort(s.Addr)
		if err != nil {
			return nil, nil, err
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			return nil, nil, err
		}
		var cluster, virtual map[string]any
		json.Unmarshal(app, &cluster)
		json.Unmarshal(all, &virtual)
		cluster["name"] = s.Name
		endpoint := cluster["load_assignment"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)["lb_endpoints"].([]any)[0].(map[string]any)["endpoint"].(map[string]any)
		endpoint["address"] = map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}}
		clusters = append(clusters, cluster)

		t := Target{Host: s.Name + "." + anyHost}
		virtual["name"], virtual["domains"] = s.Name, []string{t.Host}
		list := virtual["routes"].([]any)
		list[len(list)-1].(map[string]any)["route"].(map[string]any)["cluster"] = s.Name
		hosts = append(hosts, virtual)
		targets = append(targets, t)
	}
	resources["clusters"], routes["virtual_hosts"] = clusters, hosts
	if !held {
		for _, f := range manager["http_filters"].([]any) {
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
	b, err := json.Marshal(tree)
	return b, targets, err
}
