package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/demo"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

var long = flag.Bool("long", false, "run the long form of the scenarios that have one: hours of load, hundreds of kills")

const (
	operatorToken = "operator-token-of-the-scenarios"
	syncToken     = "sync-token-of-the-scenarios"
)

// built makes bin/ what the source says, once, before the first scenario uses it.
var built = sync.OnceValue(func() error {
	root, err := Root()
	if err != nil {
		return err
	}
	if out, err := exec.Command("make", "-s", "-C", root, "build").CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
})

// rig is Drydock as a user has it: controller, Envoy, an app behind it.
type rig struct {
	t          *testing.T
	dir        string
	app        *demo.App
	upstream   string // host:port of the app
	controller *Controller
	envoy      *Envoy

	options              rigOptions
	listen, sync, edge   *Port
	envoyBinary, drydock string
}

type rigOptions struct {
	bootstrap string // file in envoy/; drydock.yaml if empty
	version   string // of Envoy, instead of the one that FindEnvoy finds
	workers   int    // 2 if 0
	files     map[string]string
	ports     map[int]string // beyond those that every bootstrap has
	upstream  string         // host:port instead of the demo app
	// without leaves the controller or Envoy to the scenario to start.
	withoutController, withoutEnvoy bool
	hotRestart                      bool
	// edit changes the bootstrap's parsed form, for scenarios about Envoy's configuration.
	edit func(bootstrap map[string]any)
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: t.TempDir(), options: o}
	var err error
	r.drydock, err = Binary("drydock")
	must(t, err)
	if o.version != "" {
		r.envoyBinary, err = InstallEnvoy(t.Context(), o.version, os.Stderr)
	} else {
		r.envoyBinary, err = FindEnvoy(t.Context(), os.Stderr)
	}
	must(t, err)
	r.listen, r.sync, r.edge = reserve(t), reserve(t), reserve(t)
	if r.upstream = o.upstream; r.upstream == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		r.app, r.upstream = demo.New(), l.Addr().String()
		stop := r.app.Serve(l)
		t.Cleanup(func() { stop() })
	}
	t.Cleanup(r.report)
	if !o.withoutController {
		r.startController()
	}
	if !o.withoutEnvoy {
		r.startEnvoy()
		if !o.withoutController {
			r.settled()
		}
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func reserve(t *testing.T) *Port {
	t.Helper()
	p, err := ReservePort()
	must(t, err)
	t.Cleanup(p.Release)
	return p
}

func (r *rig) startController() {
	r.t.Helper()
	c, err := StartController(r.t.Context(), ControllerOptions{
		Binary: r.drydock, Data: filepath.Join(r.dir, "data"), Listen: r.listen.Addr(), Proxy: r.sync.Addr(),
		Token: operatorToken, Sync: syncToken, Log: filepath.Join(r.dir, "controller.log"),
	})
	must(r.t, err)
	r.controller = c
	r.t.Cleanup(func() { c.Kill() })
}

// substitution puts the rig's ports and files into a bootstrap.
func (r *rig) substitution() Substitution {
	ports := map[int]string{8080: r.edge.Addr(), 8081: r.upstream, 7071: r.sync.Addr(), 9901: ":0"}
	maps.Copy(ports, r.options.ports)
	return Substitution{Ports: ports, Files: r.options.files}
}

func (r *rig) envoyOptions() EnvoyOptions {
	r.t.Helper()
	file := r.options.bootstrap
	if file == "" {
		file = "drydock.yaml"
	}
	sub := r.substitution()
	if file == "dual-stack.yaml" {
		sub.Ports[8080] = fmt.Sprintf(":%d", r.edge.Number)
	}
	bootstrap, err := Bootstrap(file, sub)
	must(r.t, err)
	if r.options.edit != nil {
		var tree map[string]any
		must(r.t, json.Unmarshal(bootstrap, &tree))
		r.options.edit(tree)
		bootstrap, err = json.Marshal(tree)
		must(r.t, err)
	}
	return EnvoyOptions{
		Binary: r.envoyBinary, Bootstrap: bootstrap, Dir: filepath.Join(r.dir, "envoy"), Workers: r.workers(),
		Env: []string{"DRYDOCK_SYNC_TOKEN=" + syncToken}, HotRestart: r.options.hotRestart,
	}
}

func (r *rig) startEnvoy() {
	r.t.Helper()
	e, err := StartEnvoy(r.t.Context(), r.envoyOptions())
	must(r.t, err)
	r.adoptEnvoy(e)
}

func (r *rig) adoptEnvoy(e *Envoy) {
	r.envoy = e
	r.t.Cleanup(func() { e.Kill() })
}

// report prints what the processes said when a scenario failed.
func (r *rig) report() {
	if !r.t.Failed() {
		return
	}
	if r.controller != nil {
		r.t.Logf("the end of the controller's log:\n%s", r.controller.Tail(30))
	}
	if r.envoy != nil {
		r.t.Logf("the end of Envoy's log:\n%s", r.envoy.Tail(30))
		access := &Process{Log: r.envoy.AccessLog}
		r.t.Logf("the end of the access log:\n%s", access.Tail(10))
	}
}

// api sends a request to the controller that has to succeed.
func (r *rig) api(method, path string, body any, headers ...string) []byte {
	r.t.Helper()
	status, answer, err := r.controller.Do(r.t.Context(), method, path, body, headers...)
	if err != nil || status >= 300 {
		r.t.Fatalf("%s %s: %d %s (%v)", method, path, status, answer, err)
	}
	return answer
}

// put writes an app's rules.
func (r *rig) put(spec maintenance.Spec) {
	r.t.Helper()
	r.api("PUT", "/api/v1/apps/"+spec.Name, spec, "If-Match", "*")
}

// on puts an app into a mode and returns when every worker enforces it.
func (r *rig) on(app string, mode maintenance.Mode, message string) {
	r.t.Helper()
	r.api("POST", "/api/v1/apps/"+app+"/activations", map[string]any{"mode": mode, "message": message}, "If-Match", "*")
	r.enforced(app)
}

// off ends what on began, and returns when every worker knows.
func (r *rig) off(app string) {
	r.t.Helper()
	r.api("DELETE", "/api/v1/apps/"+app+"/activations", nil, "If-Match", "*")
	r.enforced(app)
}

// enforced waits until every worker has the app's present state.
func (r *rig) enforced(app string) {
	r.t.Helper()
	eventually(r.t, time.Minute, func() error {
		var st struct {
			Enforced bool
			Waiting  json.RawMessage
		}
		must(r.t, json.Unmarshal(r.api("GET", "/api/v1/apps/"+app+"/status?wait=enforced&timeout=10", nil), &st))
		if !st.Enforced {
			return fmt.Errorf("app %s is not enforced, still waiting for %s", app, st.Waiting)
		}
		return nil
	})
}

type proxyState struct {
	ID      string
	State   string
	Current bool
	VMs     []struct{ State string }
}

func (r *rig) proxies() []proxyState {
	r.t.Helper()
	var list struct{ Proxies []proxyState }
	must(r.t, json.Unmarshal(r.api("GET", "/api/v1/proxies", nil), &list))
	return list.Proxies
}

// settled waits until the controller has heard of all of Envoy's VMs, one a worker and one
// of the main thread, and forgets Envoys that are gone, as somebody who stops one does.
func (r *rig) settled() {
	r.t.Helper()
	eventually(r.t, time.Minute, func() error {
		all := r.proxies()
		for _, p := range all {
			if p.State == "lost" {
				r.api("DELETE", "/api/v1/proxies/"+p.ID, nil)
			}
		}
		if len(all) != 1 || len(all[0].VMs) != r.workers()+1 || !all[0].Current {
			return fmt.Errorf("the controller knows the proxies %+v, want one with %d VMs that are current", all, r.workers()+1)
		}
		return nil
	})
}

func (r *rig) workers() int { return cmp.Or(r.options.workers, 2) }

// eventually polls until check returns nil.
func eventually(t *testing.T, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", timeout, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// visitor is somebody at an address who sends requests through Envoy, each over a
// connection of its own and thus to any worker.
type visitor struct {
	t      *testing.T
	proxy  string // host:port
	client *http.Client
}

func (r *rig) visitor(from string) *visitor {
	return newVisitor(r.t, from, r.edge.Addr())
}

func newVisitor(t *testing.T, from, proxy string) *visitor {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &visitor{t, proxy, &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type answer struct {
	Status int
	Header http.Header
	Body   string
}

// try sends a request. Headers come in pairs; "Host" sets the authority.
func (v *visitor) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+v.proxy+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body == "" {
		req.Body = http.NoBody
	}
	req.Header.Set("User-Agent", "scenario")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data)}, err
}

func (v *visitor) do(method, path, body string, headers ...string) answer {
	v.t.Helper()
	a, err := v.try(v.t.Context(), method, path, body, headers...)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (v *visitor) get(path string, headers ...string) answer {
	v.t.Helper()
	return v.do("GET", path, "", headers...)
}

// echo is what the app saw of a GET /echo that has to pass.
func (v *visitor) echo(headers ...string) demo.Echo {
	v.t.Helper()
	a := v.get("/echo", headers...)
	if a.Status != http.StatusOK {
		v.t.Fatalf("GET /echo: %d %s, want 200", a.Status, a.Body)
	}
	var e demo.Echo
	must(v.t, json.Unmarshal([]byte(a.Body), &e))
	return e
}

// lane is one kept connection, and so one worker. It is used by one goroutine.
type lane struct {
	client *http.Client
	proxy  string
	worker string
	dials  int
}

func newLane(proxy string) *lane {
	return &lane{proxy: proxy, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true},
	}}
}

// sample is one request of a lane.
type sample struct {
	start, end time.Time
	status     int
	body       string
	err        error
}

func (l *lane) get(ctx context.Context, path string, headers ...string) (s sample) {
	return l.do(ctx, "GET", path, "", headers...)
}

func (l *lane) do(ctx context.Context, method, path, body string, headers ...string) (s sample) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ConnectStart: func(string, string) { l.dials++ }})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.proxy+path, strings.NewReader(body))
	if err != nil {
		return sample{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	s.start = time.Now()
	resp, err := l.client.Do(req)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		s.status, s.body = resp.StatusCode, string(data)
	}
	s.end, s.err = time.Now(), err
	return s
}

func (l *lane) close() { l.client.CloseIdleConnections() }

// lanes opens connections until it has one on each of the workers. Envoy's own counters
// tell which worker took a connection.
func (r *rig) lanes(workers int) []*lane {
	r.t.Helper()
	counts := func() map[string]int64 {
		stats, err := r.envoy.Stats(`^listener\..*\.worker_[0-9]+\.downstream_cx_total$`)
		must(r.t, err)
		return stats
	}
	byWorker := map[string]*lane{}
	for range 400 {
		before := counts()
		l := newLane(r.edge.Addr())
		if s := l.get(r.t.Context(), "/healthz"); s.err != nil {
			r.t.Fatal(s.err)
		}
		for name, n := range counts() {
			if n > before[name] {
				l.worker = name
			}
		}
		if l.worker == "" || byWorker[l.worker] != nil {
			l.close()
			continue
		}
		byWorker[l.worker] = l
		r.t.Cleanup(l.close)
		if len(byWorker) == workers {
			var lanes []*lane
			for l := range maps.Values(byWorker) {
				lanes = append(lanes, l)
			}
			return lanes
		}
	}
	r.t.Fatalf("400 connections reached %d workers of %d", len(byWorker), workers)
	return nil
}

// stat is the value of the only stat that matches.
func (r *rig) stat(filter string) int64 {
	r.t.Helper()
	stats, err := r.envoy.Stats(filter)
	must(r.t, err)
	if len(stats) != 1 {
		r.t.Fatalf("stats matching %s: %v, want one", filter, stats)
	}
	for _, n := range stats {
		return n
	}
	return 0
}

// accessLog reads Envoy's access log once it has a line for which want is true; Envoy
// writes with a delay.
func (r *rig) accessLog(want func(map[string]any) bool) map[string]any {
	r.t.Helper()
	var found map[string]any
	eventually(r.t, 15*time.Second, func() error {
		data, err := os.ReadFile(r.envoy.AccessLog)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && want(entry) {
				found = entry
				return nil
			}
		}
		return fmt.Errorf("no such line in the access log:\n%s", data)
	})
	return found
}
