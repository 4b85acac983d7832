package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A new Envoy serves before the filter has its first state from the controller. Until the state
// comes, and for at most boot_wait (a setting of the plugin, two seconds in the bootstraps), the
// filter pauses requests. Without a state after that, the setting "unknown" decides: "allow" (in
// most bootstraps) or "deny". GET /healthz is exempt in the bootstraps and passes at once.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). activate puts an app into a mode and does not wait, since Envoy does not
// run yet. A visitor is a client of Envoy (clients_test.go). startPolling starts several visitors
// that request one path again and again. The app default applies to every request that no other app
// matches.

// An Envoy that starts during a maintenance does not let a single request pass, and answers health
// checks from the start.
func TestNewEnvoyLeaksNothingDuringMaintenance(t *testing.T) {
	for _, tt := range []struct {
		name              string
		bootstrap         string
		withoutController bool
	}{
		{"with a controller", "drydock.yaml", false},
		{"without a controller, unknown: deny", "unknown-deny.yaml", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := deploy(t, deployOptions{bootstrap: tt.bootstrap, withoutController: tt.withoutController, withoutEnvoy: true})
			if !tt.withoutController {
				d.putApp(maintenance.Spec{Name: "default"})
				d.activate("default", maintenance.NoAccess, "closed")
			}

			visitors, stopVisitors := d.startPolling(4, "/")
			probes, stopProbes := d.startPolling(1, "/healthz")
			d.startEnvoy()
			ready := time.Now()
			time.Sleep(4 * time.Second) // longer than boot_wait
			stopVisitors()
			stopProbes()

			visitors.wantOnly(t, http.StatusServiceUnavailable)
			probes.wantOnly(t, http.StatusOK)
			healthChecks := probes.byStatus[http.StatusOK]
			if n := d.app.Requests(); n != int64(healthChecks) {
				t.Errorf("%d requests reached the app, of which %d were health checks", n, healthChecks)
			}

			// The delay is negative if the answer came before startEnvoy noticed that Envoy was
			// ready. A health check that was paused for boot_wait would take two seconds.
			delay := probes.firstAnswer.Sub(ready)
			if delay > time.Second {
				t.Errorf("the first health check was answered %v after Envoy was ready", delay)
			}
			t.Logf("visitors %v, health checks %v; the first one was answered %v after Envoy was ready", visitors.byStatus, probes.byStatus, delay)
		})
	}
}

// Without a controller, requests to a new Envoy pass (unknown: allow), because Drydock must never
// cause an outage. They are paused for at most boot_wait, and counted as unknown. An Envoy that has
// had a state keeps it without a controller.
func TestRequestsPassWithoutController(t *testing.T) {
	d := deploy(t, deployOptions{withoutController: true})
	v := d.visitorFrom("127.0.0.1")
	if a := v.get("/"); a.Status != http.StatusOK {
		t.Errorf("GET / without a controller: %d, want 200", a.Status)
	}
	if n := d.onlyStat(`wasmcustom.*\.unknown$`); n == 0 {
		t.Error("the unknown counter is 0")
	}

	// Envoy follows a controller that starts later.
	d.startController()
	d.awaitProxy()
	d.putApp(maintenance.Spec{Name: "default"})
	d.enforce("default", maintenance.NoAccess, "closed")
	if a := v.get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / once the controller runs: %d, want 503", a.Status)
	}

	// Envoy keeps the state when the controller is gone again.
	d.controller.Kill()
	time.Sleep(3 * time.Second) // the filter's next polls fail
	if a := v.get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / after the controller was killed: %d, want 503", a.Status)
	}
}

// Requests that begin before a new Envoy has its first state keep their whole bodies: an upload
// continues, however long it is, and a body that read-only must judge is read to its end.
func TestBodiesBegunBeforeTheFirstStateArriveWhole(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
		onOldestAndNewestEnvoy(t, func(t *testing.T, version string) { testBodiesBeforeTheFirstState(t, version, mode) })
	}
}

func testBodiesBeforeTheFirstState(t *testing.T, version string, mode maintenance.Mode) {
	const bootWait = 30 // seconds: longer than the controller takes to come back
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{version: version, upstream: app.addr, workers: 1, withoutEnvoy: true, edit: setBootWait(t, bootWait)})

	// In read-only, PUT /upload is a write that passes. With AllowOverrides, read-only need not
	// search its body for a method override, so the upload may be longer than Envoy's buffer.
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{WriteThrough: []maintenance.PathRule{
		{Methods: []string{"PUT"}, Path: "/upload", Allow: []maintenance.Allowance{maintenance.AllowOverrides}},
	}}})
	uploadMethod := "POST"
	if mode != maintenance.Off {
		d.activate("default", mode, "closed")
		uploadMethod = "PUT"
	}

	// The state is in the controller's data directory, and Envoy has to wait for it.
	d.controller.Kill()
	d.startEnvoy()

	const query, mutation = `{"query":"{orders{id}}"}`, `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`
	upload := strings.Repeat("x", 3<<20) // three times Envoy's buffer, of which 700 KiB come first
	requests := []*splitRequest{
		{name: "a long JSON upload", method: uploadMethod, path: "/upload", kind: "application/json", before: upload[:700<<10], after: upload[700<<10:]},
		{name: "a query", method: "POST", path: "/graphql", kind: "application/json", before: query[:9], after: query[9:]},
		{name: "a whole query", method: "POST", path: "/graphql", kind: "application/json", before: query},
		{name: "a mutation", method: "POST", path: "/graphql", kind: "application/json", before: mutation[:9], after: mutation[9:]},
		{name: "a GET", method: "GET", path: "/", kind: "text/plain"},
	}

	state := make(chan struct{})
	for _, r := range requests {
		r.send(t, d.envoyPort.Addr(), state)
	}
	time.Sleep(500 * time.Millisecond) // the first parts arrive at Envoy
	d.startController()
	d.awaitProxy()
	close(state)

	for _, r := range requests {
		refused := r.name == "a mutation" && mode == maintenance.ReadOnly
		want := http.StatusOK
		if refused {
			want = http.StatusServiceUnavailable
		}
		if <-r.done; r.err != nil || r.status != want {
			t.Errorf("%s, %s: %d (%v), want %d", mode, r.name, r.status, r.err, want)
		}

		got, recorded := app.find(r.name)
		size := len(r.before) + len(r.after)
		if refused && recorded {
			t.Errorf("%s: the app received %s", mode, r.name)
		}
		if !refused && got.size != size {
			t.Errorf("%s: of %s the app received %d bytes, want %d", mode, r.name, got.size, size)
		}
	}
}

// splitRequest is a request whose client sends a part of the body before the first state arrives
// and the rest afterwards.
type splitRequest struct {
	name, method, path string // name is also the value of the header x-case
	kind               string // content type
	before, after      string // the parts of the body

	done   chan struct{} // closed once status and err are set
	status int
	err    error
}

// send starts the request and returns. The rest of the body follows after the channel state is
// closed. send uses HTTP/1.1, and so does Envoy then towards the app: with HTTP/2, Envoy 1.36 takes
// the window updates of a Go server for a flood when it has sent much at once.
func (r *splitRequest) send(t *testing.T, proxy string, state <-chan struct{}) {
	t.Helper()
	r.done = make(chan struct{})
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+proxy+r.path, body)
	must(t, err)
	req.Header.Set("x-case", r.name)
	req.Header.Set("content-type", r.kind)

	go func() {
		io.WriteString(w, r.before)
		<-state
		time.Sleep(300 * time.Millisecond) // the filter has decided to go on, or not, by then
		io.WriteString(w, r.after)
		w.Close()
	}()

	go func() {
		defer close(r.done)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		resp, err := client.Do(req)
		if err != nil {
			r.err = err
			return
		}
		resp.Body.Close()
		r.status = resp.StatusCode
	}()
}

// setBootWait returns an edit of the bootstrap that makes the filter in a new Envoy wait for its
// first state for the given number of seconds. The plugin's configuration is JSON in a string.
func setBootWait(t *testing.T, seconds int) func(bootstrap map[string]any) {
	return func(bootstrap map[string]any) {
		const before = `"boot_wait": 2`
		found := false
		for node := range Objects(bootstrap) {
			if text, ok := node["value"].(string); ok && strings.Contains(text, before) {
				found = true
				node["value"] = strings.Replace(text, before, fmt.Sprintf(`"boot_wait": %d`, seconds), 1)
			}
		}
		if !found {
			t.Fatalf("the bootstrap does not contain %s", before)
		}
	}
}
