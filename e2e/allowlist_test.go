package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// An app's rules may list addresses (and networks, as in 198.51.100.0/24) whose requests bypass its
// maintenance. Which address a request has is Envoy's decision: by default that of the connection.
// On Linux, a client can connect from any address in 127.0.0.0/8, so a visitor of these scenarios
// has the address that visitorFrom names.
//
// deploy starts a controller, an Envoy with the Drydock filter, and a demo app behind Envoy
// (deployment_test.go). enforce puts an app into a mode and returns once every worker of Envoy
// enforces the mode; enforceOff ends it. In no-access, all requests are refused with 503. A visitor
// is a client of Envoy (clients_test.go). The app default applies to every request that no other
// app matches.

// In no-access, requests from listed addresses pass. All others get 503, the operator's message and
// Retry-After (3600 seconds, the default), and no header that a client can send changes that.
func TestAllowlistedAddressesBypass(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"127.0.0.2", "127.0.0.16/28", "127.1.0.0/16", "2001:db8::/32"}}})
	stranger, allowed := d.visitorFrom("127.0.0.1"), d.visitorFrom("127.0.0.2")
	if a := stranger.get("/"); a.Status != 200 {
		t.Fatalf("off: %d, want 200", a.Status)
	}
	received := stranger.echo("X-Drydock-Bypass", "ip", "X-Drydock-Mode", "off", "X_Drydock_Bypass", "ip").Headers
	if len(received["X-Drydock-Bypass"])+len(received["X-Drydock-Mode"])+len(received["X_drydock_bypass"]) > 0 {
		t.Errorf("a client's own x-drydock headers reach the app: %v", received)
	}

	// The list has one address, and two networks whose edges are tried.
	d.enforce("default", maintenance.NoAccess, "We move to a new server.")
	for _, tt := range []struct {
		from string
		want int
	}{
		{"127.0.0.1", 503}, {"127.0.0.2", 200}, {"127.0.0.3", 503},
		{"127.0.0.15", 503}, {"127.0.0.16", 200}, {"127.0.0.31", 200}, {"127.0.0.32", 503},
		{"127.1.255.255", 200}, {"127.2.0.1", 503},
	} {
		if a := d.visitorFrom(tt.from).get("/"); a.Status != tt.want {
			t.Errorf("from %s: %d, want %d", tt.from, a.Status, tt.want)
		}
	}

	a := stranger.get("/")
	retryAfter, cacheControl := a.Header.Get("Retry-After"), a.Header.Get("Cache-Control")
	if a.Status != 503 || !strings.Contains(a.Body, "We move to a new server.") || retryAfter != "3600" || cacheControl != "no-store" {
		t.Errorf("a stranger got %d, Retry-After %q, Cache-Control %q, %q; want 503, 3600, no-store and the message",
			a.Status, retryAfter, cacheControl, a.Body)
	}
	received = allowed.echo("X-Drydock-Bypass", "forged", "X-Drydock-Mode", "forged").Headers
	mode, bypass := received["X-Drydock-Mode"], received["X-Drydock-Bypass"]
	if !slices.Equal(mode, []string{"no-access"}) || len(bypass) != 1 || bypass[0] == "forged" {
		t.Errorf("the app received an allowed request with mode %v and bypass %v", mode, bypass)
	}

	checkForgedAddressesRefused(t, stranger)
	checkRefusalsRecorded(d)

	d.enforceOff("default")
	for _, from := range []string{"127.0.0.1", "127.0.0.2", "127.2.0.1"} {
		if a := d.visitorFrom(from).get("/"); a.Status != 200 {
			t.Errorf("off again, from %s: %d, want 200", from, a.Status)
		}
	}
}

// checkForgedAddressesRefused sends headers in which proxies name a client's address, and those
// that the filter itself sends to the app, with a listed address and other values that might open
// something.
func checkForgedAddressesRefused(t *testing.T, stranger *visitor) {
	t.Helper()
	for _, name := range []string{
		"X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP",
		"X-Envoy-External-Address", "X-Envoy-Internal", "X-Drydock-Bypass", "x_drydock_bypass", "X-Drydock-Mode", "X-Forwarded-Client-Cert",
	} {
		for _, value := range []string{"127.0.0.2", "127.0.0.2, 127.0.0.2", "for=127.0.0.2", "ip", "true", "off"} {
			if a := stranger.get("/", name, value); a.Status != 503 {
				t.Errorf("forged %s: %s: %d, want 503", name, value, a.Status)
			}
		}
	}
}

// checkRefusalsRecorded checks the access log and the filter's counters after requests that were
// refused and requests that bypassed. The bootstrap logs the filter's decision as "drydock", and
// Envoy's reason for the answer as "details".
func checkRefusalsRecorded(d *deployment) {
	d.t.Helper()
	entry := d.awaitAccessLog(func(e map[string]any) bool { return e["status"] == 503.0 })
	if decision, _ := entry["drydock"].(string); !strings.Contains(decision, "no-access") {
		d.t.Errorf("the access log has drydock=%v for a refused request, want its mode", entry["drydock"])
	}
	if details, _ := entry["details"].(string); !strings.Contains(details, "drydock") {
		d.t.Errorf("the access log has details=%v for a refused request, want drydock's", entry["details"])
	}

	if n := d.onlyStat(`wasmcustom.*blocked$`); n == 0 {
		d.t.Error("the blocked counter is 0")
	}
	if n := d.onlyStat(`wasmcustom.*bypassed$`); n == 0 {
		d.t.Error("the bypassed counter is 0")
	}
	if n := d.onlyStat(`wasmcustom.*\.errors$`); n != 0 {
		d.t.Errorf("the errors counter is %d, want 0", n)
	}
}

// Behind a trusted proxy (trusted-proxy.yaml), the client's address is the one that this proxy saw.
// The proxy appends it to X-Forwarded-For, so it is the last one there, whatever the client wrote
// before it. The visitor of this test is the proxy.
func TestAllowlistBehindATrustedProxy(t *testing.T) {
	d := deploy(t, deployOptions{bootstrap: "trusted-proxy.yaml"})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{
		"203.0.113.7", "198.51.100.0/24", "2001:db8::7", "2001:db8:1::/48", "::ffff:192.0.2.1",
	}}})
	d.enforce("default", maintenance.NoAccess, "closed")
	proxy := d.visitorFrom("127.0.0.1")

	for _, tt := range []struct {
		forwarded string // X-Forwarded-For; none if ""
		want      int
	}{
		{"203.0.113.7", 200},
		{"203.0.113.8", 503},
		{"198.51.100.200", 200},
		{"198.51.101.1", 503},
		{"2001:db8::7", 200},
		{"2001:DB8:0:0:0:0:0:7", 200},
		{"2001:db8::8", 503},
		{"2001:db8:1:2::3", 200},
		{"2001:db8:2::3", 503},

		// IPv4 in IPv6, in the header or in the allowlist.
		{"::ffff:203.0.113.7", 200},
		{"::ffff:cb00:7107", 200},
		{"::ffff:203.0.113.8", 503},
		{"192.0.2.1", 200},
		{"::ffff:192.0.2.1", 200},

		// Forged: the addresses before the last one come from the client.
		{"203.0.113.7, 203.0.113.8", 503},
		{"203.0.113.7,203.0.113.7,203.0.113.8", 503},
		{"203.0.113.8, 203.0.113.7", 200},
		{"127.0.0.1, 198.51.100.1, 203.0.113.8", 503},
		{"203.0.113.7, nonsense", 503},
		{"nonsense", 503},
		{"", 503},
	} {
		headers := []string{"X-Real-IP", "203.0.113.7"} // a listed address, which must not count
		if tt.forwarded != "" {
			headers = append(headers, "X-Forwarded-For", tt.forwarded)
		}
		if a := proxy.get("/", headers...); a.Status != tt.want {
			t.Errorf("X-Forwarded-For: %s: %d, want %d", tt.forwarded, a.Status, tt.want)
		}
	}
}

// The allowlist also covers clients that connect by IPv6, and distinguishes ::1 from 127.0.0.1,
// although both are this machine. The bootstrap dual-stack.yaml listens on both, on one port.
func TestAllowlistOverIPv6(t *testing.T) {
	d := deploy(t, deployOptions{bootstrap: "dual-stack.yaml"})
	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"::1"}}})
	d.enforce("default", maintenance.NoAccess, "closed")
	six, four := newVisitor(t, "::1", fmt.Sprintf("[::1]:%d", d.envoyPort.Number)), d.visitorFrom("127.0.0.1")
	if a := six.get("/"); a.Status != 200 {
		t.Errorf("from ::1, which is allowed: %d, want 200", a.Status)
	}
	if a := four.get("/"); a.Status != 503 {
		t.Errorf("from 127.0.0.1: %d, want 503", a.Status)
	}

	d.putApp(maintenance.Spec{Name: "default", Bypass: maintenance.Bypass{IPs: []string{"127.0.0.1", "::2/127"}}})
	d.awaitEnforced("default")
	if a := six.get("/"); a.Status != 503 {
		t.Errorf("from ::1, after it was removed: %d, want 503", a.Status)
	}
	if a := four.get("/"); a.Status != 200 {
		t.Errorf("from 127.0.0.1, after it was added: %d, want 200", a.Status)
	}
}
