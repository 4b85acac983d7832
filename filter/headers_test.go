//go:build !wasm

package main

import (
	"slices"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The tests of this file are about the headers x-drydock-mode and x-drydock-bypass, with which the
// filter informs the upstream, and about clients that send such headers themselves.
//
// A world (rig_test.go) is one plugin in one VM, together with a controller that the test plays.

// The upstream learns the mode, and why a request bypasses it. Headers of a client that only the
// filter may set are removed.
func TestUpstreamLearnsModeAndBypass(t *testing.T) {
	// The filter reserves every name that begins with x-drydock-, in every spelling: gateways that
	// make variables of headers (CGI) may turn any character but letters and digits into "_".
	removed := []string{"x_drydock_mode", "x-drydock_future", "x.drydock.bypass", "x!drydock~mode", "x'drydock`bypass"}
	kept := []string{"x-drydock", "x-drydocks-mode", "x0drydock-mode", "x--drydock-mode"}

	// What the client sends: names and values in turn.
	sent := []string{"x-drydock-bypass", "ip", "x-drydock-mode", "off", "x-drydock-bypass", "again"}
	for _, name := range slices.Concat(removed, kept) {
		sent = append(sent, name, "from the client")
	}

	for _, c := range []struct {
		name                     string
		mode                     maintenance.Mode
		from, path               string // the client's address, and what it requests
		modeHeader, bypassHeader string // what the upstream has to see, empty for no such header
		bypassed                 int    // how many requests the metric has to count
	}{
		{"an address", maintenance.NoAccess, "[::ffff:10.1.2.3]:4711", "/", "no-access", "ip", 1},
		{"an exempt path", maintenance.NoAccess, clientAddress, "/login", "no-access", "", 0},
		{"a read", maintenance.ReadOnly, clientAddress, "/", "read-only", "", 0},
		{"an app that is off", maintenance.Off, clientAddress, "/", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			testEverywhere(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
				app := appIn(c.mode)
				app.Bypass.IPs = []string{"10.0.0.0/8"}
				app.Exempt = []maintenance.PathRule{{Path: "/login"}}
				// Another app is on in every case, since the filter does nothing while none is.
				other := appIn(maintenance.NoAccess)
				other.Name, other.Match.Hosts = "other", []string{"other.example.com"}
				w.startWith(docOf(1, 1, app, other))

				o := w.request("GET", c.path, "", append([]string{"from", c.from}, sent...)...)
				wantPassed(t, o)
				if o.headers["x-drydock-mode"] != c.modeHeader || o.headers["x-drydock-bypass"] != c.bypassHeader {
					t.Errorf("the upstream saw %v", o.headers)
				}

				for _, name := range removed {
					if o.headers[name] != "" {
						t.Errorf("the upstream saw %s", name)
					}
				}

				for _, name := range kept {
					if o.headers[name] != "from the client" {
						t.Errorf("the upstream did not see %s: %v", name, o.headers)
					}
				}

				w.wantMetric("bypassed", c.bypassed)
				w.wantMetric("blocked", 0)
			})
		})
	}
}

// Trailers that only the filter may set, or that could change how a server reads the request, are
// removed, whether or not the request was paused.
func TestUnsafeTrailersAreRemovedCompiled(t *testing.T) {
	app := appIn(maintenance.ReadOnly)
	app.Bypass.IPs = []string{"10.0.0.0/8"}

	trailers := wasmhost.Headers{
		{"x-drydock-bypass", "ip"}, {"x.drydock!mode", "off"}, {"x-drydock-bypass", "claim"},
		{"x-checksum", "1"}, // the only harmless one
		{"x-http-method-override", "DELETE"}, {"x-original-url", "/admin"},
		{"x_forwarded_host", "admin.example.com"}, {"script-name", "/x"},
		{"content_type", "text/plain"}, {"cookie", "_method=DELETE"},
	}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		// wantOnlyChecksum checks the trailers that the upstream saw, and ends the request.
		wantOnlyChecksum := func(what string, x exchange) {
			t.Helper()
			if got := x.(*compiledExchange).Upstream().Trailers; len(got) != 1 || got.Get("x-checksum") != "1" {
				t.Errorf("%s: the upstream saw the trailers %v", what, got)
			}
			x.disconnect()
		}

		early := w.begin("PUT", "/upload", moreFollows, "from", "10.0.0.1:1")
		early.send("x", moreFollows)
		early.(*compiledExchange).RequestTrailers(trailers)
		w.startWith(doc(1, app))
		wantOnlyChecksum("paused for the first state", early)

		bypassed := w.begin("PUT", "/upload", moreFollows, "from", "10.0.0.1:1")
		bypassed.send("x", moreFollows)
		bypassed.(*compiledExchange).RequestTrailers(trailers)
		wantOnlyChecksum("not paused", bypassed)

		graphQL := w.beginGraphQL()
		graphQL.send(aQuery, moreFollows)
		graphQL.(*compiledExchange).RequestTrailers(trailers)
		wantOnlyChecksum("paused for its body", graphQL)
		w.wantMetric("errors", 0)
	})
}
