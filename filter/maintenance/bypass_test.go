package maintenance_test

import (
	"encoding/binary"
	"math"
	"strings"
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

// Claims are those of a token that the proxy has verified, read as it serialises them.
func TestBypassByClaim(t *testing.T) {
	const idp = "https://idp.example.com"
	for _, c := range []struct {
		name   string
		rule   string
		claims map[string]any
		passes bool
	}{
		{"string", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "admin"}, true},
		{"another string", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "user"}, false},
		{"letter case", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "Admin"}, false},
		{"part of a string", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "administrator"}, false},
		{"a string that lists", `{"issuer":"https://idp.example.com","claim":["scope"],"values":["ops"]}`, map[string]any{"iss": idp, "scope": "read ops"}, false},
		{"list", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"user", "admin"}}, true},
		{"list of one", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"admin"}}, true},
		{"list without it", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"user", "adm", "in"}}, false},
		{"empty list", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{}}, false},
		{"any of", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin","ops"]}`, map[string]any{"iss": idp, "role": "ops"}, true},
		{"any of, in a list", `{"issuer":"https://idp.example.com","claim":["roles"],"values":["admin","ops"]}`, map[string]any{"iss": idp, "roles": []any{"x", "ops"}}, true},
		{"nested", `{"issuer":"https://idp.example.com","claim":["realm_access","roles"],"values":["admin"]}`, map[string]any{"iss": idp, "realm_access.roles": []any{"admin"}}, true},
		{"nested, at the top", `{"issuer":"https://idp.example.com","claim":["realm_access","roles"],"values":["admin"]}`, map[string]any{"iss": idp, "roles": []any{"admin"}}, false},
		{"number", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": 3}, true},
		{"another number", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": 30}, false},
		{"number in a list", `{"issuer":"https://idp.example.com","claim":["levels"],"values":[1.5]}`, map[string]any{"iss": idp, "levels": []any{1, 1.5}}, true},
		{"number as a string", `{"issuer":"https://idp.example.com","claim":["level"],"values":[3]}`, map[string]any{"iss": idp, "level": "3"}, false},
		{"string as a number", `{"issuer":"https://idp.example.com","claim":["level"],"values":["3"]}`, map[string]any{"iss": idp, "level": 3}, false},
		{"true", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": true}, true},
		{"false", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": false}, false},
		{"true as a string", `{"issuer":"https://idp.example.com","claim":["staff"],"values":[true]}`, map[string]any{"iss": idp, "staff": "true"}, false},
		{"true wanted as a string", `{"issuer":"https://idp.example.com","claim":["staff"],"values":["true"]}`, map[string]any{"iss": idp, "staff": true}, false},
		{"list of bools", `{"issuer":"https://idp.example.com","claim":["flags"],"values":[true]}`, map[string]any{"iss": idp, "flags": []any{false, true}}, true},
		{"presence", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": "x"}, true},
		{"presence of what is false", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp, "staff": false}, true},
		{"absence", `{"issuer":"https://idp.example.com","claim":["staff"]}`, map[string]any{"iss": idp}, false},
		{"any token of the issuer", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": idp}, true},
		{"empty string", `{"issuer":"https://idp.example.com","claim":["role"],"values":[""]}`, map[string]any{"iss": idp, "role": ""}, true},

		{"no token", `{"issuer":"https://idp.example.com"}`, nil, false},
		{"another issuer", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": "https://evil.example.com", "role": "admin"}, false},
		{"an issuer that begins alike", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": idp + ".evil.example.com"}, false},
		{"issuers in a list", `{"issuer":"https://idp.example.com"}`, map[string]any{"iss": []any{idp}}, false},
		{"no issuer", `{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"role": "admin"}, false},

		{"audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": "shop"}, true},
		{"one of the audiences", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": []any{"other", "shop"}}, true},
		{"another audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp, "aud": "shop2"}, false},
		{"no audience", `{"issuer":"https://idp.example.com","audience":"shop"}`, map[string]any{"iss": idp}, false},
		{"audience, but not the claim", `{"issuer":"https://idp.example.com","audience":"shop","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "aud": "shop", "role": "user"}, false},

		{"the second rule", `{"issuer":"https://other.example.com"},{"issuer":"https://idp.example.com","claim":["role"],"values":["admin"]}`, map[string]any{"iss": idp, "role": "admin"}, true},
		{"half of one rule and half of another", `{"issuer":"https://other.example.com","claim":["role"],"values":["admin"]},{"issuer":"https://idp.example.com","claim":["role"],"values":["root"]}`, map[string]any{"iss": idp, "role": "admin"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := closed(t, `"bypass":{"claims":[`+c.rule+`]}`)
			r := get("h", "/")
			r.Attributes = &attributes{claims: c.claims}
			d := s.Decide(r, noon)
			if c.passes != (d.Verdict == maintenance.Pass && d.Rule == maintenance.RuleBypassClaim) {
				t.Errorf("%v by %s", d.Verdict, d.Rule)
			}
		})
	}
}

// A property is bytes, and whatever bytes a token brings, they neither panic nor pass
// for a list that they are not.
func TestPropertyEncoding(t *testing.T) {
	le := func(numbers ...uint32) string {
		var b []byte
		for _, n := range numbers {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		return string(b)
	}
	list := func(items ...any) string {
		p, err := maintenance.Property(items)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if got, want := list("a", "bc"), le(2, 1, 0, 2, 0)+"a\x00\x00bc\x00\x00"; got != want {
		t.Errorf("a list is %q, want %q", got, want)
	}
	three := string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(3)))
	for _, p := range []struct {
		v    any
		want string
	}{{"x", "x"}, {"", ""}, {true, "\x01"}, {false, "\x00"}, {3, three}, {3.0, three}, {[]any{}, le(0)}} {
		if got, err := maintenance.Property(p.v); err != nil || got != p.want {
			t.Errorf("%v: %q, %v", p.v, got, err)
		}
	}
	for _, v := range []any{nil, map[string]any{}, []any{[]any{}}, []any{nil}, []string{"x"}, uint8(1)} {
		if _, err := maintenance.Property(v); err == nil {
			t.Errorf("%v was taken", v)
		}
	}

	s := closed(t, `"bypass":{"claims":[{"issuer":"i","claim":["role"],"values":["admin",true]}]}`)
	good := list("user", "admin")
	for name, c := range map[string]struct {
		property string
		passes   bool
	}{
		"a list":                            {good, true},
		"empty":                             {"", false},
		"three bytes":                       {"\x01\x00\x00", false},
		"no sizes":                          {le(1), false},
		"half a size":                       {le(1) + "\x05", false},
		"fewer items than said":             {le(2, 5, 0) + "admin\x00\x00", false},
		"more bytes than said":              {good + "\x00", false},
		"fewer bytes than said":             {good[:len(good)-1], false},
		"a size past the end":               {le(1, 6, 0) + "admin\x00\x00", false},
		"the largest size":                  {le(1, math.MaxUint32, 0) + "admin\x00\x00", false},
		"a size that wraps":                 {le(1, math.MaxInt32, 0) + "admin\x00\x00", false},
		"a size that wraps with its NULs":   {le(1, math.MaxUint32-1, 0) + "admin\x00\x00", false},
		"the most items":                    {le(math.MaxUint32), false},
		"items whose sizes wrap":            {le(1<<29) + "admin\x00\x00", false},
		"a NUL missing behind a key":        {le(1, 5, 0) + "admin.\x00", false},
		"a NUL missing behind a value":      {le(1, 5, 0) + "admin\x00.", false},
		"a map, which is no list":           {le(1, 5, 1) + "admin\x00x\x00", false},
		"a map behind the item":             {le(2, 5, 0, 1, 1) + "admin\x00\x00a\x00x\x00", false},
		"a list in a list":                  {list(good), false},
		"a text that begins like a list":    {good + "…", false},
		"a text that ends like one":         {"x" + good, false},
		"true in a list":                    {list("x", true), true},
		"a long text":                       {strings.Repeat("admin", 10000), false},
		"the item after an empty one":       {list("", "admin"), true},
		"the item before a broken one":      {le(2, 5, 0, 9, 0) + "admin\x00\x00x\x00\x00", false},
		"a scalar of the value's own bytes": {"admin", true},
	} {
		r := get("h", "/")
		r.Attributes = &attributes{raw: map[string]string{"iss": "i", "role": c.property}}
		if d := s.Decide(r, noon); c.passes != (d.Verdict == maintenance.Pass) {
			t.Errorf("%s (%q): %v", name, c.property, d.Verdict)
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
			{request("OPTIONS", "h", "/healthz"), false},
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
