package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. Read-only refuses requests that write, and no-access all
// requests, with 503. An address in Bypass and a path in Exempt pass in both modes. A visitor is a
// client of Envoy (clients_test.go). The app default applies to every request that no other app
// matches.

// The most important behaviour is the same on the oldest and on the newest supported Envoy, with
// the same bootstrap.
func TestOldestAndNewestEnvoy(t *testing.T) { onOldestAndNewestEnvoy(t, testEnvoyVersion) }

func testEnvoyVersion(t *testing.T, version string) {
	d := deploy(t, deployOptions{version: version})
	info, err := d.envoy.AdminGet("/server_info")
	must(t, err)
	if !strings.Contains(string(info), "/"+version+"/") { // as in "COMMIT/1.40.0/Clean/RELEASE/…"
		t.Fatalf("this is not Envoy %s: %s", version, info)
	}

	d.putApp(maintenance.Spec{
		Name:   "default",
		Bypass: maintenance.Bypass{IPs: []string{"127.0.0.2"}},
		Exempt: []maintenance.PathRule{{Prefix: "/echo/webhook"}},
	})

	// Each visitor reads, writes (201 is a new order), and posts to the exempt webhook.
	stranger, allowed := d.visitorFrom("127.0.0.1"), d.visitorFrom("127.0.0.2")
	expect := func(when string, v *visitor, wantGet, wantPost, wantHook int) {
		t.Helper()
		get := v.get("/").Status
		post := v.postJSON("/api/orders", `{"item":"rope"}`).Status
		hook := v.do("POST", "/echo/webhook/x", "{}").Status
		if get != wantGet || post != wantPost || hook != wantHook {
			t.Errorf("%s: GET %d, POST %d, webhook %d; want %d, %d, %d", when, get, post, hook, wantGet, wantPost, wantHook)
		}
	}

	expect("off", stranger, 200, 201, 200)
	d.enforce("default", maintenance.ReadOnly, "We move.")
	expect("read-only", stranger, 200, 503, 200)
	expect("read-only, allowed", allowed, 200, 201, 200)
	if a := stranger.postJSON("/graphql", `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`); a.Status != http.StatusServiceUnavailable {
		t.Errorf("read-only, mutation: %d, want 503", a.Status)
	}

	d.enforceOff("default")
	d.enforce("default", maintenance.NoAccess, "We move.")
	expect("no-access", stranger, 503, 503, 200)
	expect("no-access, allowed", allowed, 200, 201, 200)
	if a := stranger.get("/"); !strings.Contains(a.Body, "We move.") || a.Header.Get("Retry-After") != "3600" {
		t.Errorf("no-access: %v %s", a.Header, a.Body)
	}
	// The filter tells the app the mode, in place of what a client sends.
	if e := allowed.echo("X-Drydock-Mode", "forged"); len(e.Headers["X-Drydock-Mode"]) != 1 || e.Headers.Get("X-Drydock-Mode") != "no-access" {
		t.Errorf("the app received X-Drydock-Mode: %v", e.Headers["X-Drydock-Mode"])
	}
	if a := stranger.get("/.drydock/status"); a.Status != http.StatusOK || !strings.Contains(a.Body, "no-access") {
		t.Errorf("status: %d %s", a.Status, a.Body)
	}

	d.enforceOff("default")
	expect("off again", stranger, 200, 201, 200)
	if n := d.onlyStat(`wasmcustom.*\.errors$`); n != 0 {
		t.Errorf("the errors counter is %d", n)
	}
}
