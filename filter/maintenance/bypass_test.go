package maintenance_test

import (
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// closed is the default app in no-access with further fields.
func closed(t testing.TB, fields string) *maintenance.State {
	t.Helper()
	return mustParse(t, `{"apps":[{"name":"default",`+fields+`,`+on(maintenance.NoAccess)+`}]}`)
}

// Addresses are compared as addresses, whatever the spelling and the port.
func TestBypassByIP(t *testing.T) {
	s := closed(t, `"bypass":{"ips":["192.0.2.7","10.1.0.0/16","::ffff:198.51.100.0/120","::ffff:203.0.113.9","2001:db8:1::/48","2001:DB8:2::7","fe80::/10","0.0.0.0/32"]}`)
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
	// The proxy's word alone counts.
	for _, header := range []string{"x-forwarded-for", "x-real-ip", "x-envoy-external-address", "forwarded", "x-drydock-bypass", "true-client-ip"} {
		r := get("h", "/", header, "192.0.2.7")
		r.Attributes = &attributes{source: "198.18.0.1:1"}
		if d := s.Decide(r, noon); d.Verdict != maintenance.Refuse {
			t.Errorf("%s lets pass", header)
		}
	}
	everyone := closed(t, `"bypass":{"ips":["0.0.0.0/0"]}`)
	for address, passes := range map[string]bool{"1.2.3.4:1": true, "[::ffff:1.2.3.4]:1": true, "[2001:db8::1]:1": false} {
		r := get("h", "/")
		r.Attributes = &attributes{source: address}
		if d := everyone.Decide(r, noon); passes != (d.Verdict == maintenance.Pass) {
			t.Errorf("0.0.0.0/0 and %s: %v", address, d.Verdict)
		}
	}
}

func TestBypassByPrincipal(t *testing.T) {
	s := closed(t, `"bypass":{"principals":["spiffe://cluster.local/ns/ops/sa/admin","spiffe://cluster.local/ns/ci/*"]}`)
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

// Exemptions are by method and path, and hold in every mode.
func TestExempt(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
		s := mustParse(t, `{"apps":[{"name":"default","exempt":[
			{"methods":["GET"],"path":"/healthz"},
			{"prefix":"/.well-known/acme-challenge/"},
			{"methods":["POST"],"prefix":"/hooks"},
			{"methods":["PUT","PATCH"],"path":"/both"},
			{"path":"/chat"},
			{"path":"/live","allow":["upgrades"]},
			{"methods":["GET"],"path":"/find","allow":["bodies"]},
			{"methods":["POST"],"path":"/uploads","allow":["overrides"]},
			{"prefix":"/"  ,"methods":["PURGE"]}
		],`+on(mode)+`}]}`)
		for _, c := range []struct {
			r      *maintenance.Request
			exempt bool
		}{
			{get("h", "/healthz"), true},
			{get("h", "/healthz?verbose"), true},
			{request("HEAD", "h", "/healthz"), true}, // RFC 9110 section 9.3.2
			{request("POST", "h", "/healthz"), false},
			{request("OPTIONS", "h", "/healthz"), true},
			{request("OPTIONS", "h", "/hooks", "origin", "https://app.example.com", "access-control-request-method", "POST"), true},
			{body(request("OPTIONS", "h", "/hooks"), "", "x"), false},
			{request("get", "h", "/healthz"), false},
			{get("h", "/healthz/x"), false},
			{get("h", "/.well-known/acme-challenge/token"), true},
			{request("DELETE", "h", "/.well-known/acme-challenge/token"), true},
			{get("h", "/.well-known/acme-challengers"), false},
			{request("POST", "h", "/hooks/stripe"), true},
			{request("HEAD", "h", "/hooks/stripe"), false},
			{request("PATCH", "h", "/both"), true},
			{request("POST", "h", "/both"), false},
			{request("PURGE", "h", "/any/thing"), true},
			{get("h", "/chat", "upgrade", "websocket", "connection", "upgrade"), false},
			{get("h", "/chat", ":protocol", "websocket"), false},
			{get("h", "/chat"), true},
			{get("h", "/live", "upgrade", "websocket", "connection", "upgrade"), true},
			{request("CONNECT", "h", "/live", ":protocol", "websocket"), true},

			// A body that the method gives no meaning may be another request to some server.
			{body(get("h", "/healthz", "content-length", "40"), "", "POST /orders HTTP/1.1"), false},
			{body(get("h", "/healthz"), "", ""), true},
			{body(get("h", "/chat"), "", "x"), false},
			{body(get("h", "/find"), "application/json", `{}`), true},

			// The body of a POST must not name another method.
			{body(request("POST", "h", "/hooks"), "application/json", `{"type":"charge","payment_method":"card"}`), true},
			{body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", `payload=%7B%7D`), true},
			{body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", `_method=DELETE`), false},
			{body(request("POST", "h", "/hooks"), "application/json", `{"_method":"DELETE"}`), false},
			{body(request("POST", "h", "/hooks"), "multipart/form-data; boundary=x", "--x--"), false},
			{body(request("POST", "h", "/hooks"), "", ""), true},
			{body(request("POST", "h", "/hooks"), "", "_method=DELETE"), false},
			{body(request("POST", "h", "/hooks"), "application/json", `{"httpMethod":"GET","method":"x"}`), true},
			{body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded+json", `"x=1&_method=DELETE&y="`), false},
			{body(request("POST", "h", "/hooks"), "application/json", `"x=1&_method=DELETE&y="`), false},
			{body(request("POST", "h", "/hooks"), "application/json", ` [{"type":"charge"}] `), true},
			{body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", ` {"a":1,"_method":"DELETE"}`), false},
			{body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", ` {"a":1}`), true},
			{body(request("POST", "h", "/hooks"), "application/grpc+json", `{"_method":"DELETE"}`), false},
			{body(request("POST", "h", "/uploads"), "multipart/form-data; boundary=x", "--x--"), true},

			// Whatever method a framework may see must be one of the rule's.
			{request("POST", "h", "/hooks", "x-http-method-override", "POST"), true},
			{request("POST", "h", "/hooks", "x-http-method-override", "DELETE"), false},
			{request("POST", "h", "/hooks?_method=delete"), false},
			{request("PUT", "h", "/both", "x-http-method", "PATCH"), true},
			{request("PUT", "h", "/both", "x-http-method", "PATCH", "x-method-override", "PATCH"), false},
			{get("h", "/healthz", "x_http_method_override", "DELETE"), false},
			{request("DELETE", "h", "/.well-known/acme-challenge/token", "x-http-method-override", "PUT"), true},
		} {
			d := decide(t, s, c.r)
			if c.exempt != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleExempt) {
				t.Errorf("%s %s %v %q in %s: %v by %s", c.r.Method, c.r.Path, c.r.Headers[3:], c.r.Body, mode, d.Verdict, d.Rule)
			}
		}
	}
}

// A request that an exemption names and does not let pass is told so.
func TestRefusalNamesTheExemption(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
		s := mustParse(t, `{"apps":[{"name":"default","exempt":[{"methods":["POST"],"prefix":"/hooks"}],`+on(mode)+`}]}`)
		for _, r := range []*maintenance.Request{
			body(request("POST", "h", "/hooks"), "multipart/form-data; boundary=x", "--x--"),
			body(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", "_method=DELETE"),
			body(request("POST", "h", "/hooks", "content-length", "99999999"), "application/json", ""),
		} {
			if d := decide(t, s, r); d.Verdict != maintenance.Refuse || d.Rule != maintenance.RuleExemptUnclear {
				t.Errorf("%s in %s: %v by %s", r.Body, mode, d.Verdict, d.Rule)
			}
		}
		if d := decide(t, s, request("PUT", "h", "/hooks")); d.Verdict != maintenance.Refuse || d.Rule == maintenance.RuleExemptUnclear {
			t.Errorf("PUT in %s: %v by %s", mode, d.Verdict, d.Rule)
		}
	}
}

func TestRuleBypass(t *testing.T) {
	for rule, want := range map[maintenance.Rule]string{
		maintenance.RuleBypassIP: "ip", maintenance.RuleBypassClaim: "claim", maintenance.RuleBypassPrincipal: "principal",
		maintenance.RuleExempt: "", maintenance.RuleOff: "", maintenance.RuleGraphQLQuery: "",
	} {
		if got := rule.Bypass(); got != want {
			t.Errorf("%s: %q", rule, got)
		}
	}
}
