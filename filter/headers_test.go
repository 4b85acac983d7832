//go:build !wasm

package main

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/wasmhost"
)

// The upstream learns the mode, and why a request bypasses it. Headers of a client that only the
// filter may set are removed.
func TestUpstreamLearnsModeAndBypass(t *testing.T) {
	const pretend = "x-drydock-bypass,ip,x-drydock-mode,off,x-drydock-bypass,again,x_drydock_mode,off,x-drydock_future,1,x-drydock,kept,x-drydocks-mode,kept," +
		"x.drydock.bypass,ip,x!drydock~mode,off,x'drydock`bypass,ip,x0drydock-mode,kept,x--drydock-mode,kept"
	for _, c := range []struct {
		name                     string
		mode                     maintenance.Mode
		from, path               string
		modeHeader, bypassHeader string // what the upstream has to see
		bypassed                 int
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
				other := appIn(maintenance.NoAccess)
				other.Name, other.Match.Hosts = "other", []string{"other.example.com"}
				w.startWith(docOf(1, 1, app, other))

				o := w.request("GET", c.path, "", append([]string{"from", c.from}, strings.Split(pretend, ",")...)...)
				wantPassed(t, o)
				if o.headers["x-drydock-mode"] != c.modeHeader || o.headers["x-drydock-bypass"] != c.bypassHeader {
					t.Errorf("the upstream saw %v", o.headers)
				}

				for _, name := range []string{"x_drydock_mode", "x-drydock_future", "x.drydock.bypass", "x!drydock~mode", "x'drydock`bypass"} {
					if o.headers[name] != "" {
						t.Errorf("the upstream saw %s", name)
					}
				}

				for _, name := range []string{"x-drydock", "x-drydocks-mode", "x0drydock-mode", "x--drydock-mode"} {
					if o.headers[name] != "kept" {
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

	trailers := wasmhost.Headers{{"x-drydock-bypass", "ip"}, {"x.drydock!mode", "off"}, {"x-drydock-bypass", "claim"}, {"x-checksum", "1"},
		{"x-http-method-override", "DELETE"}, {"x-original-url", "/admin"}, {"x_forwarded_host", "admin.example.com"}, {"script-name", "/x"},
		{"content_type", "text/plain"}, {"cookie", "_method=DELETE"}}

	testCompiled(t, setup{config: bootstrapConfig}, func(t *testing.T, w *world) {
		check := func(what string, x exchange) {
			t.Helper()
			if got := x.(*compiledExchange).Upstream().Trailers; len(got) != 1 || got.Get("x-checksum") != "1" {
				t.Errorf("%s: the upstream saw the trailers %v", what, got)
			}
			x.disconnect()
		}

		boot := w.begin("PUT", "/upload", moreFollows, "from", "10.0.0.1:1")
		boot.send("x", moreFollows)
		boot.(*compiledExchange).RequestTrailers(trailers)
		w.startWith(doc(1, app))
		check("paused for the first state", boot)

		x := w.begin("PUT", "/upload", moreFollows, "from", "10.0.0.1:1")
		x.send("x", moreFollows)
		x.(*compiledExchange).RequestTrailers(trailers)
		check("not paused", x)

		y := w.beginGraphQL()
		y.send(aQuery, moreFollows)
		y.(*compiledExchange).RequestTrailers(trailers)
		check("paused for its body", y)
		w.wantMetric("errors", 0)
	})
}
