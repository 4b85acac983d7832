package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The oldest and the newest Envoy run the same smoke scenario on the same bootstrap.
func TestOldestAndNewestEnvoy(t *testing.T) {
	for _, version := range []string{OldestEnvoy, EnvoyVersion} {
		t.Run(version, func(t *testing.T) {
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
			stranger, friend := d.visitor("127.0.0.1"), d.visitor("127.0.0.2")
			order := func(v *visitor) int {
				return v.do("POST", "/api/orders", `{"item":"rope"}`, "Content-Type", "application/json").Status
			}
			expect := func(when string, v *visitor, get, post, hook int) {
				t.Helper()
				if g, p, h := v.get("/").Status, order(v), v.do("POST", "/echo/webhook/x", "{}").Status; g != get || p != post || h != hook {
					t.Errorf("%s: GET %d, POST %d, webhook %d; want %d, %d, %d", when, g, p, h, get, post, hook)
				}
			}
			expect("off", stranger, 200, 201, 200)
			d.on("default", maintenance.ReadOnly, "We move.")
			expect("read-only", stranger, 200, 503, 200)
			expect("read-only, allowed", friend, 200, 201, 200)
			if a := stranger.do("POST", "/graphql", `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`, "Content-Type", "application/json"); a.Status != http.StatusServiceUnavailable {
				t.Errorf("read-only, mutation: %d, want 503", a.Status)
			}
			d.off("default")
			d.on("default", maintenance.NoAccess, "We move.")
			expect("no-access", stranger, 503, 503, 200)
			expect("no-access, allowed", friend, 200, 201, 200)
			if a := stranger.get("/"); !strings.Contains(a.Body, "We move.") || a.Header.Get("Retry-After") != "3600" {
				t.Errorf("no-access: %v %s", a.Header, a.Body)
			}
			if e := friend.echo("X-Drydock-Mode", "forged"); len(e.Headers["X-Drydock-Mode"]) != 1 || e.Headers.Get("X-Drydock-Mode") != "no-access" {
				t.Errorf("the app saw X-Drydock-Mode: %v", e.Headers["X-Drydock-Mode"])
			}
			if a := stranger.get("/.drydock/status"); a.Status != http.StatusOK || !strings.Contains(a.Body, "no-access") {
				t.Errorf("status: %d %s", a.Status, a.Body)
			}
			d.off("default")
			expect("off again", stranger, 200, 201, 200)
			if n := d.stat(`wasmcustom.*\.errors$`); n != 0 {
				t.Errorf("the errors counter is %d", n)
			}
		})
	}
}
