package maintenance_test

import (
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests exemptions: rules that name methods and paths whose requests pass in every mode.
// An exemption must not extend to what some server could read as another request.

// Exemptions match by method and path, and apply in every mode. Each case has a request and whether
// an exemption lets it pass.
func TestExemptionsPassInEveryMode(t *testing.T) {
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
		],`+activationJSON(mode)+`}]}`)

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
			{withBody(request("OPTIONS", "h", "/hooks"), "", "x"), false},
			{request("get", "h", "/healthz"), false}, // methods are case-sensitive (RFC 9110 section 9.1)
			{get("h", "/healthz/x"), false},
			{get("h", "/.well-known/acme-challenge/token"), true},
			{request("DELETE", "h", "/.well-known/acme-challenge/token"), true},
			{get("h", "/.well-known/acme-challengers"), false}, // not at a segment boundary
			{request("POST", "h", "/hooks/stripe"), true},
			{request("HEAD", "h", "/hooks/stripe"), false},
			{request("PATCH", "h", "/both"), true},
			{request("POST", "h", "/both"), false},
			{request("PURGE", "h", "/any/thing"), true},

			// An upgrade passes only if the exemption allows upgrades.
			{get("h", "/chat", "upgrade", "websocket", "connection", "upgrade"), false},
			{get("h", "/chat", ":protocol", "websocket"), false},
			{get("h", "/chat"), true},
			{get("h", "/live", "upgrade", "websocket", "connection", "upgrade"), true},
			{request("CONNECT", "h", "/live", ":protocol", "websocket"), true},

			// Some server may take a body that has no meaning with the method for another request.
			{withBody(get("h", "/healthz", "content-length", "40"), "", "POST /orders HTTP/1.1"), false},
			{withBody(get("h", "/healthz"), "", ""), true},
			{withBody(get("h", "/chat"), "", "x"), false},
			{withBody(get("h", "/find"), "application/json", `{}`), true},

			// The body of a POST must not name another method.
			{withBody(request("POST", "h", "/hooks"), "application/json", `{"type":"charge","payment_method":"card"}`), true},
			{withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", `payload=%7B%7D`), true},
			{withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", `_method=DELETE`), false},
			{withBody(request("POST", "h", "/hooks"), "application/json", `{"_method":"DELETE"}`), false},
			{withBody(request("POST", "h", "/hooks"), "multipart/form-data; boundary=x", "--x--"), false},
			{withBody(request("POST", "h", "/hooks"), "", ""), true},
			{withBody(request("POST", "h", "/hooks"), "", "_method=DELETE"), false},
			{withBody(request("POST", "h", "/hooks"), "application/json", `{"httpMethod":"GET","method":"x"}`), true},
			{withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded+json", `"x=1&_method=DELETE&y="`), false},
			{withBody(request("POST", "h", "/hooks"), "application/json", `"x=1&_method=DELETE&y="`), false},
			{withBody(request("POST", "h", "/hooks"), "application/json", ` [{"type":"charge"}] `), true},
			{withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", ` {"a":1,"_method":"DELETE"}`), false},
			{withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", ` {"a":1}`), true},
			{withBody(request("POST", "h", "/hooks"), "application/grpc+json", `{"_method":"DELETE"}`), false},
			{withBody(request("POST", "h", "/uploads"), "multipart/form-data; boundary=x", "--x--"), true},

			// Every method that a framework may see must be one of the rule's.
			{request("POST", "h", "/hooks", "x-http-method-override", "POST"), true},
			{request("POST", "h", "/hooks", "x-http-method-override", "DELETE"), false},
			{request("POST", "h", "/hooks?_method=delete"), false},
			{request("PUT", "h", "/both", "x-http-method", "PATCH"), true},
			{request("PUT", "h", "/both", "x-http-method", "PATCH", "x-method-override", "PATCH"), false},
			{get("h", "/healthz", "x_http_method_override", "DELETE"), false},
			{request("DELETE", "h", "/.well-known/acme-challenge/token", "x-http-method-override", "PUT"), true},
		} {
			d := decideWithBody(t, s, c.r)
			if c.exempt != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleExempt) {
				t.Errorf("%s %s %v %q in %s: %v by %s", c.r.Method, c.r.Path, c.r.Headers[3:], c.r.Body, mode, d.Verdict, d.Rule)
			}
		}
	}
}

// If an exemption names a request but does not let it pass, the refusal says so.
func TestRefusalNamesTheExemption(t *testing.T) {
	for _, mode := range []maintenance.Mode{maintenance.ReadOnly, maintenance.NoAccess} {
		s := mustParse(t, `{"apps":[{"name":"default","exempt":[{"methods":["POST"],"prefix":"/hooks"}],`+activationJSON(mode)+`}]}`)
		for _, r := range []*maintenance.Request{
			withBody(request("POST", "h", "/hooks"), "multipart/form-data; boundary=x", "--x--"),
			withBody(request("POST", "h", "/hooks"), "application/x-www-form-urlencoded", "_method=DELETE"),
			withBody(request("POST", "h", "/hooks", "content-length", "99999999"), "application/json", ""),
		} {
			if d := decideWithBody(t, s, r); d.Verdict != maintenance.Refuse || d.Rule != maintenance.RuleExemptUnclear {
				t.Errorf("%s in %s: %v by %s", r.Body, mode, d.Verdict, d.Rule)
			}
		}

		if d := decideWithBody(t, s, request("PUT", "h", "/hooks")); d.Verdict != maintenance.Refuse || d.Rule == maintenance.RuleExemptUnclear {
			t.Errorf("PUT in %s: %v by %s", mode, d.Verdict, d.Rule)
		}
	}
}
