//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about requests that are paused for their bodies: in read-only, a
// GraphQL request and some others are decided by what their bodies say.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays. A
// request that is sent in steps is an exchange, and its outcome is what has become of it so far.
// aQuery is a GraphQL body that may pass in read-only, aMutation one that must not.

// bodyCase is a way in which the body of a GraphQL request can arrive, and what becomes of it if
// the app reads at most readBytes of a body.
type bodyCase struct {
	name          string
	contentLength string // the header, which is left out if this is empty
	parts         []string
	// The request ends with the last part, unless trailers follow or its end never comes.
	trailers, unfinished bool

	rule   maintenance.Rule // the one that refuses the request, empty if it passes
	status int              // of the refusal
}

// readBytes is graphql.max_body in the test of the bodyCases.
const readBytes = 1000

func bodyCases() []bodyCase {
	const (
		mutation  = maintenance.Rule("graphql.mutation")
		notJSON   = maintenance.Rule("graphql.json")
		ambiguous = maintenance.Rule("graphql.json-ambiguous")
		tooLong   = maintenance.Rule("graphql.limit-body")
	)
	spaces := func(n int) string { return strings.Repeat(" ", n) } // JSON may have any between tokens
	longest := aQuery + spaces(readBytes-len(aQuery))

	return []bodyCase{
		{name: "query", parts: []string{aQuery}},
		{name: "mutation", parts: []string{aMutation}, rule: mutation, status: 503},
		{name: "query byte by byte", parts: strings.SplitAfter(aQuery, "")},
		{name: "mutation byte by byte", parts: strings.SplitAfter(aMutation, ""), rule: mutation, status: 503},
		{name: "query, then an empty end", parts: []string{aQuery, ""}},
		{name: "mutation, then an empty end", parts: []string{aMutation, ""}, rule: mutation, status: 503},
		{name: "an empty part first", parts: []string{"", aQuery}},
		{name: "query and trailers", parts: []string{aQuery}, trailers: true},
		{name: "mutation and trailers", parts: []string{aMutation}, trailers: true, rule: mutation, status: 503},
		{name: "trailers alone", trailers: true, rule: notJSON, status: 400},
		{name: "nothing", contentLength: "0", parts: []string{""}, rule: notJSON, status: 400},
		{name: "as much as is read", parts: []string{longest}},
		{name: "more than is read", parts: []string{longest, "\n"}, rule: tooLong, status: 413},
		{name: "more than is read, and not its end", parts: []string{spaces(readBytes + 1)}, unfinished: true, rule: tooLong, status: 413},
		{name: "a mutation after a query", parts: []string{aQuery, aMutation}, rule: ambiguous, status: 503},
	}
}

// In read-only a GraphQL request is paused until its body decides. The body of a refused request
// never reaches the upstream.
func TestReadOnlyDecidesByTheBody(t *testing.T) {
	// Without allow_on_headers_stop_iteration, the plugin lets the headers go on and pauses only
	// the body.
	const withoutStopIteration = `{"name": "edge"}`

	for _, c := range bodyCases() {
		t.Run(c.name, func(t *testing.T) {
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				testBody(t, w, c, false)
			})
			t.Run("neither Envoy nor the plugin pauses headers", func(t *testing.T) {
				testCompiled(t, setup{config: withoutStopIteration, withoutStopIteration: true}, func(t *testing.T, w *world) {
					testBody(t, w, c, true)
				})
			})
			t.Run("only Envoy could pause headers", func(t *testing.T) {
				testCompiled(t, setup{config: withoutStopIteration}, func(t *testing.T, w *world) {
					testBody(t, w, c, true)
				})
			})
		})
	}
}

// testBody sends the request of a case and checks its outcome. headersMayGoOn says whether the
// upstream may see its headers while it is paused.
func testBody(t *testing.T, w *world, c bodyCase, headersMayGoOn bool) {
	t.Helper()
	app := appIn(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: readBytes}
	w.startWith(doc(1, app))

	x, sent := sendBody(t, w, c, headersMayGoOn)
	o := x.outcomeSoFar()
	if headersMayGoOn && o.headers != nil {
		if o.headers["x-drydock-mode"] != "" {
			t.Errorf("the upstream saw %v although its headers had gone on before the decision", o.headers)
		}
		if c.rule != "" {
			// The upstream saw the headers of a request that was then aborted.
			if s := x.(*compiledExchange); !s.Upstream().Reset || o.ended {
				t.Errorf("the upstream saw %+v", s.Upstream())
			}
			o.headers = nil // for wantRefused
		}
	}

	if c.rule != "" {
		wantRefused(t, o, c.rule)
		if o.reply.status != c.status {
			t.Errorf("got %s, want %d", o, c.status)
		}
	} else {
		wantPassed(t, o)
		wantWholeBody(t, x, sent, c.trailers)
	}

	x.disconnect()
	w.wantMetric("misconfigured", 0)
	w.wantMetric("errors", 0)
	w.runFor(1500 * time.Millisecond) // until the next ack
	if a := w.lastAck(); a.Requests != 0 {
		t.Errorf("%d requests are left", a.Requests)
	}
}

// wantWholeBody checks that the upstream saw all of a request. The emulator shows only the end of
// the body, and nothing of it if trailers followed.
func wantWholeBody(t *testing.T, x exchange, sent string, trailers bool) {
	t.Helper()
	o := x.outcomeSoFar()
	if s, ok := x.(*compiledExchange); ok {
		if o.body != sent || !o.ended || (s.Upstream().Trailers != nil) != trailers {
			t.Errorf("the upstream saw %+v, want the body %q, and trailers: %v", s.Upstream(), sent, trailers)
		}
		return
	}

	if !strings.HasSuffix(sent, o.body) || o.body == "" && sent != "" && !trailers {
		t.Errorf("the upstream saw %q of %q", o.body, sent)
	}
}

// sendBody sends the request of a case, and checks before each part of its body that the filter has
// neither answered it nor let the upstream see too much. It returns the body that was sent.
func sendBody(t *testing.T, w *world, c bodyCase, headersMayGoOn bool) (x exchange, sent string) {
	t.Helper()
	headers := []string{"content-type", "application/json"}
	if c.contentLength != "" {
		headers = append(headers, "content-length", c.contentLength)
	}

	x = w.begin("POST", "/graphql", moreFollows, headers...)
	for i, part := range c.parts {
		o := x.outcomeSoFar()
		if o.reply != nil || o.body != "" || o.headers != nil && !headersMayGoOn {
			t.Fatalf("after %q: %s", sent, o)
		}

		w.runFor(300 * time.Millisecond) // slowly, but within firstByteTimeout
		isLast := i == len(c.parts)-1
		x.send(part, isLast && !c.trailers && !c.unfinished)
		sent += part
	}

	if c.trailers {
		x.sendTrailers()
	}
	return x, sent
}

// readOnlyReading returns an app in read-only that reads at most n bytes of a GraphQL body.
func readOnlyReading(n int) maintenance.App {
	app := appIn(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: n}
	return app
}

// If another state is in force when the body is there, that state decides.
func TestBodyIsDecidedByTheCurrentState(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, readOnlyReading(100)))
		passesWhenOff, refusedInNoAccess := w.beginGraphQL(), w.beginGraphQL()
		passesWhenOff.send(aMutation[:20], moreFollows)
		refusedInNoAccess.send(aQuery[:20], moreFollows)

		w.answerPoll(200, doc(2, appIn(maintenance.Off)))
		passesWhenOff.send(aMutation[20:], endOfStream)
		wantPassed(t, passesWhenOff.outcomeSoFar())

		w.answerPoll(200, doc(3, appIn(maintenance.NoAccess)))
		refusedInNoAccess.send(aQuery[20:], endOfStream)
		wantRefused(t, refusedInNoAccess.outcomeSoFar(), maintenance.RuleNoAccess)
	})
}

// If the new state reads more of a body than the last one, the request waits for that. What arrived
// before is not decided as if it were the whole. If the new state reads less, the body may be too
// long for it.
func TestNewStateReadsMoreOrLessOfABody(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, readOnlyReading(30)))
		more := w.beginGraphQL()
		more.send(aQuery[:20], moreFollows)

		w.answerPoll(200, doc(2, readOnlyReading(100)))
		more.send(aQuery[20:], moreFollows)
		more.send(strings.Repeat(" ", 40), moreFollows) // 62 bytes by now
		wantPaused(t, more.outcomeSoFar())
		more.send(aMutation, endOfStream)
		wantRefused(t, more.outcomeSoFar(), "graphql.json-ambiguous")

		less := w.beginGraphQL()
		less.send(aQuery, moreFollows)
		w.answerPoll(200, doc(3, readOnlyReading(10)))
		less.send(" ", endOfStream)
		wantRefused(t, less.outcomeSoFar(), "graphql.limit-body")
	})
}

// A request whose body does not begin to arrive goes on after firstByteTimeout if its app is off by
// then.
func TestMissingBodyGoesOnWhenOff(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		x := w.beginGraphQL()
		w.answerPoll(200, doc(2, appIn(maintenance.Off)))

		w.runFor(firstByteTimeout + 2*tickPeriod)
		x.send(aMutation, endOfStream)
		wantPassed(t, x.outcomeSoFar())
	})
}

// A body that cannot be read is not taken for an empty one: the request is refused.
func TestUnreadableBodyIsRefusedCompiled(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}
	failures := []wasmhost.Status{wasmhost.StatusNotFound, wasmhost.StatusBadArgument, wasmhost.StatusInternalFailure}
	paths := []string{"/save", "/graphql"} // Both are decided by their bodies.

	readStatus := wasmhost.StatusOK // what each read of a body returns
	s := setup{config: bootstrapConfig, fault: func(function string) wasmhost.Status {
		if function == "proxy_get_buffer_bytes" {
			return readStatus
		}
		return wasmhost.StatusOK
	}}

	testCompiled(t, s, func(t *testing.T, w *world) {
		readStatus = wasmhost.StatusOK // The plugin reads its state and its configuration in this way, too.
		w.startWith(doc(1, app))

		for _, readStatus = range failures {
			for _, path := range paths {
				x := w.begin("POST", path, moreFollows, "content-type", "application/json")
				x.send(`{}`, endOfStream)

				o := x.outcomeSoFar()
				wantRefused(t, o, maintenance.RuleBodyUnread)
				if o.reply.status != 503 || o.reply.headers["retry-after"] != "5" {
					t.Errorf("got %s", o)
				}
				x.disconnect()
			}
		}

		w.wantMetric("errors", len(failures)*len(paths))
		readStatus = wasmhost.StatusOK // for the start of the next environment
	})
}

// A request that is paused for its body is refused if the whole body does not arrive in time.
func TestIncompleteBodyTimesOut(t *testing.T) {
	for _, c := range []struct {
		config  string
		timeout time.Duration
	}{
		{bootstrapConfig, 30 * time.Second}, // the default of body_timeout
		{`{"name": "edge", "allow_on_headers_stop_iteration": true, "body_timeout": 7.5}`, 7500 * time.Millisecond},
	} {
		testEverywhere(t, setup{config: c.config}, func(t *testing.T, w *world) {
			w.startWith(doc(1, appIn(maintenance.ReadOnly)))
			x := w.beginGraphQL()
			for i := range 6 {
				// Neither slow parts nor new states give it more time.
				x.send(aQuery[i:i+1], moreFollows)
				w.runFor(time.Second)
				w.answerPoll(200, doc(uint64(i+2), appIn(maintenance.ReadOnly)))
			}

			w.runFor(c.timeout - 6*time.Second - tickPeriod)
			wantPaused(t, x.outcomeSoFar())

			w.runFor(2 * tickPeriod)
			o := x.outcomeSoFar()
			wantRefused(t, o, maintenance.RuleBodyTimeout)
			if o.reply.status != 503 || o.reply.headers["retry-after"] != "5" || !strings.Contains(o.reply.body, "did not arrive in time") {
				t.Errorf("got %s", o)
			}

			w.wantMetric("misconfigured", 0)
			w.wantMetric("errors", 0)
			w.wantMetric("held_requests", 0)
		})
	}
}

// If the app is off when its body times out, the request goes on with the next part of its body,
// and nothing of it is lost.
func TestTimedOutBodyGoesOnWhenOffCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		x := w.beginGraphQL()
		x.send(aMutation[:7], moreFollows)
		w.runFor(29 * time.Second)

		w.answerPoll(200, doc(2, appIn(maintenance.Off)))
		w.runFor(5 * time.Second) // past body_timeout, which is 30 s by default

		x.send(aMutation[7:9], moreFollows)
		x.send(aMutation[9:], endOfStream)
		if o := x.outcomeSoFar(); o.reply != nil || o.body != aMutation || !o.ended {
			t.Errorf("got %s, to the end: %v", o, o.ended)
		}
		w.wantMetric("errors", 0)
	})
}

// A missing body does not count as a misconfiguration if the bodies of other requests arrived.
func TestMissingBodyTimesOut(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, w.graphQL(aQuery))

		missing, slow := w.beginGraphQL(), w.beginGraphQL()
		slow.send(aQuery[:5], moreFollows)

		w.runFor(firstByteTimeout + 2*tickPeriod)
		wantRefused(t, missing.outcomeSoFar(), maintenance.RuleBodyTimeout)

		w.runFor(20 * time.Second) // still within body_timeout
		wantPaused(t, slow.outcomeSoFar())

		slow.send(aQuery[5:], endOfStream)
		wantPassed(t, slow.outcomeSoFar())

		w.wantMetric("misconfigured", 0)
		w.wantMetric("errors", 0)
	})
}

// If only the plugin configuration has allow_on_headers_stop_iteration, the filter pauses headers
// and waits for the body, which Envoy does not show it before the headers go on. Such requests are
// answered after firstByteTimeout, which is counted and logged as a misconfiguration.
func TestMissingBodiesShowAMisconfigurationCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig, withoutStopIteration: true}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))

		x, y := w.beginGraphQL(), w.beginGraphQL()
		x.send(aQuery, endOfStream)
		w.runFor(firstByteTimeout - tickPeriod)
		wantPaused(t, x.outcomeSoFar())

		w.runFor(3 * tickPeriod)
		wantRefused(t, x.outcomeSoFar(), maintenance.RuleBodyTimeout)
		wantRefused(t, y.outcomeSoFar(), maintenance.RuleBodyTimeout)
		if o := x.outcomeSoFar(); o.reply.status != 503 || o.reply.details != "drydock:read-only.body-timeout" {
			t.Errorf("got %s, %s", o, o.reply.details)
		}

		w.wantMetric("misconfigured", 2)
		w.wantMetric("errors", 2)
		if w.countLogged("allow_on_headers_stop_iteration") != 1 {
			t.Errorf("logged %q", w.logged())
		}
	})
}

// If the app reads longer bodies than Envoy buffers (1 MiB by default,
// per_connection_buffer_limit_bytes), Envoy answers those that do not fit.
func TestEnvoyAnswersBodiesPastItsOwnLimitCompiled(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))

		x := w.beginGraphQL()
		for range 3 {
			x.send(strings.Repeat(" ", 512<<10), moreFollows) // 1.5 MiB in all
		}

		s := x.(*compiledExchange)
		if s.Downstream().Status() != 413 || s.Details() != "request_payload_too_large" || s.Upstream().Headers != nil {
			t.Errorf("the client saw %+v, %s; the upstream %+v", s.Downstream(), s.Details(), s.Upstream())
		}

		w.runFor(10 * time.Second)
		if a := w.lastAck(); a.Requests != 0 {
			t.Errorf("%d requests are left", a.Requests)
		}
		w.wantMetric("errors", 0)
		w.wantMetric("misconfigured", 0)
	})
}
