//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// A bodyCase is a way in which the body of a GraphQL request can arrive.
type bodyCase struct {
	name     string
	headers  string
	parts    []string
	trailers bool
	rule     maintenance.Rule // the one that refuses the request, empty if it passes
	status   int
}

var bodies = []bodyCase{
	{"query", "", []string{aQuery}, false, "", 0},
	{"mutation", "", []string{aMutation}, false, "graphql.mutation", 503},
	{"query in parts", "", strings.SplitAfter(aQuery, ""), false, "", 0},
	{"mutation in parts", "", strings.SplitAfter(aMutation, ""), false, "graphql.mutation", 503},
	{"query, then an empty end", "", []string{aQuery, ""}, false, "", 0},
	{"mutation, then an empty end", "", []string{aMutation, ""}, false, "graphql.mutation", 503},
	{"an empty part first", "", []string{"", aQuery}, false, "", 0},
	{"query and trailers", "", []string{aQuery}, true, "", 0},
	{"mutation and trailers", "", []string{aMutation}, true, "graphql.mutation", 503},
	{"trailers alone", "", nil, true, "graphql.json", 400},
	{"nothing", "content-length,0", []string{""}, false, "graphql.json", 400},
	{"as much as is read", "", []string{aQuery + strings.Repeat(" ", 1000-len(aQuery))}, false, "", 0},
	{"more than is read", "", []string{aQuery + strings.Repeat(" ", 1000-len(aQuery)), "\n"}, false, "graphql.limit-body", 413},
	{"more than is read, and not its end", "", []string{strings.Repeat(" ", 1001)}, false, "graphql.limit-body", 413},
	{"a mutation after it all", "", []string{aQuery, aMutation}, false, "graphql.json-ambiguous", 503},
}

// In read-only a GraphQL request is paused until its body decides. The body of a refused request
// never reaches the upstream.
func TestReadOnlyDecidesByTheBody(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 1000}
	for _, c := range bodies {
		t.Run(c.name, func(t *testing.T) {
			test := func(t *testing.T, w *world, headersGoOn bool) {
				w.startWith(doc(1, app))
				x, sent := sendBody(t, w, c, headersGoOn)

				v := x.outcomeSoFar()
				if headersGoOn && v.headers != nil {
					if v.headers["x-drydock-mode"] != "" {
						t.Errorf("the upstream saw %v although its headers had gone on", v.headers)
					}
					if c.rule != "" { // The upstream saw the headers alone, of an aborted request.
						if s := x.(*compiledExchange); !s.Upstream().Reset || v.ended {
							t.Errorf("the upstream saw %+v", s.Upstream())
						}
						v.headers = nil
					}
				}

				if c.rule != "" {
					wantRefused(t, v, c.rule)
					if v.reply.status != c.status {
						t.Errorf("got %s, want %d", v, c.status)
					}
				} else if wantPassed(t, v); !strings.HasSuffix(sent, v.body) || !c.trailers && v.body == "" && sent != "" {
					t.Errorf("the upstream saw %q of %q", v.body, sent)
				}
				if s, ok := x.(*compiledExchange); ok && c.rule == "" && (v.body != sent || !v.ended || (s.Upstream().Trailers != nil) != c.trailers) {
					t.Errorf("the upstream saw %+v", s.Upstream())
				}

				x.disconnect()
				w.wantMetric("misconfigured", 0)
				w.wantMetric("errors", 0)
				w.runFor(1500 * time.Millisecond)
				if a := w.lastAck(); a.Requests != 0 {
					t.Errorf("%d requests are left", a.Requests)
				}
			}

			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) { test(t, w, false) })
			t.Run("headers go on", func(t *testing.T) {
				testCompiled(t, setup{config: `{"name": "edge"}`, headersGoOn: true}, func(t *testing.T, w *world) { test(t, w, true) })
			})
			t.Run("headers are paused unexpectedly", func(t *testing.T) {
				testCompiled(t, setup{config: `{"name": "edge"}`}, func(t *testing.T, w *world) { test(t, w, true) })
			})
		})
	}
}

// sendBody sends a GraphQL request, and checks before each part of its body that the upstream has
// not seen too much. It returns the body that was sent.
func sendBody(t *testing.T, w *world, c bodyCase, headersGoOn bool) (x exchange, sent string) {
	t.Helper()
	headers := []string{"content-type", "application/json"}
	if c.headers != "" {
		headers = append(headers, strings.Split(c.headers, ",")...)
	}

	x = w.begin("POST", "/graphql", moreFollows, headers...)
	for i, part := range c.parts {
		if v := x.outcomeSoFar(); v.body != "" || !headersGoOn && v.headers != nil || v.reply != nil {
			t.Fatalf("after %q: %s", sent, v)
		}
		w.runFor(300 * time.Millisecond) // slowly, but within firstByteTimeout
		end := i == len(c.parts)-1 && !c.trailers && !strings.Contains(c.name, "not its end")
		x.send(part, end)
		sent += part
	}

	if c.trailers {
		x.sendTrailers()
	}
	return x, sent
}

func TestBodyIsDecidedByTheCurrentState(t *testing.T) {
	limit := func(n int) maintenance.App {
		a := appIn(maintenance.ReadOnly)
		a.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: n}
		return a
	}

	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, limit(30)))
		off, closed, open := w.beginGraphQL(), w.beginGraphQL(), w.beginGraphQL()
		off.send(aMutation[:20], moreFollows)
		closed.send(aQuery[:20], moreFollows)
		open.send(aQuery[:20], moreFollows)

		// The new state reads more: what arrived before is not decided as if it were the whole.
		w.answerPoll(200, doc(2, limit(100)))
		open.send(aQuery[20:], moreFollows)
		open.send(strings.Repeat(" ", 40), moreFollows)
		wantPaused(t, open.outcomeSoFar())
		open.send(aMutation, endOfStream)
		wantRefused(t, open.outcomeSoFar(), "graphql.json-ambiguous")

		// The new state reads less.
		less := w.beginGraphQL()
		less.send(aQuery, moreFollows)
		w.answerPoll(200, doc(3, limit(10)))
		less.send(" ", endOfStream)
		wantRefused(t, less.outcomeSoFar(), "graphql.limit-body")

		w.answerPoll(200, doc(4, appIn(maintenance.Off)))
		off.send(aMutation[20:], endOfStream)
		wantPassed(t, off.outcomeSoFar())

		w.answerPoll(200, doc(5, appIn(maintenance.NoAccess)))
		closed.send(aQuery[20:], endOfStream)
		wantRefused(t, closed.outcomeSoFar(), maintenance.RuleNoAccess)

		// A request without a body goes on after firstByteTimeout if its app is off by then.
		w.answerPoll(200, doc(6, appIn(maintenance.ReadOnly)))
		waits := w.beginGraphQL()
		w.answerPoll(200, doc(7, appIn(maintenance.Off)))
		w.runFor(5100 * time.Millisecond)
		waits.send(aMutation, endOfStream)
		wantPassed(t, waits.outcomeSoFar())
	})
}

// A body that cannot be read is not taken for an empty one: the request is refused.
func TestUnreadableBodyIsRefusedCompiled(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.ReadOnly.WriteThrough = []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/save"}}

	fails := wasmhost.StatusOK
	s := setup{config: bootstrapConfig, fault: func(function string) wasmhost.Status {
		if function == "proxy_get_buffer_bytes" {
			return fails
		}
		return wasmhost.StatusOK
	}}

	testCompiled(t, s, func(t *testing.T, w *world) {
		fails = wasmhost.StatusOK
		w.startWith(doc(1, app))

		for _, fails = range []wasmhost.Status{wasmhost.StatusNotFound, wasmhost.StatusBadArgument, wasmhost.StatusInternalFailure} {
			for _, path := range []string{"/save", "/graphql"} {
				x := w.begin("POST", path, moreFollows, "content-type", "application/json")
				x.send(`{}`, endOfStream)

				v := x.outcomeSoFar()
				wantRefused(t, v, maintenance.RuleBodyUnread)
				if v.reply.status != 503 || v.reply.headers["retry-after"] != "5" {
					t.Errorf("got %s", v)
				}
				x.disconnect()
			}
		}

		w.wantMetric("errors", 6)
		fails = wasmhost.StatusOK
	})
}

// A request that is paused for its body is refused if the whole body does not arrive in time.
func TestIncompleteBodyTimesOut(t *testing.T) {
	for _, c := range []struct {
		config  string
		timeout time.Duration
	}{
		{bootstrapConfig, 30 * time.Second},
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

			w.runFor(100 * time.Millisecond)
			v := x.outcomeSoFar()
			wantRefused(t, v, maintenance.RuleBodyTimeout)
			if v.reply.status != 503 || v.reply.headers["retry-after"] != "5" || !strings.Contains(v.reply.body, "did not arrive in time") {
				t.Errorf("got %s", v)
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
		w.runFor(5 * time.Second)

		x.send(aMutation[7:9], moreFollows)
		x.send(aMutation[9:], endOfStream)
		if v := x.outcomeSoFar(); v.reply != nil || v.body != aMutation || !v.ended {
			t.Errorf("got %s, to the end: %v", v, v.ended)
		}
		w.wantMetric("errors", 0)
	})
}

// A missing body does not count as a misconfiguration if the bodies of other requests arrived.
func TestMissingBodyTimesOut(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))
		wantPassed(t, w.graphQL(aQuery))

		x := w.beginGraphQL()
		slow := w.beginGraphQL()
		slow.send(aQuery[:5], moreFollows)

		w.runFor(5100 * time.Millisecond)
		wantRefused(t, x.outcomeSoFar(), maintenance.RuleBodyTimeout)

		w.runFor(20 * time.Second)
		wantPaused(t, slow.outcomeSoFar())

		slow.send(aQuery[5:], endOfStream)
		wantPassed(t, slow.outcomeSoFar())

		w.wantMetric("misconfigured", 0)
		w.wantMetric("errors", 0)
	})
}

// If Envoy does not pause headers although the plugin's configuration says so, no body ever
// arrives. Paused requests are then answered after 5 s, which is counted and logged.
func TestMissingBodiesShowAMisconfigurationCompiled(t *testing.T) {
	testCompiled(t, setup{config: bootstrapConfig, headersGoOn: true}, func(t *testing.T, w *world) {
		w.startWith(doc(1, appIn(maintenance.ReadOnly)))

		x, y := w.beginGraphQL(), w.beginGraphQL()
		x.send(aQuery, endOfStream)
		w.runFor(4950 * time.Millisecond)
		wantPaused(t, x.outcomeSoFar())

		w.runFor(150 * time.Millisecond)
		wantRefused(t, x.outcomeSoFar(), maintenance.RuleBodyTimeout)
		wantRefused(t, y.outcomeSoFar(), maintenance.RuleBodyTimeout)
		if v := x.outcomeSoFar(); v.reply.status != 503 || v.reply.details != "drydock:read-only.body-timeout" {
			t.Errorf("got %s, %s", v, v.reply.details)
		}

		w.wantMetric("misconfigured", 2)
		w.wantMetric("errors", 2)
		if w.countLogged("allow_on_headers_stop_iteration") != 1 {
			t.Errorf("logged %q", w.logged())
		}
	})
}

// If the app reads longer bodies than Envoy buffers, Envoy answers the bodies that do not fit.
func TestEnvoyAnswersBodiesPastItsOwnLimitCompiled(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.GraphQL = &maintenance.GraphQL{Paths: []string{"/graphql"}, MaxBody: 4 << 20}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		w.startWith(doc(1, app))

		x := w.beginGraphQL()
		for range 3 {
			x.send(strings.Repeat(" ", 512<<10), moreFollows)
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
