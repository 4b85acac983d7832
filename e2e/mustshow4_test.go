package e2e

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// A new Envoy in the middle of a maintenance lets not one request through, and answers
// its probes from the start.
func TestMustShow4_ANewEnvoyLeaksNothing(t *testing.T) {
	for _, tt := range []struct {
		name      string
		bootstrap string
		away      bool // the controller
	}{
		{"controller up", "drydock.yaml", false},
		{"controller away, unknown: deny", "unknown-deny.yaml", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, rigOptions{bootstrap: tt.bootstrap, withoutController: tt.away, withoutEnvoy: true})
			if !tt.away {
				r.put(maintenance.Spec{Name: "default"})
				r.api("POST", "/api/v1/apps/default/activations", map[string]any{"mode": maintenance.NoAccess, "message": "closed"}, "If-Match", "*")
			}

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			visitors, probes := &crowd{}, &crowd{}
			var load sync.WaitGroup
			for range 4 {
				load.Go(func() { visitors.keepAsking(ctx, r.visitor("127.0.0.1"), "/") })
			}
			load.Go(func() { probes.keepAsking(ctx, r.visitor("127.0.0.1"), "/healthz") })
			r.startEnvoy()
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
			if n := r.app.Requests(); n != int64(probes.answers[http.StatusOK]) {
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
func TestMustShow4_WithoutAControllerTheDefaultLetsPass(t *testing.T) {
	r := newRig(t, rigOptions{withoutController: true})
	a := r.visitor("127.0.0.1").get("/")
	if a.Status != http.StatusOK {
		t.Errorf("GET /: %d, want 200", a.Status)
	}
	if n := r.stat(`wasmcustom.*\.unknown$`); n == 0 {
		t.Error("the unknown counter is 0")
	}
	// A controller that comes later is followed.
	r.startController()
	r.settled()
	r.put(maintenance.Spec{Name: "default"})
	r.on("default", maintenance.NoAccess, "closed")
	if a := r.visitor("127.0.0.1").get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / when the controller has come: %d, want 503", a.Status)
	}
	// And once known, the state outlives the controller.
	r.controller.Kill()
	time.Sleep(3 * time.Second)
	if a := r.visitor("127.0.0.1").get("/"); a.Status != http.StatusServiceUnavailable {
		t.Errorf("GET / when the controller is gone again: %d, want 503", a.Status)
	}
}

// crowd asks from before there is anybody to answer, and counts the answers.
type crowd struct {
	mu      sync.Mutex
	answers map[int]int
	first   time.Time
}

func (c *crowd) keepAsking(ctx context.Context, v *visitor, path string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", v.proxy, time.Second)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		conn.Close()
		// No bound from the context: what was asked is awaited, or a leak at the very
		// end would go unseen.
		a, err := v.try(context.Background(), "GET", path, "")
		c.mu.Lock()
		if c.answers == nil {
			c.answers = map[int]int{}
		}
		if err != nil {
			c.answers[-1]++
		} else {
			c.answers[a.Status]++
			if c.first.IsZero() {
				c.first = time.Now()
			}
		}
		c.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}
