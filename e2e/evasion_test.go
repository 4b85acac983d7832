package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// No spelling of a host or a path gets past an app's gate, nor out of its exemption.
func TestSpellingsOfHostsAndPathsDoNotEvade(t *testing.T) {
	app, upstream := newSeen(t)
	d := deploy(t, deployOptions{upstream: upstream})
	d.putApp(maintenance.Spec{
		Name:  "shop",
		Match: maintenance.Match{Hosts: []string{"shop.example.com", "*.shop.example.com"}, Paths: []string{"/app"}},
		Exempt: []maintenance.PathRule{
			{Prefix: "/app/public"},
			{Methods: []string{"GET"}, Path: "/app/health"},
		},
	})
	d.on("shop", maintenance.NoAccess, "closed")

	line := func(target, host string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
	}
	const shop = "shop.example.com"
	type evasion struct{ name, request string }
	var evasions []evasion
	for _, host := range []string{
		shop, "SHOP.example.com", "shop.example.com.", "SHOP.Example.COM.:8080", "shop.example.com:80", "shop.example.com:08080",
		"www.shop.example.com", "WWW.Shop.Example.Com.", "a.b.shop.example.com:443",
	} {
		evasions = append(evasions, evasion{"host " + host, line("/app/order", host)})
	}
	for _, path := range []string{
		"/app", "/app/", "/app?x=1", "/app/order?/app/public", "/app/public/../order", "/app/public/./../order", "/app/publicity",
		"//app/order", "///app//order", "/./app/order", "/x/../app/order", "/x/y/../../app/order",
		"/%61pp/order", "/a%70p/order", "/APP/order", "/App/Order",
		"/x/..%2fapp/order", "/x/..%2Fapp%2Forder", "/x/%2e%2e/app/order", "/x/%2E%2E%2Fapp/order", "/%2fapp/order", "/%2Fapp", "/app%2forder", "/app%2Forder",
		"/app;v=1/order", "/app;/order", "/;/app/order", "/x/..;/app/order", "/x/..;a=b/app/order",
		`/app\order`, `\app\order`, `/x\..\app\order`, "/%5capp%5corder", "/x%5c..%5capp", "/x/..%5capp/order",
		"/app/public/..%2forder", "/app/public%2f..%2forder", "/app/public/%2e%2e/order", "/app/public/..;/order", "/app/public;/../order",
		`/app/public\..\order`, "/app/public/..%5corder", "/app/public/%252e%252e/order", "/app/public/..%252forder", "/app/public/.%2e/order",
		"/app/public/%2e%2e%2forder", "/app/PUBLIC/../order",
		"/app/health/", "/app/health/x", "/app/health;x", "/app/health/../order", "/app/health%2f..%2forder", "/app/healthz",
		"/%2561pp/order", "/app%00/order", "/app/public%00/../order", "/app/%c0%ae%c0%ae/order", "/app/.", "/app/..;/app/order",
	} {
		evasions = append(evasions, evasion{"path " + path, line(path, shop)})
	}
	evasions = append(evasions,
		evasion{"absolute form", line("http://shop.example.com/app/order", "other.example.com")},
		evasion{"absolute form, upper case", line("HTTP://SHOP.EXAMPLE.COM/app/order", "other.example.com")},
		evasion{"absolute form with port and dot", line("http://shop.example.com.:8080/app/order", "other.example.com")},
		evasion{"absolute form, https", line("https://shop.example.com/app/order", "other.example.com")},
		evasion{"two hosts", "GET /app/order HTTP/1.1\r\nHost: other.example.com\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"folded host", "GET /app/order HTTP/1.1\r\nHost: other.example.com\r\n shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"space before the colon", "GET /app/order HTTP/1.1\r\nHost : shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"user info", line("http://other.example.com@shop.example.com/app/order", "other.example.com")},
		evasion{"fragment", line("/app/public#/../order", shop)},
		evasion{"exempt path, other method", "POST /app/health HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		evasion{"HTTP/1.0", "GET /app/order HTTP/1.0\r\nHost: shop.example.com\r\n\r\n"},
		evasion{"lower-case method", "get /app/order HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"own method", "FROB /app/order HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"},
		// X-Original-URL and X-Rewrite-URL do not reach the filter: TestMisleadingHeadersDoNotReachTheApp.
		evasion{"forwarded host", "GET /app/order HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-Host: other.example.com\r\nForwarded: host=other.example.com\r\nConnection: close\r\n\r\n"},
	)
	for _, tt := range evasions {
		a := raw(t, d.edge.Addr(), tt.request)
		got := app.take()
		// Our 503, Envoy's refusal, or its redirect to the plain spelling: nothing else.
		// Where it leads to has to be shut too.
		for hops := 0; a.Status == http.StatusTemporaryRedirect && hops < 5; hops++ {
			location := a.Header.Get("Location")
			if _, rest, ok := strings.Cut(location, "://"); ok {
				_, path, _ := strings.Cut(rest, "/")
				location = "/" + path
			}
			a = raw(t, d.edge.Addr(), line(location, shop))
			got = append(got, app.take()...)
		}
		if len(got) > 0 {
			t.Errorf("%s got through: the app saw %q", tt.name, got)
		} else if a.Status != http.StatusServiceUnavailable && a.Status/100 != 4 {
			t.Errorf("%s: %d %s, want our 503 or Envoy's 4xx", tt.name, a.Status, a.Body)
		}
	}

	// Envoy resolves dots before it merges slashes, and hands the result on: the app sees a
	// path that is not in its shut part, whatever was asked for.
	for path, want := range map[string]string{"/x//..//app/order": "/x/app/order", "/app/public//../order": "/app/public/order"} {
		raw(t, d.edge.Addr(), line(path, shop))
		if got := app.take(); len(got) != 1 || got[0] != shop+" "+want {
			t.Errorf("%s: the app saw %q, want %s", path, got, want)
		}
	}

	// What has to pass does.
	for _, pass := range []string{
		line("/app/public", shop), line("/app/public/", shop), line("/app/public/logo.png?x=/../order", shop), line("/app/health", shop),
		line("/", shop), line("/apple", shop), line("/x/app", shop), line("/app/order", "other.example.com"),
		line("/app/order", "shop.example.com.evil.example"), line("/app/order", "notshop.example.com"),
		"HEAD /app/health HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n",
	} {
		if a := raw(t, d.edge.Addr(), pass); a.Status != http.StatusOK || len(app.take()) != 1 {
			t.Errorf("%q: %d, want 200", pass, a.Status)
		}
	}

	// HTTP/2 has its own way to name the host.
	two := http2Client(t)
	for _, host := range []string{shop, "SHOP.example.com", "shop.example.com.:8080"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+d.edge.Addr()+"/app/order", nil)
		must(t, err)
		req.Host = host
		resp, err := two.Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusServiceUnavailable || len(app.take()) > 0 {
			t.Errorf("HTTP/2, host %s: %s %d, want 503", host, resp.Proto, resp.StatusCode)
		}
	}

	// A host that nobody knows, or none, belongs to the default app.
	d.off("shop")
	d.on("default", maintenance.NoAccess, "closed")
	for _, request := range []string{
		line("/", "unknown.example.com"), line("/", ""), line("/", "127.0.0.1"), line("/", "[::1]:8080"), line("/", "%73hop.example.com"),
		line("/", "shop.example.com\x00"), line("/", "*"), "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	} {
		a := raw(t, d.edge.Addr(), request)
		if got := app.take(); len(got) > 0 || a.Status != http.StatusServiceUnavailable && a.Status/100 != 4 {
			t.Errorf("%q: %d, the app saw %q; want our 503 or Envoy's 4xx", request, a.Status, got)
		}
	}
	if a := raw(t, d.edge.Addr(), line("/app/order", shop)); a.Status != http.StatusOK {
		t.Errorf("the shop, which is open again: %d, want 200", a.Status)
	}
}

// The edge prefix leads to the controller, but never to its API, its console or its sync,
// not even for who has the tokens.
func TestEdgePrefixNeverReachesTheAPI(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	type target struct{ method, path, token, body string }
	targets := []target{
		{"GET", "api/v1/apps", operatorToken, ""},
		{"GET", "api/v1/proxies", operatorToken, ""},
		{"GET", "metrics", operatorToken, ""},
		{"POST", "api/v1/apps/default/activations", operatorToken, `{"mode":"no-access","message":"by a evasion"}`},
		{"POST", "api/admin/maintenance/enable", operatorToken, `{}`},
		{"POST", "proxy/v1/sync", syncToken, `{"epoch":0,"revision":0,"proxy":"x","wait":0}`},
		{"POST", "proxy/v1/ack", syncToken, `{"epoch":1,"revision":1,"proxy":"x","vm":"x","time":0,"requests":0}`},
	}
	prefixes := []string{
		"/.drydock/../", "/.drydock//../", "/.drydock/./../", "/.drydock/x/../../", "/.drydock/..//",
		"/.drydock/%2e%2e/", "/.drydock/..%2f", "/.drydock/%2e%2e%2f", "/.drydock%2f..%2f", "/.drydock/..;/", "/.drydock/;/../", `/.drydock/..\`, `/.drydock\..\`,
		"/.drydock/..%5c", "/.drydock/%252e%252e/", "/.drydock/..%252f", "//.drydock/../", "/./.drydock/../", "/.DRYDOCK/../", "/.drydock/", "/.drydock//", "/.drydock/%2f", "/.drydock/http://" + d.listen.Addr() + "/",
		"http://" + d.listen.Addr() + "/", "http://" + d.sync.Addr() + "/", "http://" + d.listen.Addr() + "/.drydock/../",
	}
	try := func(when string) {
		t.Helper()
		for _, prefix := range prefixes {
			for _, to := range targets {
				request := fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: shop.example.com\r\nAuthorization: Bearer %s\r\nIf-Match: *\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
					to.method, prefix, to.path, to.token, len(to.body), to.body)
				a := raw(t, d.edge.Addr(), request)
				var object map[string]any
				if a.Status < 300 && to.body != "" || a.Status == 200 && (json.Unmarshal([]byte(a.Body), &object) == nil || strings.Contains(a.Body, "drydock_")) {
					t.Errorf("%s, %s %s%s: %d %s", when, to.method, prefix, to.path, a.Status, a.Body)
				}
			}
		}
	}
	try("off")
	if mode, _ := d.status("default"); mode != maintenance.Off {
		t.Fatalf("a request through the proxy put the default app into %s", mode)
	}
	d.on("default", maintenance.NoAccess, "closed")
	try("on")
	d.off("default")
	d.on("default", maintenance.ReadOnly, "closed")
	try("read-only")
	d.off("default")

	// The prefix itself works, off and on.
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.NoAccess} {
		if mode != maintenance.Off {
			d.on("default", mode, "closed")
		}
		a := d.visitor("127.0.0.1").get("/.drydock/status")
		var st struct {
			App  string
			Mode maintenance.Mode
		}
		if err := json.Unmarshal([]byte(a.Body), &st); err != nil || a.Status != http.StatusOK || st.App != "default" || st.Mode != mode || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET /.drydock/status in %s: %d %v %s", mode, a.Status, a.Header, a.Body)
		}
	}
	// Visitors cannot open a socket to the controller either.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a, err := d.visitor("127.0.0.1").try(ctx, "GET", "/.drydock/status", "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if err == nil && a.Status == http.StatusSwitchingProtocols {
		t.Error("an upgrade reached the controller")
	}
}

// What would make a server serve another path or host than the one that was judged, or
// believe that the filter spoke, does not reach the app, in headers and in trailers.
func TestMisleadingHeadersDoNotReachTheApp(t *testing.T) {
	gone := []string{
		"x-drydock-mode", "x.drydock.bypass", "x_drydock_mode", "x!drydock~mode",
		"script_name", "SCRIPT-NAME", "x-script-name", "x.script_name", "x-original-url", "x-rewrite-url", "x-original-uri", "x_original.url",
		"x-forwarded-prefix", "x-forwarded-path", "x-forwarded-host", "x_forwarded_host", "x-forwarded-server", "forwarded", "x-host", "x-original-host", "x-http-host-override",
	}
	kept := []string{"api_key", "x-http-method-override", "x-api.key", "x-scripts-name", "x-drydocks-mode", "x-forwarded-port", "host-name", "x-forwarded-client"}
	onEachEnvoy(t, func(t *testing.T, version string) {
		rec := startTrailerApp(t)
		d := deploy(t, deployOptions{version: version, upstream: rec.addr, workers: 1})
		d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"127.0.0.1"}}})
		client := overHTTP2(t)
		for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
			if mode != maintenance.Off {
				d.on("default", mode, "closed")
			}
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.edge.Addr()+"/x", io.NopCloser(strings.NewReader("body")))
			must(t, err)
			req.Header.Set("x-test", string(mode))
			for _, name := range append(gone, kept...) {
				req.Header[http.CanonicalHeaderKey(name)] = []string{"claim"}
			}
			req.Trailer = http.Header{"X-Drydock-Bypass": {"claim"}, "X.drydock.mode": {"off"}, "X-Checksum": {"1"}}
			resp, err := client.Do(req)
			must(t, err)
			resp.Body.Close()
			saw, _ := rec.got(string(mode))
			if saw == nil {
				t.Fatalf("%s: the app saw nothing; %d", mode, resp.StatusCode)
			}
			for _, name := range gone {
				if v := saw.Header[http.CanonicalHeaderKey(name)]; len(v) > 0 && v[0] == "claim" {
					t.Errorf("%s: the app saw %s", mode, name)
				}
			}
			for _, name := range kept {
				if len(saw.Header[http.CanonicalHeaderKey(name)]) == 0 {
					t.Errorf("%s: the app did not see %s", mode, name)
				}
			}
			// Go lists names without a value that the header Trailer has announced.
			for _, values := range saw.Trailer {
				if len(values) > 0 {
					t.Errorf("%s: the app saw the trailers %v", mode, saw.Trailer)
				}
			}
		}
	})
}
