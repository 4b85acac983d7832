//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this file are about what a client gets from the filter. The replies themselves are
// made and tested in package maintenance, which is called the core.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.
// The outcome of a request has the reply as the filter passed it to the proxy. What the client sees
// of it, after Envoy has changed it, is known only if the test runs compiled.

// The client gets the core's reply, gRPC clients get a gRPC status, and the access log gets the
// rule as response code details. Nothing goes upstream.
func TestRefusalReachesTheClient(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		app := appIn(maintenance.NoAccess)
		app.RetryAfter = 90
		w.startWith(doc(1, app))

		const (
			noGRPC      = -1
			unavailable = 14 // UNAVAILABLE
		)
		for _, c := range []struct {
			name        string
			headers     []string // of the request: names and values in turn
			status      int
			contentType string
			body        string            // a part of the body
			grpc        int               // the gRPC status that Envoy is given
			clientSees  map[string]string // some headers, after Envoy has changed them; only compiled
		}{
			{
				name:   "curl",
				status: 503, contentType: "text/plain; charset=utf-8", body: "Back soon.\n", grpc: noGRPC,
			},
			{
				name: "browser", headers: []string{"accept", "text/html,*/*;q=0.8"},
				status: 503, contentType: "text/html; charset=utf-8", body: "Back soon.", grpc: noGRPC,
			},
			{
				name: "JSON", headers: []string{"accept", "application/json"},
				status: 503, contentType: "application/problem+json", body: `"rule":"no-access"`, grpc: noGRPC,
			},
			{
				// Envoy turns a local reply with a gRPC status into one without a body
				// (trailers-only).
				name: "gRPC", headers: []string{"content-type", "application/grpc"},
				status: 503, contentType: "", body: "Back soon.", grpc: unavailable,
				clientSees: map[string]string{
					":status": "200", "content-type": "application/grpc", "grpc-status": "14", "grpc-message": "Back soon.",
				},
			},
			{
				// gRPC-Web has the trailers in the body, which Envoy does not write.
				name: "gRPC-Web", headers: []string{"content-type", "application/grpc-web+proto"},
				status: 200, contentType: "application/grpc-web+proto", body: "grpc-status:14\r\n", grpc: noGRPC,
				clientSees: map[string]string{":status": "200", "grpc-status": "14", "grpc-message": "Back soon."},
			},
		} {
			x := w.begin("POST", "/shop.Cart/Add", moreFollows, c.headers...)
			x.send("x", endOfStream)
			o := x.outcomeSoFar()
			wantRefused(t, o, maintenance.RuleNoAccess)

			r := o.reply
			if r.status != c.status || r.headers["content-type"] != c.contentType || !strings.Contains(r.body, c.body) || r.grpc != c.grpc {
				t.Errorf("%s: got %s, gRPC status %d", c.name, o, r.grpc)
			}
			if r.headers["retry-after"] != "90" || r.headers["cache-control"] != "no-store" {
				t.Errorf("%s: got the headers %v", c.name, r.headers)
			}
			if o.note != "app=default mode=no-access rule=no-access" {
				t.Errorf("%s: noted %q", c.name, o.note)
			}

			if s, ok := x.(*compiledExchange); ok {
				got := fields(s.Downstream().Headers)
				for name, want := range c.clientSees {
					if got[name] != want {
						t.Errorf("%s: the client sees %s: %q, want %q", c.name, name, got[name], want)
					}
				}
				if o.reply.details != "drydock:no-access" || s.Details() != "drydock:no-access" {
					t.Errorf("%s: details %q, %q", c.name, o.reply.details, s.Details())
				}
			}

			x.disconnect()
		}

		w.wantMetric("blocked", 5)
		w.wantMetric("bypassed", 0)
	})
}

// The filter answers requests for the public status, /.drydock/status, while an app is in a mode or
// a window is announced. Otherwise they go on to the route that our bootstraps have for this path.
func TestFilterAnswersStatus(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		app := appIn(maintenance.NoAccess)
		app.Name, app.Match.Hosts = "shop", []string{"shop.example.com"}
		app.Activations[0].Until = startTime.Add(time.Hour)

		x := w.begin("GET", "/.drydock/status", endOfStream)
		w.tick()
		wantPaused(t, x.outcomeSoFar())

		w.answerPoll(200, docOf(1, 1, app))
		if o := x.outcomeSoFar(); o.reply == nil || o.reply.status != 200 {
			t.Fatalf("got %s", o)
		}

		for _, c := range []struct {
			method, host string
			status       int
			prefix       string // of the body
		}{
			{"GET", "shop.example.com", 200, `{"app":"shop","mode":"no-access","message":"Back soon."`},
			{"HEAD", "shop.example.com", 200, ""},
			{"GET", "other.example.com", 200, `{"app":"default","mode":"off"}`},
			{"POST", "shop.example.com", 405, ""},
		} {
			o := w.request(c.method, "/.drydock/status?x", "", ":authority", c.host)
			r := o.reply
			if r == nil || o.headers != nil {
				t.Fatalf("%s %s: got %s, want a reply", c.method, c.host, o)
			}
			if r.status != c.status || !strings.HasPrefix(r.body, c.prefix) || r.headers["cache-control"] != "no-store" {
				t.Errorf("%s %s: got %s", c.method, c.host, o)
			}
			if r.details != "" && r.details != "drydock:edge" { // empty on the emulator
				t.Errorf("details %q", r.details)
			}
		}

		// Only this path is the status. Other paths below the prefix are requests like any other.
		otherPaths := []string{
			"/.drydock/", "/.drydock/statuses", "/.drydock/status/", "/.drydock//status", "/.drydock/%73tatus",
			"/x/../.drydock/status",
		}
		for _, path := range otherPaths {
			wantRefused(t, w.request("GET", path, ""), maintenance.RuleNoAccess)
		}

		w.answerPoll(200, docOf(1, 2, maintenance.App{}))
		wantPassed(t, w.request("GET", "/.drydock/status", ""))
	})
}
