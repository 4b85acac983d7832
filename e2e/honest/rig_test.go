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

const syncToken = "sync-token-of-the-corpus"

// rig is Drydock as it is deployed, with an upstream that keeps the requests that reach it.
type rig struct {
	upstream   *upstream
	controller *e2e.Controller
	envoy      *e2e.Envoy
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start builds and starts everything. behind is the address at which Envoy looks for the
// controller, or "" for the address of the controller. edit changes the parsed bootstrap, if it is
// not nil.
func start(t *testing.T, behind string, edit func(bootstrap map[string]any)) *rig {
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
	api, proxies := reserve(t), reserve(t)
	r.controller, err = e2e.StartController(t.Context(), e2e.ControllerOptions{
		Binary: drydock, Data: filepath.Join(t.TempDir(), "data"), Listen: api, Proxy: proxies,
		Token: "operator-token-of-the-corpus", Sync: syncToken, Log: filepath.Join(t.TempDir(), "controller.log"),
	})
	must(t, err)
	t.Cleanup(func() { r.controller.Kill() })

	if behind == "" {
		behind = proxies
	}
	bootstrap, err := e2e.Bootstrap("drydock.yaml", e2e.Substitution{Ports: map[int]string{
		8080: ":0", 8081: r.upstream.addr, 7071: behind, 9901: ":0",
	}})
	must(t, err)

	if edit != nil {
		var tree map[string]any
		must(t, json.Unmarshal(bootstrap, &tree))
		edit(tree)
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

func reserve(t *testing.T) (addr string) {
	t.Helper()
	p, err := e2e.ReservePort()
	must(t, err)
	t.Cleanup(p.Release)
	return p.Addr()
}

// enforce puts each app of the corpus into its mode, and returns when every worker of Envoy
// enforces it.
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
			var st struct{ Enforced bool }
			must(t, json.Unmarshal(r.api(t, "GET", "/api/v1/apps/"+app.Name+"/status?wait=enforced&timeout=10", nil), &st))
			if st.Enforced {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not enforced after a minute", app.Name)
			}
		}
	}
}

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

// upstream answers every request with 200 and keeps it under the id of its entry.
type upstream struct {
	addr string

	mu  sync.Mutex
	got map[string]received
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{got: map[string]received{}}

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
	u.got[r.Header.Get(idHeader)] = received{r.Method, r.RequestURI, r.Header.Clone(), body}
	u.mu.Unlock()

	fmt.Fprintf(w, "%x", sha256.Sum256(body))
}

// take returns and forgets the request that reached the upstream under an id.
func (u *upstream) take(id string) (got received, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	got, ok = u.got[id]
	delete(u.got, id)
	return got, ok
}
