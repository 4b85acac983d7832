//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The number of paused requests has a bound. A further request that would be paused is refused, and
// told to come again soon; other requests are decided as always.
func TestNumberOfPausedRequestsIsBounded(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		get := w.begin("GET", "/", endOfStream)
		crowd := []exchange{get}
		for len(crowd) < maxPausedRequests {
			crowd = append(crowd, w.beginGraphQL())
		}

		tooMany := func(x exchange) {
			t.Helper()
			o := x.outcomeSoFar()
			wantRefused(t, o, maintenance.RuleHeldLimit)
			if o.reply.status != 503 || o.reply.headers["retry-after"] != "5" || !strings.Contains(o.reply.body, "Too many requests are waiting") {
				t.Errorf("got %s", o)
			}
			x.disconnect()
		}

		tooMany(w.begin("GET", "/", endOfStream))
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, get.outcomeSoFar())

		crowd[0] = w.beginGraphQL()
		wantPaused(t, crowd[0].outcomeSoFar())
		tooMany(w.beginGraphQL())

		wantPassed(t, w.request("GET", "/", ""))
		wantRefused(t, w.request("PUT", "/cart", "x"), maintenance.RuleMethod)
		w.tick()

		w.wantMetric("held_limit", 2)
		w.wantMetric("blocked", 3)
		w.wantMetric("held_requests", maxPausedRequests)
		if n := w.metric("drydock.edge.held_bytes"); n < maxPausedRequests*streamBytes || n > maxPausedBytes {
			t.Errorf("held_bytes = %d", n)
		}

		crowd[7].disconnect()
		crowd[8].send(aMutation, endOfStream)
		crowd[9].send(aQuery, endOfStream)
		wantPassed(t, crowd[9].outcomeSoFar())
		for range 3 {
			wantPaused(t, w.beginGraphQL().outcomeSoFar())
		}
		tooMany(w.beginGraphQL())

		// While so many requests are paused, none of them is paused for long.
		w.runFor(crowdedTimeout + 2*maxPausedRequests/maxResumed*tickPeriod)
		wantRefused(t, crowd[20].outcomeSoFar(), maintenance.RuleBodyTimeout)
		wantPassed(t, w.graphQL(aQuery))
		w.wantMetric("held_requests", 0)
		w.wantMetric("held_bytes", 0)
	})
}

// The bytes of paused requests have a bound as well, which counts headers and bodies.
func TestBytesOfPausedRequestsAreBoundedCompiled(t *testing.T) {
	big := strings.Repeat("x", 57<<10)

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))

		var crowd []exchange
		for i := 0; ; i++ {
			x := w.begin("POST", "/graphql", moreFollows, "content-type", "application/json", "accept", big)
			if x.outcomeSoFar().reply != nil {
				wantRefused(t, x.outcomeSoFar(), maintenance.RuleHeldLimit)
				break
			}
			if crowd = append(crowd, x); i > maxPausedBytes/len(big) {
				t.Fatalf("%d requests with 57 kB of headers are paused", i)
			}
		}

		w.tick()
		if n := w.metric("drydock.edge.held_bytes"); n > maxPausedBytes || n < maxPausedBytes-2*len(big) {
			t.Errorf("held_bytes = %d with %d paused", n, len(crowd))
		}

		for _, x := range crowd {
			x.disconnect()
		}

		part := strings.Repeat(" ", 900<<10)
		n := 0
		for ; n < 100; n++ {
			x := w.beginGraphQL()
			if x.send(part, moreFollows); x.outcomeSoFar().reply != nil {
				wantRefused(t, x.outcomeSoFar(), maintenance.RuleHeldLimit)
				break
			}
		}
		if n != maxPausedBytes/(len(part)+streamBytes) {
			t.Errorf("%d bodies of 900 kB are paused", n)
		}

		wantPassed(t, w.graphQL(aQuery)) // There is room for short bodies, which are decided at once.
		w.wantMetric("held_limit", 2)
		w.wantMetric("errors", 0)
	})
}

// A request that is resumed or answered while a part of its body arrives is not paused again. Here
// boot_wait is over and the next tick has not come when the bound is exceeded.
func TestBodyThatExceedsTheBoundAfterBootWaitIsNotLostCompiled(t *testing.T) {
	for _, end := range []bool{true, false} {
		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			w.tick()
			part := strings.Repeat(" ", 900<<10)

			var crowd []exchange
			for range 72 {
				x := w.beginGraphQL()
				x.send(part, moreFollows)
				crowd = append(crowd, x)
			}

			w.advance(2100 * time.Millisecond)
			crowd[3].send(part, end)
			w.runFor(time.Second)
			if o := crowd[3].outcomeSoFar(); o.reply == nil && o.headers == nil {
				t.Errorf("the request is neither answered nor resumed: %.200s", o)
			}
			w.wantMetric("errors", 0)
		})
	}
}

// Many requests that were paused for the first state are resumed or answered in parts, since Envoy
// cannot do so for thousands at once. The next part follows soon, and not only a tick later.
func TestManyPausedRequestsAreResumedInPartsCompiled(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.NoAccess} {
		periods := map[string]int{}
		testCompiled(t, setup{config: bootstrapConfig, trace: func(c wasmhost.Call) {
			if c.Func == "proxy_set_tick_period_milliseconds" {
				periods[c.Args]++
			}
		}}, func(t *testing.T, w *world) {
			clear(periods)

			var crowd []exchange
			for range 1000 {
				crowd = append(crowd, w.begin("GET", "/", endOfStream))
			}

			w.startWith(doc(1, appIn(mode)))
			for range 1000 / maxResumed {
				w.tick()
			}

			for _, x := range crowd {
				if o := x.outcomeSoFar(); mode == maintenance.Off {
					wantPassed(t, o)
				} else {
					wantRefused(t, o, maintenance.RuleNoAccess)
				}
			}

			w.tick()
			if periods["1"] != 1 || periods["50"] != 1 { // The start was not traced.
				t.Errorf("tick periods were set: %v", periods)
			}
			w.wantMetric("errors", 0)
		})
	}
}
