package honest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

// This file starts Drydock as it is deployed: a controller, which has the state, and an Envoy,
// whose filter fetches the state from the controller and refuses requests to apps in maintenance.
// Behind Envoy is an upstream, which stands for all apps and records the requests that reach it.

// syncToken is the token with which the filter fetches the state.
const syncToken = "sync-token-of-the-corpus"

// rig is a running Drydock with its upstream. Its listener "edge" is the one for clients.
type rig struct {
	upstream   *upstream
	controller *e2e.Controller
	envoy      *e2e.Envoy
}

// must ends the test if there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are what a test may change about a rig.
type options struct {
	// controllerAddr is the address at which Envoy looks for the controller (host:port); "" is the
	// address of the controller itself.
	controllerAddr string
	// editBootstrap, if it is not nil, changes Envoy's bootstrap, parsed from JSON.
	editBootstrap func(bootstrap map[string]any)
}

// start builds Drydock and starts a rig, which ends with the test.
func start(t *testing.T, opts options) *rig {
	t.Helper()
	root, err := e2e.Root()
	must(t, err)
	if out, err := exec.Command("make", "-s", "-C", root, "build").CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	binary, err := e2e.FindEnvoy(t.Context(), os.Stderr)
	must(t, err)
	drydock, err := e2e.Binary("drydock")
	must(t, err)

	r := &rig{upstream: newUpstream(t)}
	api, forProxies := reserve(t), reserve(t) // the controller has one port for each
	r.controller, err = e2e.StartController(t.Context(), e2e.ControllerOptions{
		Binary: drydock, Data: filepath.Join(t.TempDir(), "data"), Listen: api, Proxy: forProxies,
		Token: "operator-token-of-the-corpus", Sync: syncToken, Log: filepath.Join(t.TempDir(), "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { r.controller.Kill() })

	controllerAddr := opts.controllerAddr
	if controllerAddr == "" {
		controllerAddr = forProxies
	}
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: ":0", // the edge listener: a free port
		8081: r.upstream.addr,
		7071: controllerAddr,
		9901: ":0", // Envoy's admin port
	}})
	must(t, err)

	if opts.editBootstrap != nil {
		var tree map[string]any
		must(t, json.Unmarshal(bootstrap, &tree))
		opts.editBootstrap(tree)
		bootstrap, err = json.Marshal(tree)
		must(t, err)
	}

	r.envoy, err = e2e.StartEnvoy(t.Context(), e2e.EnvoyOptions{
		Binary: binary, Bootstrap: bootstrap, Dir: t.TempDir(), Env: []string{"DRYDOCK_SYNC_TOKEN=" + syncToken}, Workers: 2,
	})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the controller's log:\n%s\nthe end of Envoy's log:\n%s", r.controller.Tail(20), r.envoy.Tail(20))
		}
		r.envoy.Kill()
	})
	return r
}

// reserve returns an address (host:port) with a port that is free until the test ends.
func reserve(t *testing.T) (addr string) {
	t.Helper()
	p, err := e2e.ReservePort()
	must(t, err)
	t.Cleanup(p.Release)
	return p.Addr()
}

// enforce puts each app of [Document] into its mode by the controller's API, and returns when every
// worker of Envoy enforces it.
func (r *rig) enforce(t *testing.T) {
	t.Helper()
	doc, err := Document()
	must(t, err)
	for _, app := range doc.Apps {
		r.api(t, "PUT", "/api/v1/apps/"+app.Name, app.Spec)
		r.api(t, "POST", "/api/v1/apps/"+app.Name+"/activations", map[string]any{"mode": app.Activations[0].Mode})
	}

	deadline := time.Now().Add(time.Minute)
	for _, app := range doc.Apps {
		for {
			var status struct{ Enforced bool }
			answer := r.api(t, "GET", "/api/v1/apps/"+app.Name+"/status?wait=enforced&timeout=10", nil) // 10 seconds
			must(t, json.Unmarshal(answer, &status))
			if status.Enforced {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not enforced after a minute", app.Name)
			}
		}
	}
}

// api sends a request to the controller's API, with body as JSON, and returns the body of the
// answer. It ends the test unless the request succeeds. By If-Match: * an app may be changed in
// whatever version it is.
func (r *rig) api(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	status, answer, err := r.controller.Do(t.Context(), method, path, body, "If-Match", "*")
	if err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %s (%v)", method, path, status, answer, err)
	}
	return answer
}

// received is a request as it reached the upstream.
type received struct {
	Method, Target string
	Header         http.Header
	Body           []byte
}

// upstream is a server that answers every request with 200 and records it.
type upstream struct {
	addr string // host:port

	mu   sync.Mutex
	byID map[string]received // by the value of idHeader
}

// newUpstream starts an upstream, which stops when the test ends.
func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{byID: map[string]received{}}

	s := httptest.NewUnstartedServer(u)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true) // Envoy uses the version that the client uses

	s.Start()
	t.Cleanup(s.Close)
	u.addr = s.Listener.Addr().String()
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	u.mu.Lock()
	u.byID[r.Header.Get(idHeader)] = received{r.Method, r.RequestURI, r.Header.Clone(), body}
	u.mu.Unlock()

	fmt.Fprintf(w, "%x", sha256.Sum256(body)) // no test reads it; an answer with a body is usual
}

// take returns the request that reached the upstream with an id, and removes it from the record. ok
// is false if none did.
func (u *upstream) take(id string) (got received, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	got, ok = u.byID[id]
	delete(u.byID, id)
	return got, ok
}
