package honest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e"
)

const syncToken = "sync-token-of-the-corpus"

// rig is Drydock as its users have it, with an upstream behind it that writes down what reaches it.
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

// start builds and starts everything. behind, where given, is the address at which Envoy asks for the controller
// instead of the controller's own; edit changes the bootstrap's parsed form.
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

// enforce publishes the corpus' apps, each in its mode, and returns when every worker enforces them.
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

// upstream answers every request with 200 and keeps what it got, by the entry's id.
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
	s.Config.Protocols.SetUnencryptedHTTP2(true) // Envoy speaks to the app as the client speaks
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

// take returns what reached the upstream under an id, and forgets it.
func (u *upstream) take(id string) (got received, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	got, ok = u.got[id]
	delete(u.got, id)
	return got, ok
}

// answer is what came back to the client.
type answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Trailer http.Header
}

// send replays an entry at a proxy and returns the answer.
func (e *Entry) send(proxy, host, id string) (answer, error) {
	if e.Version == "HTTP/2" {
		return e.send2(proxy, host, id)
	}
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return answer{}, fmt.Errorf("connecting: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return answer{}, fmt.Errorf("setting a deadline: %w", err)
	}
	// Who refuses a request need not read it whole: the write may fail, and the answer is there all the same.
	_, _ = c.Write(e.bytes(host, id))

	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: e.Method})
		if err != nil {
			return answer{}, fmt.Errorf("reading the answer: %w", err)
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		return read(resp)
	}
}

// send2 replays an entry over HTTP/2 without TLS. The order of headers is lost; no rule looks at it.
func (e *Entry) send2(proxy, host, id string) (answer, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	path, query, _ := strings.Cut(e.Target, "?")
	req := &http.Request{
		Method: e.Method, URL: &url.URL{Scheme: "http", Host: proxy, Opaque: "//" + host + path, RawQuery: query}, Host: host, Header: http.Header{"User-Agent": nil},
	}
	if !e.streamEnds() {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(e.body())), -1 // of unknown length, as gRPC's are
	}
	if e.Framing == "length" {
		req.ContentLength = int64(len(e.body()))
	}
	for _, h := range e.Headers {
		name := http.CanonicalHeaderKey(h[0])
		req.Header[name] = append(req.Header[name], h[1])
	}
	req.Header.Set(idHeader, id)

	resp, err := (&http.Client{Transport: transport, Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("sending over HTTP/2: %w", err)
	}
	return read(resp)
}

func read(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return answer{resp.StatusCode, resp.Header, body, resp.Trailer}, nil
}

// hops are headers that belong to one connection (RFC 9110 section 7.6.1) or that Envoy writes itself.
var hops = []string{
	"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect", "trailer",
	"x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address", "x-envoy-internal",
}

// changed says how a request that reached the upstream differs from the entry, "" where it does not.
func (e *Entry) changed(got received, target string) string {
	if got.Method != e.Method || got.Target != target {
		return fmt.Sprintf("it arrived as %s %s", got.Method, got.Target)
	}
	if !bytes.Equal(got.Body, e.body()) {
		return fmt.Sprintf("%d bytes of body arrived, not the %d that were sent", len(got.Body), len(e.body()))
	}

	want := http.Header{}
	for _, h := range e.Headers {
		want.Add(h[0], strings.TrimSpace(h[1]))
	}
	for name, values := range want {
		if slices.Contains(hops, strings.ToLower(name)) {
			continue
		}
		if arrived := got.Header.Values(name); strings.Join(arrived, ",") != strings.Join(values, ",") && strings.Join(arrived, "; ") != strings.Join(values, "; ") {
			return fmt.Sprintf("header %s arrived as %q, sent as %q", name, arrived, values)
		}
	}
	return ""
}
