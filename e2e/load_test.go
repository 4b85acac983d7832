package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. In no-access, all requests are refused with 503. A
// workerConn is a client with one connection, so that one worker serves all of its requests
// (clients_test.go); a sample is one request and its answer. The app default applies to every
// request that no other app matches.

// A toggle puts the app default into no-access, or out of it. Under load on two workers, with two
// hundred toggles a minute, every failed request has a 503 from the filter. No request passes from
// the moment when no-access is enforced until the next toggle, no request is refused from the
// moment when its end is enforced until the next toggle, and Envoy's memory does not grow.
func TestTogglesUnderLoad(t *testing.T) {
	t.Parallel()
	duration, toggles := 60*time.Second, 200
	if *long {
		duration, toggles = time.Hour, 12000
	}
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", Exempt: []maintenance.PathRule{{Prefix: "/echo/exempt"}}})
	load := startLoad(d)

	began := time.Now()
	interval := duration / time.Duration(toggles)
	for i := range toggles {
		next := began.Add(time.Duration(i+1) * interval)
		closed := i%2 == 0
		if closed {
			d.enforce("default", maintenance.NoAccess, fmt.Sprintf("toggle %d", i))
		} else {
			d.enforceOff("default")
		}
		enforced := time.Now()

		// On a slow machine the next toggle is late: some requests must come between the two.
		time.Sleep(max(time.Until(next), 20*time.Millisecond))
		load.checkDecided(enforced, time.Now(), closed, fmt.Sprintf("after toggle %d was enforced", i))
	}

	took := time.Since(began).Round(time.Second)
	load.stop()

	for status, n := range load.byStatus {
		if status != 200 && status != 201 && status != 503 { // 201 is a new order
			t.Errorf("%d answers with status %d", n, status)
		}
	}

	if load.byStatus[503] < toggles || load.byStatus[200] < toggles { // a few for each toggle
		t.Errorf("answers by status %v: the toggles had no effect", load.byStatus)
	}
	t.Logf("MEASURED %d toggles in %v, answers by status %v", toggles, took, load.byStatus)
	checkNoGrowth(t, load.resident)
}

// load sends requests on three connections to each of two workers and checks their answers.
type load struct {
	t    *testing.T
	stop func() // ends the requests and waits for them

	mu       sync.Mutex
	byStatus map[int]int // number of answers
	samples  []sample    // of requests that are not exempt, until checkDecided has checked them
	resident []int64     // Envoy's resident memory in bytes, twice a second; may be read after stop
}

// startLoad starts one goroutine for each connection and one that reads Envoy's memory.
func startLoad(d *deployment) *load {
	ctx, cancel := context.WithCancel(d.t.Context())
	l := &load{t: d.t, byStatus: map[int]int{}}
	var running sync.WaitGroup
	for i, c := range slices.Concat(d.workerConns(2), d.workerConns(2), d.workerConns(2)) {
		running.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				l.request(ctx, c, n)
				time.Sleep(3 * time.Millisecond)
			}
		})
	}

	running.Go(func() {
		for ctx.Err() == nil {
			rss, err := d.envoy.RSS()
			if err != nil {
				d.t.Error(err)
				return
			}
			l.resident = append(l.resident, rss)
			time.Sleep(500 * time.Millisecond)
		}
	})

	l.stop = func() {
		cancel()
		running.Wait()
	}
	d.t.Cleanup(l.stop)
	return l
}

// largeOrder is a body of two kilobytes.
var largeOrder = `{"item":"` + strings.Repeat("rope", 500) + `"}`

// request sends one request and checks and records the answer. n, which the caller counts up,
// chooses one of four kinds of requests. One kind is exempt from the maintenance.
func (l *load) request(ctx context.Context, c *workerConn, n int) {
	var s sample
	exempt := false
	switch n % 4 {
	case 0:
		s = c.get(ctx, "/api/stock", "Accept", "text/html")
	case 1:
		s = c.do(ctx, "POST", "/api/orders", largeOrder, "Content-Type", "application/json")
	case 2:
		s = c.get(ctx, fmt.Sprintf("/api/orders?n=%d", n), "Accept", "application/json")
	case 3:
		s = c.get(ctx, fmt.Sprintf("/echo/exempt/%d", n))
		exempt = true
	}
	if ctx.Err() != nil {
		return // the end of the load broke the request off
	}

	// Every message of the test's toggles begins with "toggle".
	fromFilter := s.status == http.StatusServiceUnavailable && strings.Contains(s.body, "toggle ")
	switch {
	case s.err != nil:
		l.t.Errorf("a request failed: %v", s.err)
	case exempt && s.status != http.StatusOK:
		l.t.Errorf("an exempt request was answered %d", s.status)
	case s.status >= 400 && !fromFilter:
		l.t.Errorf("an error that is not from the filter: %d %s", s.status, s.body)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.byStatus[s.status]++
	if !exempt {
		s.body = "" // no longer needed, and large
		l.samples = append(l.samples, s)
	}
}

// checkDecided checks all requests that began and ended between two moments: if wantRefused, all of
// them must have been refused, otherwise all must have passed. A request that began before the
// first moment may have either result. Requests that ended after the second moment stay in samples.
func (l *load) checkDecided(from, to time.Time, wantRefused bool, when string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()

	wrong, checked := 0, 0
	for _, s := range l.samples {
		if s.start.Before(from) || s.end.After(to) {
			continue
		}
		checked++
		refused := s.status == http.StatusServiceUnavailable
		if refused != wantRefused {
			wrong++
		}
	}

	l.samples = slices.DeleteFunc(l.samples, func(s sample) bool { return s.end.Before(to) })
	if wrong > 0 {
		l.t.Errorf("%s: %d of %d requests were decided wrongly, want refused: %v", when, wrong, checked, wantRefused)
	}
}

// checkNoGrowth checks that the resident memory, which was read twice a second, grew by less than
// 5 % since the tenth second, when Envoy's heap has reached its usual size. It compares the medians
// of five seconds, because a single reading varies with every buffer.
func checkNoGrowth(t *testing.T, resident []int64) {
	t.Helper()
	const perSecond = 2
	if len(resident) < 25*perSecond { // so that there is some time between the two medians
		t.Fatalf("only %d readings of the memory", len(resident))
	}

	median := func(window []int64) int64 { return slices.Sorted(slices.Values(window))[len(window)/2] }
	before, after := median(resident[10*perSecond:15*perSecond]), median(resident[len(resident)-5*perSecond:])
	growth := 100 * float64(after-before) / float64(before)
	t.Logf("MEASURED resident memory: %.1f MB after 10 s, %.1f MB at the end (%+.1f %%)", float64(before)/1e6, float64(after)/1e6, growth)
	if growth >= 5 {
		t.Errorf("resident memory grew by %.1f %%", growth)
	}
}
