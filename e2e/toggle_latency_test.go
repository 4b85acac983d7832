package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// TestToggleLatency measures the time from the answer of the API to a toggle until the last worker
// enforces it. Probes run all the time on one connection to each worker, so the figure includes the
// time of one probe.
func TestToggleLatency(t *testing.T) {
	const workers, toggles = 4, 50
	d := deploy(t, deployOptions{workers: workers})
	d.putApp(maintenance.Spec{Name: "default"})
	conns := d.workerConns(workers)

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	probes := make([]*workerProbe, workers)
	for i, c := range conns {
		probes[i] = &workerProbe{}
		running.Go(func() { probes[i].run(ctx, c) })
	}

	var on, off []time.Duration
	for i := range toggles {
		d.activate("default", maintenance.NoAccess, fmt.Sprintf("toggle %d", i))
		on = append(on, awaitAllWorkers(t, probes, time.Now(), http.StatusServiceUnavailable))
		d.deactivate("default")
		off = append(off, awaitAllWorkers(t, probes, time.Now(), http.StatusOK))
	}

	for i, c := range conns {
		if c.dials != 1 {
			t.Errorf("the probe of worker %d opened %d connections, so it may have reached another worker", i, c.dials)
		}
	}

	t.Logf("MEASURED on → last of %d workers, %d toggles: %s", workers, toggles, spread(on))
	t.Logf("MEASURED off → last of %d workers, %d toggles: %s", workers, toggles, spread(off))
	// 150 ms is the aim, but only on an idle machine. This bound only detects a poll that a change
	// does not wake.
	if p99 := percentile(on, 99); p99 > 2*time.Second {
		t.Errorf("p99 of on → last worker is %v", p99)
	}
}

// workerProbe records what one worker answers.
type workerProbe struct {
	mu      sync.Mutex
	samples []sample // since the last toggle
	failed  error
}

// run sends one request after another until ctx is done.
func (p *workerProbe) run(ctx context.Context, c *workerConn) {
	for ctx.Err() == nil {
		s := c.get(ctx, "/api/stock")
		p.mu.Lock()
		if s.err != nil && ctx.Err() == nil {
			p.failed = s.err
		}
		p.samples = append(p.samples, s)
		p.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// awaitAllWorkers waits until every worker answers with a status, and returns how long after since
// the last worker first did. A worker that then answers with another status fails the test.
func awaitAllWorkers(t *testing.T, probes []*workerProbe, since time.Time, status int) time.Duration {
	t.Helper()
	var last time.Duration
	for i, p := range probes {
		eventually(t, 20*time.Second, func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.failed != nil {
				t.Fatal(p.failed)
			}

			first := slices.IndexFunc(p.samples, func(s sample) bool { return s.status == status })
			if first < 0 || len(p.samples) < first+3 {
				return fmt.Errorf("worker %d does not answer %d", i, status)
			}
			for _, s := range p.samples[first:] {
				if s.status != status {
					t.Fatalf("worker %d answered %d and then %d again", i, status, s.status)
				}
			}
			last = max(last, p.samples[first].end.Sub(since))
			return nil
		})
	}

	// Every worker has changed. The next samples belong to the next toggle.
	for i, p := range probes {
		p.mu.Lock()
		if s := p.samples[len(p.samples)-1]; s.status != status {
			t.Fatalf("worker %d answered %d and then %d again", i, status, s.status)
		}
		p.samples = p.samples[:0]
		p.mu.Unlock()
	}

	return max(0, last)
}

// spread describes the distribution of durations in milliseconds.
func spread(d []time.Duration) string {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("median %.0f ms, p99 %.0f ms, max %.0f ms",
		ms(percentile(d, 50)), ms(percentile(d, 99)), ms(slices.Max(d)))
}

// percentile returns the p-th percentile of d by the nearest-rank method.
func percentile(d []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
