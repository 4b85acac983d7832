//go:build !wasm

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about the bounds on paused requests (maxPausedRequests,
// maxPausedBytes), which protect the memory of the module and of Envoy from clients that begin
// requests and do not end them. A request is paused until the first state arrives or until its body
// decides; in read-only that is the case for a GraphQL POST.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays. A
// request that is sent in steps is an exchange, and its outcome is what has become of it so far.
// aQuery is a GraphQL body that may pass in read-only, aMutation one that must not.

// The number of paused requests has a bound. A further request that would be paused is refused, and
// told to come again soon; other requests are decided as always.
func TestNumberOfPausedRequestsIsBounded(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		// refusedAsTooMany checks that a request was refused because of the bound, and ends it.
		refusedAsTooMany := func(x exchange) {
			t.Helper()
			o := x.outcomeSoFar()
			wantRefused(t, o, maintenance.RuleHeldLimit)
			if o.reply.status != 503 || o.reply.headers["retry-after"] != "5" || !strings.Contains(o.reply.body, "Too many requests are waiting") {
				t.Errorf("got %s", o)
			}
			x.disconnect()
		}

		// Before the first state every request is paused.
		get := w.begin("GET", "/", endOfStream)
		crowd := []exchange{get}
		for len(crowd) < maxPausedRequests {
			crowd = append(crowd, w.beginGraphQL())
		}
		refusedAsTooMany(w.begin("GET", "/", endOfStream))

		// Then all but the GET remain paused, for their bodies. This makes room for one request.
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, get.outcomeSoFar())
		crowd[0] = w.beginGraphQL()
		wantPaused(t, crowd[0].outcomeSoFar())
		refusedAsTooMany(w.beginGraphQL())

		// Requests that would not be paused are decided as always.

		wantPassed(t, w.request("GET", "/", ""))
		wantRefused(t, w.request("PUT", "/cart", "x"), maintenance.RuleMethod)
		w.tick()

		w.wantMetric("held_limit", 2) // the two that were refused as too many
		w.wantMetric("blocked", 3)    // and the PUT
		w.wantMetric("held_requests", maxPausedRequests)
		if n := w.metric("drydock.edge.held_bytes"); n < maxPausedRequests*streamBytes || n > maxPausedBytes {
			t.Errorf("held_bytes = %d", n)
		}

		// Three of them end in three ways, which makes room for three others.
		crowd[7].disconnect()
		crowd[8].send(aMutation, endOfStream)
		wantRefused(t, crowd[8].outcomeSoFar(), "graphql.mutation")
		crowd[9].send(aQuery, endOfStream)
		wantPassed(t, crowd[9].outcomeSoFar())
		for range 3 {
			wantPaused(t, w.beginGraphQL().outcomeSoFar())
		}
		refusedAsTooMany(w.beginGraphQL())

		// While so many requests are paused, none of them is paused for longer than crowdedTimeout.
		// A tick answers at most maxResumed of them.
		w.runFor(crowdedTimeout + 2*maxPausedRequests/maxResumed*tickPeriod)
		wantRefused(t, crowd[20].outcomeSoFar(), maintenance.RuleBodyTimeout)
		wantPassed(t, w.graphQL(aQuery))
		w.wantMetric("held_requests", 0)
		w.wantMetric("held_bytes", 0)
	})
}

// The bytes of paused requests have a bound as well, which counts headers.
func TestHeadersOfPausedRequestsAreBoundedCompiled(t *testing.T) {
	big := strings.Repeat("x", 57<<10) // Envoy accepts up to 60 kB of headers by default.

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))

		var crowd []exchange
		for {
			x := w.begin("POST", "/graphql", moreFollows, "content-type", "application/json", "accept", big)
			if o := x.outcomeSoFar(); o.reply != nil {
				wantRefused(t, o, maintenance.RuleHeldLimit)
				break
			}

			crowd = append(crowd, x)
			if len(crowd) > maxPausedBytes/len(big)+1 {
				t.Fatalf("%d requests with 57 kB of headers are paused", len(crowd))
			}
		}

		w.tick() // sets the metrics
		if n := w.metric("drydock.edge.held_bytes"); n > maxPausedBytes || n < maxPausedBytes-2*len(big) {
			t.Errorf("held_bytes = %d with %d paused, want about %d", n, len(crowd), maxPausedBytes)
		}
		w.wantMetric("held_limit", 1)
		w.wantMetric("errors", 0)
	})
}

// The bound on bytes counts the bodies that Envoy buffers, too.
func TestBodiesOfPausedRequestsAreBoundedCompiled(t *testing.T) {
	part := strings.Repeat(" ", 900<<10)               // less than the filter reads of a body, 1 MiB
	fits := maxPausedBytes / (len(part) + streamBytes) // the headers are small

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))

		for n := range fits {
			x := w.beginGraphQL()
			x.send(part, moreFollows)
			if o := x.outcomeSoFar(); o.reply != nil {
				t.Fatalf("body %d: %.200s", n, o)
			}
		}
		x := w.beginGraphQL()
		x.send(part, moreFollows)
		wantRefused(t, x.outcomeSoFar(), maintenance.RuleHeldLimit)

		wantPassed(t, w.graphQL(aQuery)) // There is room for short bodies, which are decided at once.
		w.wantMetric("held_limit", 1)
		w.wantMetric("errors", 0)
	})
}

// A part of a body can exceed the bound at a moment when its request must not be paused any more:
// boot_wait is over, and the next tick, which resumes the paused requests, has not come. The
// request is then resumed or answered at once, and not paused again with nothing left to resume it.
func TestBodyThatExceedsTheBoundAfterBootWaitIsNotLostCompiled(t *testing.T) {
	for _, end := range []bool{endOfStream, moreFollows} {
		testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
			w.tick()
			part := strings.Repeat(" ", 900<<10)

			const nearlyTooMany = 72 // of 900 kB each; one part more exceeds maxPausedBytes
			var crowd []exchange
			for range nearlyTooMany {
				x := w.beginGraphQL()
				x.send(part, moreFollows)
				crowd = append(crowd, x)
			}

			w.advance(2100 * time.Millisecond) // boot_wait is 2 s by default.
			crowd[3].send(part, end)
			w.runFor(time.Second)
			if o := crowd[3].outcomeSoFar(); o.reply == nil && o.headers == nil {
				t.Errorf("the request is neither answered nor resumed: %.200s", o)
			}
			w.wantMetric("errors", 0)
		})
	}
}

// Many requests that were paused for the first state are resumed or answered maxResumed at a time,
// since Envoy cannot do so for thousands at once. While some are left, ticks come every millisecond
// instead of every 50.
func TestManyPausedRequestsAreResumedInPartsCompiled(t *testing.T) {
	const requests = 1000

	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.NoAccess} {
		var periods []string // in milliseconds, as the plugin has set them
		trace := func(c wasmhost.Call) {
			if c.Func == "proxy_set_tick_period_milliseconds" {
				periods = append(periods, c.Args)
			}
		}

		testCompiled(t, setup{config: bootstrapConfig, trace: trace}, func(t *testing.T, w *world) {
			periods = nil // without what the start of the plugin set

			var crowd []exchange
			for range requests {
				crowd = append(crowd, w.begin("GET", "/", endOfStream))
			}

			w.startWith(doc(1, appIn(mode))) // resumes the first part
			for range requests / maxResumed {
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
			if !slices.Equal(periods, []string{"1", "50"}) {
				t.Errorf("the tick periods were set to %v, want 1 and then 50", periods)
			}
			w.wantMetric("errors", 0)
		})
	}
}
