package maintenance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"
)

// This file measures what the core costs, in time and in allocations, so that a change can be
// compared with what was there before.

// browserRequest returns the request of a browser as Envoy passes it on. The headers are names,
// each followed by its value.
func browserRequest(method, target string, headers ...string) *maintenance.Request {
	r := request(method, "shop.example.com", target,
		":scheme", "https", "accept", browserAccept, "accept-encoding", "gzip, deflate, br", "accept-language", "en-GB,en;q=0.9", "cookie", strings.Repeat("x", 300),
		"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "x-forwarded-proto", "https", "x-request-id", "1f2e3d4c-0000-4000-8000-000000000000")

	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, [2]string{headers[i], headers[i+1]})
	}

	r.Attributes = &attributes{source: "203.0.113.9:4711"}
	return r
}

// BenchmarkDecide measures the cost of a request while an app is in maintenance.
func BenchmarkDecide(b *testing.B) {
	var ips []string // 10.0.0.0/24 and the CIDRs after it; no client is in them
	for i := range 10_000 {
		ips = append(ips, fmt.Sprintf(`"10.%d.%d.0/24"`, i/256, i%256))
	}

	var apps []string

	for i := range 1_000 {
		apps = append(apps, fmt.Sprintf(`{"name":"app-%d","match":{"hosts":["app%d.example.com"]}}`, i, i))
	}

	query := `{"operationName":"Products","variables":{"first":20},"query":"query Products($first: Int!) {` + strings.Repeat(" products(first: $first) { nodes { id name price { amount currency } } }", 13) + ` }"}`
	graphQL := browserRequest("POST", "/graphql", "content-type", "application/json")
	graphQL.Body, graphQL.BodyRead, graphQL.EndStream = []byte(query), true, false
	// Another app is in maintenance, so that the state is not idle, and the app of the request is
	// off.
	another := `{"apps":[{"name":"other","match":{"hosts":["other.example.com"]},` + activationJSON(maintenance.NoAccess) + `},{"name":"shop","match":{"hosts":["shop.example.com"]}}]}`

	for _, c := range []struct {
		name, doc string
		r         *maintenance.Request
		want      maintenance.Verdict
	}{
		{"another app is on", another, browserRequest("GET", "/products/7?x=y"), maintenance.Pass},
		{"another app is on, encoded path", another, browserRequest("GET", "/caf%C3%A9/7?x=y"), maintenance.Pass},
		{"another app is on, disguised path", another, browserRequest("GET", "/a%2fb/%2e%2e/c;x=y//d"), maintenance.Pass},
		{"1000 other apps", `{"apps":[` + strings.Join(apps, ",") + `,{"name":"shop","match":{"paths":["/products"]},` + activationJSON(maintenance.ReadOnly) + `}]}`, browserRequest("GET", "/products/7"), maintenance.Pass},
		{"no-access, 10000 CIDRs", `{"apps":[{"name":"default","bypass":{"ips":[` + strings.Join(ips, ",") + `]},` + activationJSON(maintenance.NoAccess) + `}]}`, browserRequest("GET", "/products/7"), maintenance.Refuse},
		{"no-access, exempt", `{"apps":[{"name":"default","exempt":[{"methods":["GET"],"path":"/healthz"}],` + activationJSON(maintenance.NoAccess) + `}]}`, browserRequest("GET", "/healthz"), maintenance.Pass},
		{"read-only, GET", `{"apps":[{"name":"default",` + activationJSON(maintenance.ReadOnly) + `}]}`, browserRequest("GET", "/products/7?page=2"), maintenance.Pass},
		{fmt.Sprintf("read-only, GraphQL query of %d bytes", len(query)), `{"apps":[{"name":"default",` + activationJSON(maintenance.ReadOnly) + `}]}`, graphQL, maintenance.Pass},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := mustParse(b, c.doc)
			if d := s.Decide(c.r, noon); d.Verdict != c.want {
				b.Fatalf("%v by %s", d.Verdict, d.Rule)
			}

			b.ReportAllocs()

			for b.Loop() {
				r := *c.r // a copy: a request keeps its readings, so each decision needs a new one
				s.Decide(&r, noon)
			}
		})
	}
}

// BenchmarkAttack measures the decision on attacks and the reply, beside plain refused requests of
// the same size. The largest inputs are those that Envoy accepts: 60 KiB of headers and 1 MiB of
// body.
func BenchmarkAttack(b *testing.B) {
	var writes []string
	for i := range 20 {
		writes = append(writes, fmt.Sprintf(`{"prefix":"/w%d"}`, i))
	}

	s := mustParse(b, `{"apps":[{"name":"gated","match":{"paths":["/gated"]},`+activationJSON(maintenance.NoAccess)+`},
		{"name":"default","exempt":[{"prefix":"/static"},{"methods":["GET"],"path":"/healthz"}],
		"read_only":{"write_through":[{"methods":["POST"],"path":"/search"}],"get_writes":[`+strings.Join(writes, ",")+`]},`+activationJSON(maintenance.ReadOnly)+`}]}`)
	const form, json = "application/x-www-form-urlencoded", "application/json"
	// fill repeats a piece up to n bytes.
	fill := func(n int, piece string) string { return strings.Repeat(piece, n/len(piece)) }
	many := make([]string, 0, 200) // 100 headers that look like overrides, with their values

	for i := range 100 {
		many = append(many, fmt.Sprintf("x.http.method.%d", i), fill(500, "method-override"))
	}

	for _, c := range []struct {
		name string
		r    *maintenance.Request
	}{
		{"plain", request("DELETE", "h", "/orders/7")},
		{"plain, path of 4 kB", request("DELETE", "h", "/"+fill(4000, "orders"))},
		{"plain, path of 60 kB", request("DELETE", "h", "/"+fill(60_000, "orders"))},
		{"plain, query of 60 kB", request("DELETE", "h", "/?"+fill(60_000, "a=b&"))},
		{"plain, GraphQL of 1 MB", withBody(request("POST", "h", "/graphql"), json, `{"query":"mutation{b}`+fill(1_000_000, " ")+`"}`)},

		{"path: percent signs", get("h", "/w/"+fill(4000, "%25"))},
		{"path: escapes of everything", get("h", "/w/"+fill(4000, "%2f%5c%3b%2e%2e"))},
		{"path: dot segments and parameters", get("h", fill(4000, "//a/./b%2f..;x"))},
		{"path: overlong", get("h", "/"+fill(4000, "%c0%af\xff"))},
		{"path: scripts", get("h", fill(4000, "/a.php"))},
		{"path: blanks", get("h", fill(4000, "/ .%20"))},
		{"path: 60 kB of escapes", get("h", fill(60_000, "/%41"))},
		{"host of 60 kB", get(fill(60_000, "a."), "/")},
		{"X-Original-URL", get("h", "/", "x-original-url", "/"+"%"+fill(120, "25")+"3b"+fill(3900, "\xff"))},
		{"X-Original-URL, 60 kB", get("h", "/", "x-original-url", "/"+fill(60_000, "%25;\xff"))},
		{"100 X-Original-URLs", get("h", "/", slices.Concat(slices.Repeat([]string{"x-original-url", fill(500, "/%2e%2e;x")}, 100))...)},
		{"Forwarded of 60 kB", get("h", "/", "forwarded", fill(60_000, `host="a.b.c",`))},
		{"100 headers", get("h", "/w1", many...)},
		{"cookie of 60 kB", get("h", "/w1", "cookie", fill(60_000, ";_metho"))},
		{"query of 60 kB", get("h", "/w1?"+fill(60_000, "%255fmethoD_=&"))},
		{"query of one name of 60 kB", get("h", "/w1?"+fill(60_000, "%25_"))},
		{"form of 1 MB", withBody(request("POST", "h", "/search"), form, "_method=x&"+fill(1_000_000, "\xff"))},
		{"form of 1 MB of names", withBody(request("POST", "h", "/search"), form, fill(1_000_000, "%25_&")+"&_method=x")},
		{"JSON of 1 MB", withBody(request("POST", "h", "/search"), json, "{"+fill(1_000_000, `"a":[{}],`)+`"a":1}`)},
		{"GraphQL: 1 MB of tokens", withBody(request("POST", "h", "/graphql"), json, `{"query":"mutation{`+fill(1_000_000, "a ")+`}"}`)},
		{"GraphQL: 1 MB of escapes", withBody(request("POST", "h", "/graphql"), json, `{"query":"mutation{`+fill(1_000_000, `\u0061`)+`}"}`)},
		{"GraphQL: 1 MB of variables", withBody(request("POST", "h", "/graphql"), json, `{"query":"mutation{b}","variables":{"a":`+fill(1_000_000, "[[],[]],")+`}}`)},
		{"GraphQL: query of 60 kB", get("h", "/graphql?query="+fill(60_000, "%7ba%7d")+"mutation%7bb%7d")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				// As in the filter: decided by the headers, then with the body, and then refused.
				r := adversary.Fresh(c.r)
				d := s.Decide(r, noon)
				if d.Verdict == maintenance.NeedBody {
					r.BodyRead = true
					d = s.Decide(r, noon)
				}
				if d.Verdict == maintenance.Refuse {
					d.Reply(r, nil, noon)
				}
			}
		})
	}
}

// BenchmarkParse measures how long it takes to read and compile a document of every field.
func BenchmarkParse(b *testing.B) {
	data := everythingJSON(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()

	for b.Loop() {
		if _, err := maintenance.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReply measures the reply to a browser, with the built-in page.
func BenchmarkReply(b *testing.B) {
	s := noAccessState(b, `"retry_after":1`)
	r := browserRequest("GET", "/")
	d := s.Decide(r, noon)
	b.ReportAllocs()
	for b.Loop() {
		d.Reply(r, nil, noon)
	}
}

// BenchmarkClaims measures the cost of a request with a token: the token of a person, and the
// largest ones that fit into Envoy's 60 KiB of headers, with many rules.
func BenchmarkClaims(b *testing.B) {
	person := map[string]any{"iss": "https://id.example.com", "aud": []any{"shop", "account"}, "sub": "f:8a3c:joe", "exp": 1.7e9, "iat": 1.7e9, "azp": "shop", "email_verified": true,
		"realm_access": map[string]any{"roles": []any{"default-roles", "offline_access", "uma_authorization", "user"}}, "scope": "openid email profile", "name": "Joe Doe", "email": "joe@example.com"}
	groups, names := map[string]any{"iss": "https://id.example.com"}, map[string]any{"iss": "https://id.example.com"}
	var many []any

	for i := range 4000 {
		many = append(many, fmt.Sprintf("g%04d", i))
		names[fmt.Sprintf("n%04d", i)] = true
	}

	groups["groups"] = many
	var values, rules []string

	for i := range 100 {
		values = append(values, fmt.Sprintf(`"x%04d"`, i))
		rules = append(rules, fmt.Sprintf(`{"issuer":"https://id.example.com","claim":["x%04d"]}`, i))
	}

	for _, c := range []struct {
		name, rules string
		payload     map[string]any
	}{
		{"a person's token, 3 rules", `{"issuer":"https://other.example.com"},{"issuer":"https://id.example.com","audience":"shop","claim":["realm_access","roles"],"values":["admin","sre"]},{"issuer":"https://id.example.com","claim":["staff"],"values":[true]}`, person},
		{"4000 groups, 100 values", `{"issuer":"https://id.example.com","claim":["groups"],"values":[` + strings.Join(values, ",") + `]}`, groups},
		{"4000 claims, 100 rules", strings.Join(rules, ","), names},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := noAccessState(b, `"bypass":{"claims":[`+c.rules+`]}`)
			payload := mustMarshalClaims(b, c.payload)
			metadata := []byte(bytesField(1, bytesField(1, "jwt")+bytesField(2, mapItem("payload", string(payload)))))
			b.SetBytes(int64(len(metadata)))
			b.ReportAllocs()

			for b.Loop() {
				r := browserRequest("GET", "/")
				r.Attributes = &attributes{claims: maintenance.MetadataClaims(metadata, []string{"jwt", "payload"})}
				if d := s.Decide(r, noon); d.Verdict != maintenance.Refuse {
					b.Fatal(d.Rule)
				}
			}
		})
	}
}
