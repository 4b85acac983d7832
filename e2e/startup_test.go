package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A new Envoy in the middle of a maintenance lets not one request through, and answers
// its probes from the start.
func TestNewEnvoyLeaksNothingDuringMaintenance(t *testing.T) {
	for _, tt := range []struct {
		name      string
		bootstrap string
		away      bool // the controller
	}{
		{"controller up", "drydock.yaml", false},
		{"controller away, unknown: deny", "unknown-deny.yaml", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := deploy(t, deployOptions{bootstrap: tt.bootstrap, withoutController: tt.away, withoutEnvoy: true})
			if !tt.away {
				d.putApp(maintenance.Spec{Name: "default"})
				d.api("POST", "/api/v1/apps/default/activations", map[string]any{"mode": maintenance.NoAccess, "message": "closed"}, "If-Match", "*")
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			visitors, probes := &poller{}, &poller{}
			var load sync.WaitGroup
			for range 4 {
				load.Go(func() { visitors.poll(ctx, d.visitor("127.0.0.1"), "/") })
			}
			load.Go(func() { probes.poll(ctx, d.visitor("127.0.0.1"), "/healthz") })
			d.startEnvoy()
			ready := time.Now()
			// Well past boot_wait, when a filter that has not learnt the state decides by
			// `unknown`.
			time.Sleep(4 * time.Second)
			cancel()
			load.Wait()

			if visitors.answers[http.StatusServiceUnavailable] == 0 || len(visitors.answers) != 1 {
				t.Errorf("visitors got %v by status, want only 503", visitors.answers)
			}
			if probes.answers[http.StatusOK] == 0 || len(probes.answers) != 1 {
				t.Errorf("probes got %v by status, want only 200", probes.answers)
			}
			if n := d.app.Requests(); n != int64(probes.answers[http.StatusOK]) {
				t.Errorf("%d requests reached the app, %d were probes", n, probes.answers[http.StatusOK])
			}
			// A probe that is held for the state is not answered in the first second.
			if late := probes.first.Sub(ready); late > time.Second {
				t.Errorf("the first probe was answered %v after Envoy was ready", late)
			}
			t.Logf("visitors %v, probes %v; first probe answered %v after ready", visitors.answers, probes.answers, probes.first.Sub(ready))
		})
	}
}

// The default lets requests pass when no state can be had: Drydock must never be the
// outage. They are held for boot_wait at most, and counted.
func TestRequestsPassWithoutController(t *testing.T) {
	d := deploy(t, deployOptions{withoutController: true})
	a := d.visitor("127.0.0.1").get("/")
	if a.Status != http.StatusOK {
		t.Errorf("GET /: %d, want 200", a.Status)
	}
	if n := d.stat(`wasmcustom.*\.unknown$`); n == 0 {
		t.Error("the unknown counter is 0")
	}
	// A controller that comes later is followed.
	d.startController()
	d.awaitProxy()
	d.putApp(maintenance.Spec{Name: "default"})
	d.on("default", maintenance.NoAccess, "closed")
	if a := d.visitor("127.0.0.1").get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / when the controller has come: %d, want 503", a.Status)
	}
	// And once known, the state outlives the controller.
	d.controller.Kill()
	time.Sleep(3 * time.Second)
	if a := d.visitor("127.0.0.1").get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / when the controller is gone again: %d, want 503", a.Status)
	}
}

// Bodies that begin before a new Envoy has its first state lose nothing: an upload goes on
// whatever its length, and what the state wants to read is read to its end.
func TestBodiesBegunBeforeTheFirstStateArriveWhole(t *testing.T) {
	const query, mutation = `{"query":"{orders{id}}"}`, `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
		onEachEnvoy(t, func(t *testing.T, version string) {
			rec := startTrailerApp(t)
			d := deploy(t, deployOptions{version: version, upstream: rec.addr, workers: 1, withoutEnvoy: true, edit: withLongBootWait})
			d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{WriteThrough: []maintenance.PathRule{{Methods: []string{"PUT"}, Path: "/upload", Allow: []maintenance.Allowance{maintenance.AllowOverrides}}}}})
			if mode != maintenance.Off {
				d.api("POST", "/api/v1/apps/default/activations", map[string]any{"mode": mode, "message": "closed"}, "If-Match", "*")
			}
			d.controller.Kill()
			d.startEnvoy()

			// In HTTP/1.1, since Envoy 1.36 takes the window updates of a Go server for a flood when
			// it has sent much at once.
			client, state := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}, make(chan struct{})
			type result struct {
				status int
				err    error
			}
			send := func(test, method, path, kind, before, after string) chan result {
				done := make(chan result, 1)
				body, w := io.Pipe()
				req, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.edge.Addr()+path, body)
				must(t, err)
				req.Header.Set("x-test", test)
				req.Header.Set("content-type", kind)
				go func() {
					io.WriteString(w, before)
					<-state
					time.Sleep(300 * time.Millisecond)
					io.WriteString(w, after)
					w.Close()
				}()
				go func() {
					resp, err := client.Do(req)
					if err != nil {
						done <- result{0, err}
						return
					}
					resp.Body.Close()
					done <- result{resp.StatusCode, nil}
				}()
				return done
			}
			long := strings.Repeat("x", 3<<20)
			results := map[string]chan result{
				"a long JSON upload": send("upload", map[maintenance.Mode]string{maintenance.Off: "POST", maintenance.ReadOnly: "PUT"}[mode], "/upload", "application/json", long[:700<<10], long[700<<10:]),
				"a query":            send("query", "POST", "/graphql", "application/json", query[:9], query[9:]),
				"a whole query":      send("whole", "POST", "/graphql", "application/json", query, ""),
				"a mutation":         send("mutation", "POST", "/graphql", "application/json", mutation[:9], mutation[9:]),
				"a GET":              send("get", "GET", "/", "text/plain", "", ""),
			}
			time.Sleep(500 * time.Millisecond)
			d.startController()
			d.awaitProxy()
			close(state)
			for name, done := range results {
				got, want := <-done, 200
				if name == "a mutation" && mode == maintenance.ReadOnly {
					want = 503
				}
				if got.err != nil || got.status != want {
					t.Errorf("%s, %s: %d (%v), want %d", mode, name, got.status, got.err, want)
				}
			}
			for test, size := range map[string]int{"upload": len(long), "query": len(query), "whole": len(query)} {
				if _, got := rec.got(test); got != size {
					t.Errorf("%s, %s: the app saw %d bytes of %d", mode, test, got, size)
				}
			}
			if saw, _ := rec.got("mutation"); saw != nil && mode == maintenance.ReadOnly {
				t.Error("the app saw the mutation")
			}
		})
	}
}

// withLongBootWait gives a new Envoy half a minute for its first state.
func withLongBootWait(tree map[string]any) {
	for node := range Objects(tree) {
		if text, ok := node["value"].(string); ok && strings.Contains(text, `"boot_wait": 2`) {
			node["value"] = strings.Replace(text, `"boot_wait": 2`, `"boot_wait": 30`, 1)
		}
	}
}
