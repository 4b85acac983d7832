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

// An app is in maintenance for its hosts and paths. Servers read different spellings of a host or a
// path as the same, so a client could try a spelling that the filter does not recognize and the app
// does. The scenarios of this file send such requests, most of them as raw bytes (sendRaw), to
// Envoy with an app behind it that records what reaches it (recordingUpstream).
//
// enforce puts an app into a mode and returns once every worker of Envoy enforces the mode;
// enforceOff ends it. In no-access, all requests to the app are refused with 503. A visitor is a
// client of Envoy (clients_test.go). The app default applies to every request that no other app
// matches.

// shop is the host of the app that the evasions are aimed at.
const shop = "shop.example.com"

// evasion is an HTTP request, as its bytes, that tries to reach a closed app.
type evasion struct{ name, request string }

// evasions returns requests for closed paths of the app shop, in many spellings of the host, the
// path and the request line. TestSpellingsOfHostsAndPathsDoNotEvade has the app's hosts and paths:
// /app is closed, but /app/public and below are exempt, and so is GET /app/health exactly.
func evasions() (all []evasion) {
	for _, host := range []string{
		shop, "SHOP.example.com", "shop.example.com.", "SHOP.Example.COM.:8080", "shop.example.com:80", "shop.example.com:08080",
		"www.shop.example.com", "WWW.Shop.Example.Com.", "a.b.shop.example.com:443",
	} {
		all = append(all, evasion{"host " + host, requestText("GET", "/app/order", host)})
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
		all = append(all, evasion{"path " + path, requestText("GET", path, shop)})
	}

	return append(all,
		evasion{"absolute form", requestText("GET", "http://shop.example.com/app/order", "other.example.com")},
		evasion{"absolute form, upper case", requestText("GET", "HTTP://SHOP.EXAMPLE.COM/app/order", "other.example.com")},
		evasion{"absolute form with port and dot", requestText("GET", "http://shop.example.com.:8080/app/order", "other.example.com")},
		evasion{"absolute form, https", requestText("GET", "https://shop.example.com/app/order", "other.example.com")},
		evasion{"two hosts", "GET /app/order HTTP/1.1\r\nHost: other.example.com\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"folded host", "GET /app/order HTTP/1.1\r\nHost: other.example.com\r\n shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"space before the colon", "GET /app/order HTTP/1.1\r\nHost : shop.example.com\r\nConnection: close\r\n\r\n"},
		evasion{"user info", requestText("GET", "http://other.example.com@shop.example.com/app/order", "other.example.com")},
		evasion{"fragment", requestText("GET", "/app/public#/../order", shop)},
		evasion{"exempt path, other method", "POST /app/health HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		evasion{"HTTP/1.0", "GET /app/order HTTP/1.0\r\nHost: shop.example.com\r\n\r\n"},
		evasion{"lower-case method", requestText("get", "/app/order", shop)},
		evasion{"unknown method", requestText("FROB", "/app/order", shop)},
		// X-Original-URL and X-Rewrite-URL do not reach the filter: see
		// TestMisleadingHeadersDoNotReachTheApp.
		evasion{"forwarded host", "GET /app/order HTTP/1.1\r\nHost: shop.example.com\r\n" +
			"X-Forwarded-Host: other.example.com\r\nForwarded: host=other.example.com\r\nConnection: close\r\n\r\n"},
	)
}

// No spelling of a host or a path reaches a closed app, or makes an exemption cover more.
func TestSpellingsOfHostsAndPathsDoNotEvade(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr})
	d.putApp(maintenance.Spec{
		Name:  "shop",
		Match: maintenance.Match{Hosts: []string{shop, "*." + shop}, Paths: []string{"/app"}},
		Exempt: []maintenance.PathRule{
			{Prefix: "/app/public"},
			{Methods: []string{"GET"}, Path: "/app/health"},
		},
	})

	d.enforce("shop", maintenance.NoAccess, "closed")
	proxy := d.envoyPort.Addr()
	for _, e := range evasions() {
		checkNotReached(t, app, proxy, e)
	}

	// These two look like evasions and are not. Envoy resolves dots (normalize_path) before it
	// merges slashes (merge_slashes), so that ".." only removes the empty segment before it. The
	// filter and the app both get the result, which is an open path.
	for path, want := range map[string]string{"/x//..//app/order": "/x/app/order", "/app/public//../order": "/app/public/order"} {
		sendRaw(t, proxy, requestText("GET", path, shop))
		if got := app.takeTargets(); len(got) != 1 || got[0] != shop+" "+want {
			t.Errorf("%s: the app received %q, want %s", path, got, want)
		}
	}

	// Requests for exempt paths, other paths and other hosts pass.
	for _, open := range []string{
		requestText("GET", "/app/public", shop), requestText("GET", "/app/public/", shop), requestText("GET", "/app/public/logo.png?x=/../order", shop),
		requestText("GET", "/app/health", shop), requestText("HEAD", "/app/health", shop),
		requestText("GET", "/", shop), requestText("GET", "/apple", shop), requestText("GET", "/x/app", shop), requestText("GET", "/app/order", "other.example.com"),
		requestText("GET", "/app/order", "shop.example.com.evil.example"), requestText("GET", "/app/order", "notshop.example.com"),
	} {
		if a := sendRaw(t, proxy, open); a.Status != http.StatusOK || len(app.takeTargets()) != 1 {
			t.Errorf("%q: %d, want 200", open, a.Status)
		}
	}

	// HTTP/2 names the host in the pseudo-header :authority.
	client := http2Client(t)
	for _, host := range []string{shop, "SHOP.example.com", "shop.example.com.:8080"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+proxy+"/app/order", nil)
		must(t, err)
		req.Host = host
		resp, err := client.Do(req)
		must(t, err)
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusServiceUnavailable || len(app.takeTargets()) > 0 {
			t.Errorf("HTTP/2, host %s: %s %d, want 503", host, resp.Proto, resp.StatusCode)
		}
	}
}

// checkNotReached sends an evasion and checks that the app does not receive anything, and that the
// filter or Envoy refuses the request. If a path has an escaped slash, Envoy redirects the client
// to the plain spelling of the path (UNESCAPE_AND_REDIRECT); checkNotReached follows.
func checkNotReached(t *testing.T, app *recordingUpstream, proxy string, e evasion) {
	t.Helper()
	const maxRedirects = 5
	a := sendRaw(t, proxy, e.request)
	reached := app.takeTargets()
	for n := 0; a.Status == http.StatusTemporaryRedirect && n < maxRedirects; n++ {
		path := a.Header.Get("Location")
		if _, afterScheme, ok := strings.Cut(path, "://"); ok {
			_, afterHost, _ := strings.Cut(afterScheme, "/")
			path = "/" + afterHost
		}
		a = sendRaw(t, proxy, requestText("GET", path, shop))
		reached = append(reached, app.takeTargets()...)
	}

	if len(reached) > 0 {
		t.Errorf("%s reached the app as %q", e.name, reached)
	} else if !isRefusal(a) {
		t.Errorf("%s: %d %s, want 503 from the filter or 4xx from Envoy", e.name, a.Status, a.Body)
	}
}

// isRefusal reports whether an answer is the filter's 503, or a 4xx with which Envoy refuses a
// malformed request before the filter sees it.
func isRefusal(a answer) bool { return a.Status == http.StatusServiceUnavailable || a.Status/100 == 4 }

// Requests for an unknown host, or without one, belong to the app default.
func TestUnknownHostsBelongToTheDefaultApp(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr})
	d.putApp(maintenance.Spec{Name: "shop", Match: maintenance.Match{Hosts: []string{shop}, Paths: []string{"/app"}}})
	d.enforce("default", maintenance.NoAccess, "closed")

	for _, request := range []string{
		requestText("GET", "/", "unknown.example.com"), requestText("GET", "/", ""), requestText("GET", "/", "127.0.0.1"), requestText("GET", "/", "[::1]:8080"),
		requestText("GET", "/", "%73hop.example.com"), requestText("GET", "/", "shop.example.com\x00"), requestText("GET", "/", "*"),
		"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", requestText("OPTIONS", "*", "x"),
	} {
		a := sendRaw(t, d.envoyPort.Addr(), request)
		if got := app.takeTargets(); len(got) > 0 || !isRefusal(a) {
			t.Errorf("%q: %d, the app received %q; want 503 from the filter or 4xx from Envoy", request, a.Status, got)
		}
	}

	if a := sendRaw(t, d.envoyPort.Addr(), requestText("GET", "/app/order", shop)); a.Status != http.StatusOK {
		t.Errorf("the shop, which is open: %d, want 200", a.Status)
	}
}

// The bootstrap routes paths below the edge prefix, /.drydock/, to the controller's listener for
// proxies, so that everybody can read the public status there. The same listener serves the sync,
// with which proxies fetch the state, and the API is on another port. No visitor reaches these
// through the prefix, even with the right tokens.
func TestEdgePrefixNeverReachesTheAPI(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default"})
	checkAPINotReached(d, "off")
	if mode, _ := d.status("default"); mode != maintenance.Off {
		t.Fatalf("a request through the proxy put the default app into %s", mode)
	}

	d.enforce("default", maintenance.NoAccess, "closed")
	checkAPINotReached(d, "no-access")
	d.enforceOff("default")
	d.enforce("default", maintenance.ReadOnly, "closed")
	checkAPINotReached(d, "read-only")
	d.enforceOff("default")

	// The public status itself is answered, whether or not the app is in maintenance.
	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.NoAccess} {
		if mode != maintenance.Off {
			d.enforce("default", mode, "closed")
		}
		a := d.visitorFrom("127.0.0.1").get("/.drydock/status")
		var st struct {
			App  string
			Mode maintenance.Mode
		}
		err := json.Unmarshal([]byte(a.Body), &st)
		if err != nil || st.App != "default" || st.Mode != mode || a.Status != http.StatusOK || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET /.drydock/status in %s: %d %v %s", mode, a.Status, a.Header, a.Body)
		}
	}

	// The route allows no upgrades, so a visitor cannot open a WebSocket to the controller.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a, err := d.visitorFrom("127.0.0.1").try(ctx, "GET", "/.drydock/status", "",
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if err == nil && a.Status == http.StatusSwitchingProtocols {
		t.Error("an upgrade reached the controller")
	}
}

// checkAPINotReached sends requests for the controller's private endpoints, with valid tokens, in
// many spellings of a path that leaves the edge prefix.
func checkAPINotReached(d *deployment, when string) {
	d.t.Helper()
	endpoints := []struct{ method, path, token, body string }{
		{"GET", "api/v1/apps", operatorToken, ""},
		{"GET", "api/v1/proxies", operatorToken, ""},
		{"GET", "metrics", operatorToken, ""},
		{"POST", "api/v1/apps/default/activations", operatorToken, `{"mode":"no-access","message":"evaded"}`},
		{"POST", "api/admin/maintenance/enable", operatorToken, `{}`},
		{"POST", "proxy/v1/sync", syncToken, `{"epoch":0,"revision":0,"proxy":"x","wait":0}`},
		{"POST", "proxy/v1/ack", syncToken, `{"epoch":1,"revision":1,"proxy":"x","vm":"x","time":0,"requests":0}`},
	}

	prefixes := []string{
		"/.drydock/../", "/.drydock//../", "/.drydock/./../", "/.drydock/x/../../", "/.drydock/..//",
		"/.drydock/%2e%2e/", "/.drydock/..%2f", "/.drydock/%2e%2e%2f", "/.drydock%2f..%2f", "/.drydock/..;/", "/.drydock/;/../", `/.drydock/..\`, `/.drydock\..\`,
		"/.drydock/..%5c", "/.drydock/%252e%252e/", "/.drydock/..%252f", "//.drydock/../", "/./.drydock/../", "/.DRYDOCK/../", "/.drydock/", "/.drydock//", "/.drydock/%2f", "/.drydock/http://" + d.apiPort.Addr() + "/",
		"http://" + d.apiPort.Addr() + "/", "http://" + d.syncPort.Addr() + "/", "http://" + d.apiPort.Addr() + "/.drydock/../",
	}

	for _, prefix := range prefixes {
		for _, to := range endpoints {
			a := sendRaw(d.t, d.envoyPort.Addr(), fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: shop.example.com\r\nAuthorization: Bearer %s\r\n"+
				"If-Match: *\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
				to.method, prefix, to.path, to.token, len(to.body), to.body))
			// The API and the sync answer with a JSON object, and /metrics with names that begin
			// with drydock_. A 200 from the app, which serves other paths when it is open, has
			// neither.
			var object map[string]any
			changed := a.Status < 300 && to.body != ""
			read := a.Status == 200 && (json.Unmarshal([]byte(a.Body), &object) == nil || strings.Contains(a.Body, "drydock_"))
			if changed || read {
				d.t.Errorf("%s, %s %s%s: %d %s", when, to.method, prefix, to.path, a.Status, a.Body)
			}
		}
	}
}

// Some servers take the path or the host of a request from headers such as X-Original-URL, or merge
// trailers into the headers. Such headers, and those that the filter itself sends to the app
// (x-drydock-mode, x-drydock-bypass), do not reach the app when they come from a client. The
// bootstrap removes them, in every spelling of the separators that CGI and WSGI servers confuse.
func TestMisleadingHeadersDoNotReachTheApp(t *testing.T) {
	onOldestAndNewestEnvoy(t, testMisleadingHeaders)
}

func testMisleadingHeaders(t *testing.T, version string) {
	removed := []string{
		"x-drydock-mode", "x.drydock.bypass", "x_drydock_mode", "x!drydock~mode",
		"script_name", "SCRIPT-NAME", "x-script-name", "x.script_name", "x-original-url", "x-rewrite-url", "x-original-uri", "x_original.url",
		"x-forwarded-prefix", "x-forwarded-path", "x-forwarded-host", "x_forwarded_host", "x-forwarded-server", "forwarded", "x-host", "x-original-host", "x-http-host-override",
	}
	// An app may need these, although some resemble the names above.
	kept := []string{
		"api_key", "x-http-method-override", "x-api.key", "x-scripts-name", "x-drydocks-mode", "x-forwarded-port", "host-name", "x-forwarded-client",
	}

	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{version: version, upstream: app.addr, workers: 1})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"127.0.0.1"}}})
	client := http2Client(t)

	for _, mode := range []maintenance.Mode{maintenance.Off, maintenance.ReadOnly} {
		if mode != maintenance.Off {
			d.enforce("default", mode, "closed")
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+d.envoyPort.Addr()+"/x", io.NopCloser(strings.NewReader("body")))
		must(t, err)
		req.Header.Set("x-case", string(mode))
		for _, name := range append(removed, kept...) {
			req.Header[http.CanonicalHeaderKey(name)] = []string{"forged"}
		}
		req.Trailer = http.Header{"X-Drydock-Bypass": {"forged"}, "X.drydock.mode": {"off"}, "X-Checksum": {"1"}}
		resp, err := client.Do(req)
		must(t, err)
		resp.Body.Close()

		got, ok := app.find(string(mode))
		if !ok {
			t.Fatalf("%s: the app received nothing; the client got %d", mode, resp.StatusCode)
		}
		for _, name := range removed {
			// The filter may have set the header itself, with another value.
			if v := got.Header[http.CanonicalHeaderKey(name)]; len(v) > 0 && v[0] == "forged" {
				t.Errorf("%s: the app received %s", mode, name)
			}
		}
		for _, name := range kept {
			if len(got.Header[http.CanonicalHeaderKey(name)]) == 0 {
				t.Errorf("%s: the app did not receive %s", mode, name)
			}
		}
		// The bootstrap removes all trailers. Go lists the names that the header Trailer announced,
		// without values for those that did not come.
		for _, values := range got.Trailer {
			if len(values) > 0 {
				t.Errorf("%s: the app received the trailers %v", mode, got.Trailer)
			}
		}
	}
}
