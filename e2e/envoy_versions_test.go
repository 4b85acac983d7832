package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The oldest and the newest Envoy pass the same smoke test with the same bootstrap.
func TestOldestAndNewestEnvoy(t *testing.T) { onOldestAndNewestEnvoy(t, testEnvoyVersion) }

func testEnvoyVersion(t *testing.T, version string) {
	d := deploy(t, deployOptions{version: version})
	info, err := d.envoy.AdminGet("/server_info")
	must(t, err)
	if !strings.Contains(string(info), "/"+version+"/") {
		t.Fatalf("this is not Envoy %s: %s", version, info)
	}

	d.putApp(maintenance.Spec{
		Name:   "default",
		Bypass: maintenance.Bypass{IPs: []string{"127.0.0.2"}},
		Exempt: []maintenance.PathRule{{Prefix: "/echo/webhook"}},
	})

	stranger, allowed := d.visitorFrom("127.0.0.1"), d.visitorFrom("127.0.0.2")
	expect := func(when string, v *visitor, get, post, hook int) {
		t.Helper()
		g, p, h := v.get("/").Status, v.postJSON("/api/orders", `{"item":"rope"}`).Status, v.do("POST", "/echo/webhook/x", "{}").Status
		if g != get || p != post || h != hook {
			t.Errorf("%s: GET %d, POST %d, webhook %d; want %d, %d, %d", when, g, p, h, get, post, hook)
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
