package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The decisions themselves are tested in the core, package maintenance. This test shows that the
// API hands each part of a described request to the core: each case differs from a POST, which
// read-only refuses, in a part that changes the decision.
func TestExplainUsesAllPartsOfARequest(t *testing.T) {
	r := startRig(t)
	spec := `{
		"name": "default",
		"bypass": {
			"ips": ["192.0.2.0/24"],
			"principals": ["spiffe://cluster.local/ns/ops/*"],
			"claims": [{"issuer": "https://idp", "claim": ["realm", "roles"], "values": ["admin"]}]
		},
		"exempt": [{"path": "/healthz"}]
	}`
	if a := r.call("PUT /api/v1/apps/default", operatorToken, spec, anyState); a.status != http.StatusOK {
		t.Fatal(a)
	}
	r.call("POST /api/v1/apps/default/activations", operatorToken, `{"mode":"read-only","message":"Migration"}`, anyState)

	// want is the verdict, the rule that decided, and the HTTP status of the reply, or 0 for a
	// request that passes.
	for _, c := range []struct{ name, request, want string }{
		{"a plain GET", `{}`, "pass read-only.safe-method 0"},
		{"a POST", `{"method":"POST","path":"/cart"}`, "refuse read-only.method 503"},
		{"as a browser", `{"method":"POST","headers":{"Accept":["text/html"]}}`, "refuse read-only.method 503"},
		{"an address", `{"method":"POST","ip":"192.0.2.9"}`, "pass bypass.ip 0"},
		{"an exempt path", `{"method":"POST","path":"/healthz?x"}`, "pass exempt 0"},
		{"a claim", `{"method":"POST","claims":{"iss":"https://idp","realm":{"roles":["user","admin"]}}}`, "pass bypass.claim 0"},
		{"a claim beside null and objects", `{"method":"POST","claims":{"iss":"https://idp","realm":{"roles":[null,{"x":[1]},"admin"],"more":null}}}`, "pass bypass.claim 0"},
		{"a claim of another type", `{"method":"POST","claims":{"iss":"https://idp","realm":{"roles":{"admin":""}}}}`, "refuse read-only.method 503"},
		{"of another issuer", `{"method":"POST","claims":{"iss":"https://evil","realm":{"roles":["admin"]}}}`, "refuse read-only.method 503"},
		{"a principal", `{"method":"POST","principal":"spiffe://cluster.local/ns/ops/sa/x"}`, "pass bypass.principal 0"},
		{"a query", `{"method":"POST","path":"/graphql","headers":{"content-type":["application/json"]},"body":"{\"query\":\"{a}\"}"}`, "pass graphql.query 0"},
		{"a mutation", `{"method":"POST","path":"/graphql","headers":{"content-type":["application/json"]},"body":"{\"query\":\"mutation{a}\"}"}`, "refuse graphql.mutation 503"},
		{"gRPC", `{"method":"POST","path":"/a.B/C","headers":{"content-type":["application/grpc"]}}`, "refuse read-only.method 200"},
	} {
		a := r.call("POST /api/v1/explain", viewerToken, c.request)
		var e Explanation
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", c.name, a.status, a.body)
		}

		status := 0
		if e.Reply != nil {
			status = e.Reply.Status
		}
		if got := fmt.Sprintf("%s %s %d", e.Verdict, e.Rule, status); got != c.want {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, e)
		}
		if e.Explanation == "" || e.App != "default" || e.Mode != maintenance.ReadOnly {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}
