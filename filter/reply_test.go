//go:build !wasm

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The client gets the core's reply, gRPC clients get a gRPC status, and the access log gets the
// rule as response code details. Nothing goes upstream.
func TestRefusalReachesTheClient(t *testing.T) {
	testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		app := appIn(maintenance.NoAccess)
		app.RetryAfter = 90
		w.startWith(doc(1, app))

		for _, c := range []struct {
			name     string
			headers  []string
			status   int
			kind     string
			body     string
			grpc     int
			downward map[string]string // what the client sees, compiled
		}{
			{"curl", nil, 503, "text/plain; charset=utf-8", "Back soon.\n", -1, nil},
			{"browser", []string{"accept", "text/html,*/*;q=0.8"}, 503, "text/html; charset=utf-8", "Back soon.", -1, nil},
			{"JSON", []string{"accept", "application/json"}, 503, "application/problem+json", `"rule":"no-access"`, -1, nil},
			{"gRPC", []string{"content-type", "application/grpc"}, 503, "", "Back soon.", 14,
				map[string]string{":status": "200", "content-type": "application/grpc", "grpc-status": "14", "grpc-message": "Back soon."}},
			{"gRPC-Web", []string{"content-type", "application/grpc-web+proto"}, 200, "application/grpc-web+proto", "grpc-status:14\r\n", -1,
				map[string]string{":status": "200", "grpc-status": "14", "grpc-message": "Back soon."}},
		} {
			x := w.begin("POST", "/shop.Cart/Add", moreFollows, c.headers...)
			x.send("x", endOfStream)
			o := x.outcomeSoFar()

			wantRefused(t, o, maintenance.RuleNoAccess)

			if r := o.reply; r.status != c.status || r.headers["content-type"] != c.kind || !strings.Contains(r.body, c.body) || (c.body == "") != (r.body == "") ||
				r.grpc != c.grpc || r.headers["retry-after"] != "90" || r.headers["cache-control"] != "no-store" {
				t.Errorf("%s: got %s, grpc %d", c.name, o, r.grpc)
			}
			if o.note != "app=default mode=no-access rule=no-access" {
				t.Errorf("%s: noted %q", c.name, o.note)
			}

			if s, ok := x.(*compiledExchange); ok {
				got := fields(s.Downstream().Headers)
				for name, want := range c.downward {
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

// The filter answers requests for the public status while something is on or announced. Otherwise
// they go on to the route of the bootstraps.
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
			if o.reply == nil || o.headers != nil || o.reply.status != c.status || !strings.HasPrefix(o.reply.body, c.prefix) || o.reply.headers["cache-control"] != "no-store" {
				t.Errorf("%s %s: got %s", c.method, c.host, o)
			}
			if r := o.reply; r != nil && r.details != "" && r.details != "drydock:edge" {
				t.Errorf("details %q", r.details)
			}
		}

		// Only this path is the status. Other paths below the prefix are requests like any other.
		for _, path := range []string{"/.drydock/", "/.drydock/statuses", "/.drydock/status/", "/.drydock//status", "/.drydock/%73tatus", "/x/../.drydock/status"} {
			wantRefused(t, w.request("GET", path, ""), maintenance.RuleNoAccess)
		}

		w.answerPoll(200, docOf(1, 2, maintenance.App{}))
		wantPassed(t, w.request("GET", "/.drydock/status", ""))
	})
}
