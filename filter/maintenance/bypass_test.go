package maintenance_test

import (
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests bypasses by the address of a client, and by the identity of a peer in a mesh. The
// app is in no-access, so that a request passes only by a bypass. Those by claims are in
// claims_test.go.

// Addresses are compared by value, whatever their spelling and port. The keys are addresses as a
// proxy may report them.
func TestAllowlistedAddressesBypass(t *testing.T) {
	s := noAccessState(t, `"bypass":{"ips":["192.0.2.7","10.1.0.0/16","::ffff:198.51.100.0/120","::ffff:203.0.113.9","2001:db8:1::/48","2001:DB8:2::7","fe80::/10","0.0.0.0/32"]}`)
	for address, passes := range map[string]bool{
		"192.0.2.7:4711": true, "192.0.2.7": true, "192.0.2.8:4711": false, "192.0.2.70:1": false,
		"10.1.0.0:1": true, "10.1.255.255:1": true, "10.0.255.255:1": false, "10.2.0.0:1": false,
		"[::ffff:192.0.2.7]:4711": true, "::ffff:192.0.2.7": true, "[::ffff:c000:207]:1": true, "[::ffff:192.0.2.8]:1": false,
		"198.51.100.200:1": true, "198.51.101.0:1": false, "203.0.113.9:1": true,
		"[2001:db8:1::5]:443": true, "[2001:db8:1:ffff::]:443": true, "[2001:db8:2::7]:443": true, "[2001:db8:2::8]:443": false,
		"2001:db8:1::5": true, "[2001:db8:1::5]": true, "[2001:0DB8:0001:0:0:0:0:5]:443": true,
		"[fe80::1%eth0]:443": true, "fe80::1%eth0": true, "[2001:db8:3::1%x]:1": false,
		"[::192.0.2.7]:1": false, // IPv4-compatible, which is another address
		"0.0.0.0:1":       true,

		"": false, ":": false, ":80": false, "localhost:80": false, "192.0.2.7:": false, "192.0.2.7:x": false, "192.0.2.7:80:90": false,
		"192.0.2.7, 1.2.3.4": false, " 192.0.2.7": false, "192.0.2.007": false, "192.0.2": false, "3221225991": false, "0xc0000207": false,
		"[192.0.2.7": false, "192.0.2.7]": false, "[[192.0.2.7]]": false, "/run/envoy.sock": false, "@": false, "\xff": false,
		"192.0.2.7/32": false, "[2001:db8:1::5": false, "[]": false,
	} {
		r := get("h", "/")
		r.Attributes = &attributes{source: address}
		d := s.Decide(r, noon)

		if passes != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleBypassIP) {
			t.Errorf("%s: %v by %s", address, d.Verdict, d.Rule)
		}
	}

}

// Only the address that the proxy determined counts, and not one that a client writes into a
// header.
func TestHeadersDoNotBypass(t *testing.T) {
	s := noAccessState(t, `"bypass":{"ips":["192.0.2.7"]}`)
	for _, header := range []string{"x-forwarded-for", "x-real-ip", "x-envoy-external-address", "forwarded", "x-drydock-bypass", "true-client-ip"} {
		r := get("h", "/", header, "192.0.2.7")
		r.Attributes = &attributes{source: "198.18.0.1:1"}
		if d := s.Decide(r, noon); d.Verdict != maintenance.Refuse {
			t.Errorf("%s lets pass", header)
		}
	}

}

// 0.0.0.0/0 contains every IPv4 address, and no IPv6 address.
func TestEveryIPv4AddressBypasses(t *testing.T) {
	s := noAccessState(t, `"bypass":{"ips":["0.0.0.0/0"]}`)
	for address, passes := range map[string]bool{"1.2.3.4:1": true, "[::ffff:1.2.3.4]:1": true, "[2001:db8::1]:1": false} {
		r := get("h", "/")
		r.Attributes = &attributes{source: address}
		if d := s.Decide(r, noon); passes != (d.Verdict == maintenance.Pass) {
			t.Errorf("0.0.0.0/0 and %s: %v", address, d.Verdict)
		}
	}
}

// A principal is allowed exactly, or by a prefix that ends with *.
func TestAllowlistedPrincipalsBypass(t *testing.T) {
	s := noAccessState(t, `"bypass":{"principals":["spiffe://cluster.local/ns/ops/sa/admin","spiffe://cluster.local/ns/ci/*"]}`)
	for principal, passes := range map[string]bool{
		"spiffe://cluster.local/ns/ops/sa/admin":  true,
		"spiffe://cluster.local/ns/ci/sa/any":     true,
		"spiffe://cluster.local/ns/ci/":           true,
		"spiffe://cluster.local/ns/ci":            false,
		"spiffe://cluster.local/ns/cix/sa/a":      false,
		"spiffe://cluster.local/ns/ops/sa/admin2": false,
		"spiffe://cluster.local/ns/ops/sa/Admin":  false,
		"spiffe://cluster.local/ns/ops/sa/*":      false,
		"":                                        false,
	} {
		r := get("h", "/")
		r.Attributes = &attributes{principal: principal}
		d := s.Decide(r, noon)

		if passes != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleBypassPrincipal) {
			t.Errorf("%s: %v by %s", principal, d.Verdict, d.Rule)
		}
	}
}
