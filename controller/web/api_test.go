package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/drydock-proxy/drydock/controller/keeper"
	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/internal/golden"
)

// TestAPI is a walk through the API, with its answers in testdata/api.golden.
func TestAPI(t *testing.T) {
	r := start(t)
	page := "<h1>Back soon</h1>"
	pageSHA := fmt.Sprintf("%x", sha256.Sum256([]byte(page)))
	shop := `{"name":"shop","match":{"hosts":["shop.example.com"]},"bypass":{"ips":["192.0.2.1"]}}`

	var out strings.Builder
	step := func(name, what, body string, headers ...string) answer {
		a := r.call(what, operatorToken, body, headers...)
		fmt.Fprintf(&out, "## %s\n%s\n", name, what)
		for _, h := range headers {
			out.WriteString(stable(h) + "\n")
		}
		if body != "" {
			out.WriteString(body + "\n")
		}
		out.WriteString("→ " + a.transcript() + "\n\n")
		return a
	}
	any := "If-Match: *"

	step("A new controller has the default app", "GET /api/v1/apps", "")
	step("which is off, and no proxy is known", "GET /api/v1/status", "")
	step("On", "POST /api/v1/apps/default/activations", `{"message":"Database migration","duration":3600}`, any)
	step("the same again changes nothing but the end", "POST /api/v1/apps/default/activations", `{"mode":"no-access","message":"Database migration"}`, any)
	a := step("What holds it", "GET /api/v1/apps/default/activations", "")
	etag := a.header.Get("ETag")
	step("Off, from what was just seen", "DELETE /api/v1/apps/default/activations", "", "If-Match: "+etag)
	step("Off again, from what is no more", "DELETE /api/v1/apps/default/activations", "", "If-Match: "+etag)
	step("A change must say from what", "POST /api/v1/apps/default/activations", `{}`)
	step("and say it well", "POST /api/v1/apps/default/activations", `{}`, "If-Match: abc")
	step("no such mode", "POST /api/v1/apps/default/activations", `{"mode":"closed"}`, any)
	step("no such field", "POST /api/v1/apps/default/activations", `{"until_":"x"}`, any)
	step("no such letter case", "POST /api/v1/apps/default/activations", `{"Mode":"read-only"}`, any)
	step("no such app", "POST /api/v1/apps/nope/activations", `{}`, any)
	step("no JSON", "POST /api/v1/apps/default/activations", `{"mode":`, any)
	step("in the past", "POST /api/v1/apps/default/activations", `{"until":"2001-01-01T00:00:00Z"}`, any)

	step("A new app", "PUT /api/v1/apps/shop", shop, "If-None-Match: *")
	step("is new only once", "PUT /api/v1/apps/shop", shop, "If-None-Match: *")
	step("The app", "GET /api/v1/apps/shop", "")
	step("A bad CIDR", "PUT /api/v1/apps/shop", `{"name":"shop","match":{"hosts":["shop.example.com"]},"bypass":{"ips":["192.0.2.1","10.0.0.1/8"]}}`, any)
	step("An unknown field", "PUT /api/v1/apps/shop", `{"name":"shop","bypas":{}}`, any)
	step("Another name", "PUT /api/v1/apps/shop", `{"name":"chop","match":{"hosts":["shop.example.com"]}}`, any)
	step("A host that another app has", "PUT /api/v1/apps/other", `{"name":"other","match":{"hosts":["shop.example.com"]}}`, any)
	step("A page that nobody stored", "PUT /api/v1/apps/shop", `{"name":"shop","match":{"hosts":["shop.example.com"]},"pages":{"en":"`+pageSHA+`"}}`, any)
	step("A page", "PUT /api/v1/pages/"+pageSHA, page, "Content-Type: text/html")
	step("under a wrong name", "PUT /api/v1/pages/"+strings.Repeat("0", 64), page, "Content-Type: text/html")
	step("The page", "GET /api/v1/pages/"+pageSHA, "")

	step("Who passes", "GET /api/v1/apps/shop/bypass/ips", "")
	step("one more", "POST /api/v1/apps/shop/bypass/ips", `{"ips":["10.0.0.0/8","192.0.2.1/32"]}`, any)
	step("one that is none", "POST /api/v1/apps/shop/bypass/ips", `{"ips":["10.0.0.0/8","everybody"]}`, any)
	step("one less", "DELETE /api/v1/apps/shop/bypass/ips?ip=192.0.2.1", "", any)
	step("one that is not there but passes", "DELETE /api/v1/apps/shop/bypass/ips?ip=10.1.2.3", "", any)
	step("none", "DELETE /api/v1/apps/shop/bypass/ips", "", any)

	set := `{"apps":[{"name":"default","retry_after":60},{"name":"blog","match":{"hosts":["blog.example.com"]}}]}`
	step("What applying a set would change", "PUT /api/v1/apps?dry_run=true", set, any)
	step("Applying it", "PUT /api/v1/apps", set, any)
	step("applying it again", "PUT /api/v1/apps", set, any)
	step("A bad set", "PUT /api/v1/apps", `{"apps":[{"name":"default"},{"name":"x","match":{"paths":["y"]}}]}`, any)
	step("two sets", "PUT /api/v1/apps", `{"apps":[],"apps":[]}`, any)
	step("no set at all", "PUT /api/v1/apps", `{"name":"x"}`, any)
	r.call("POST /api/v1/apps/blog/activations", operatorToken, `{}`, any)
	step("A set without an app that is on", "PUT /api/v1/apps", `{"apps":[]}`, any)
	step("Deleting an app that is on", "DELETE /api/v1/apps/blog", "", any)
	step("Deleting the default app", "DELETE /api/v1/apps/default", "", any)
	r.call("DELETE /api/v1/apps/blog/activations", operatorToken, "", any)
	step("Deleting an app that is off", "DELETE /api/v1/apps/blog", "", any)

	version := r.version()
	ack, _ := json.Marshal(maintenance.Ack{Version: maintenance.Version{Epoch: version.Epoch, Revision: version.Revision - 1}, Proxy: "p1", VM: "main", Node: "gateway", Time: time.Now().UnixMilli()})
	r.call("POST /proxy/v1/ack", syncToken, string(ack))
	time.Sleep(1600 * time.Millisecond) // a new proxy is awaited until all its VMs must have spoken
	step("Proxies", "GET /api/v1/proxies", "")
	step("An app whose newest state they enforce not yet", "GET /api/v1/apps/default/status?wait=enforced&timeout=0", "")
	step("Forgetting one", "DELETE /api/v1/proxies/p1", "")
	step("that is not known", "DELETE /api/v1/proxies/p1", "")

	step("The audit log", "GET /api/v1/audit?limit=3", "")
	step("of one app", "GET /api/v1/audit?app=shop&limit=2", "")
	step("A parameter that is none", "GET /api/v1/audit?limt=3", "")
	step("A token", "POST /api/v1/tokens", `{"name":"dashboard","role":"viewer"}`)
	a = step("Tokens", "GET /api/v1/tokens", "")
	var tokens Tokens
	if err := json.Unmarshal([]byte(a.body), &tokens); err != nil || len(tokens.Tokens) != 3 {
		t.Fatal(a.body, err)
	}
	if a := r.call("DELETE /api/v1/tokens/"+tokens.Tokens[2].ID, operatorToken, ""); a.status != http.StatusNoContent {
		t.Fatal(a)
	}
	step("A token that is gone", "DELETE /api/v1/tokens/nope", "")

	step("STING: enable", "POST /api/admin/maintenance/enable", `{"message":"Upgrade","mode":"read-only"}`)
	step("STING: status", "GET /api/system/maintenance/status", "")
	step("STING: disable", "POST /api/admin/maintenance/disable", "")
	step("STING: of no such app", "GET /api/system/maintenance/status?app=nope", "")

	step("No such path", "GET /api/v1/nope", "")
	step("No such method", "PATCH /api/v1/apps/default", `{}`)
	step("Ready", "GET /readyz", "")
	step("Alive", "GET /healthz", "")

	golden.Compare(t, "testdata/api.golden", out.String())
}

// TestExplain asks the core through the API; what it answers is the core's own test.
func TestExplain(t *testing.T) {
	r := start(t)
	spec := `{"name":"default","bypass":{"ips":["192.0.2.0/24"],"principals":["spiffe://cluster.local/ns/ops/*"],"claims":[{"issuer":"https://idp","claim":["realm","roles"],"values":["admin"]}]},"exempt":[{"path":"/healthz"}]}`
	if a := r.call("PUT /api/v1/apps/default", operatorToken, spec, "If-Match: *"); a.status != http.StatusOK {
		t.Fatal(a)
	}
	r.call("POST /api/v1/apps/default/activations", operatorToken, `{"mode":"read-only","message":"Migration"}`, "If-Match: *")
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
		if got := fmt.Sprintf("%s %s %d", e.Verdict, e.Rule, status); got != c.want || e.Explanation == "" || e.App != "default" || e.Mode != maintenance.ReadOnly {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, e)
		}
	}
}

// TestAccess tries every operation of the OpenAPI document with every kind of
// credential, and whatever is not in it.
func TestAccess(t *testing.T) {
	r := start(t)
	doc, err := os.ReadFile("testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var openAPI struct {
		Paths map[string]map[string]struct {
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(doc, &openAPI); err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{"GET /api/system/maintenance/status": true}
	// Operations that change nothing although their method could.
	reads := map[string]bool{"POST /api/v1/explain": true}
	// Secrets of people are the operators' business.
	secret := map[string]bool{"GET /api/v1/tokens": true}
	operations := 0
	for path, methods := range openAPI.Paths {
		for method := range methods {
			operations++
			op := strings.ToUpper(method) + " " + path
			what := strings.NewReplacer("{app}", "nope", "{sha256}", strings.Repeat("0", 64), "{proxy}", "nope", "{token}", "nope").Replace(op)
			changes := method != "get" && !reads[op] || secret[op]
			for _, c := range []struct{ who, token string }{{"nobody", ""}, {"a stranger", "wrong"}, {"a proxy", syncToken}, {"a viewer", viewerToken}, {"an operator", operatorToken}} {
				want := 0 // anything but 401 and 403
				switch {
				case open[op]:
				case c.token != viewerToken && c.token != operatorToken:
					want = http.StatusUnauthorized
				case changes && c.token == viewerToken:
					want = http.StatusForbidden
				}
				before := r.version()
				a := r.call(what, c.token, "")
				if want == 0 && (a.status == http.StatusUnauthorized || a.status == http.StatusForbidden) || want != 0 && a.status != want {
					t.Errorf("%s by %s: %d, want %d: %s", op, c.who, a.status, want, a.body)
				}
				if (a.status == http.StatusUnauthorized) != (a.header.Get("WWW-Authenticate") != "") {
					t.Errorf("%s by %s: %d with WWW-Authenticate %q", op, c.who, a.status, a.header.Get("WWW-Authenticate"))
				}
				if a.status >= 400 && a.header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s by %s: %d as %s", op, c.who, a.status, a.header.Get("Content-Type"))
				}
				if c.token != operatorToken && r.version() != before {
					t.Errorf("%s by %s changed the state", op, c.who)
				}
			}
		}
	}
	if operations < 25 {
		t.Errorf("only %d operations were found", operations)
	}
	if len(r.keeper.Tokens()) != 2 {
		t.Error("a token was made or revoked")
	}

	// Proxies' own paths take no API token, and have nothing else.
	for _, what := range []string{"POST /proxy/v1/sync", "POST /proxy/v1/ack", "GET /proxy/v1/pages/x"} {
		for _, token := range []string{"", "wrong", operatorToken} {
			if a := r.call(what, token, "{}"); a.status != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d", what, token, a.status)
			}
		}
	}
}

// TestProblems is the one mapping from errors to what clients get.
func TestProblems(t *testing.T) {
	r := start(t)
	a := &api{Options: Options{Keeper: r.keeper, Log: discard}}
	field := &maintenance.FieldError{Field: "bypass.ips[0]", Problem: "is none"}
	for _, c := range []struct {
		err      error
		status   int
		detail   string
		location string
	}{
		{field, 422, "bypass.ips[0]: is none", "bypass.ips[0]"},
		{fmt.Errorf("reading: %w", field), 422, "bypass.ips[0]: is none", "bypass.ips[0]"},
		{maintenance.ErrJSON, 400, "not valid JSON", ""},
		{fmt.Errorf("app %q: %w", "x", keeper.ErrNotFound), 404, `app "x": not found`, ""},
		{keeper.ErrStale, 412, "changed since it was read", ""},
		{&keeper.OtherSourceError{App: "x", Activations: []maintenance.Activation{{ID: "maintenance", Source: maintenance.SourceFile}}}, 409, `app "x" is kept in maintenance by another source (file maintenance): end the activation there; nothing was changed`, "activations[0]"},
		{keeper.ErrInMaintenance, 409, "in maintenance", ""},
		{keeper.ErrDefaultApp, 409, "the default app cannot be deleted", ""},
		{keeper.ErrLastOperator, 409, "the last operator token", ""},
		{fmt.Errorf("%w: disk full at /var/lib", keeper.ErrStore), 503, "the store could not be written or read; nothing was changed; see the controller's log", ""},
		{errors.New("a bug with a secret"), 500, "internal error; see the controller's log", ""},
		{newProblem(428, "say"), 428, "say", ""},
	} {
		var p *huma.ErrorModel
		if err := a.problem(t.Context(), "test", c.err); !errors.As(err, &p) {
			t.Errorf("%v: %v is no problem", c.err, err)
			continue
		}
		location := ""
		for _, d := range p.Errors {
			location = cmp.Or(location, d.Location)
		}
		if p.Status != c.status || p.Detail != c.detail || location != c.location || p.Title == "" {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}

// What is accepted can be read by the proxies, however sparse it was written.
func TestSparseSpecs(t *testing.T) {
	r := start(t)
	for _, spec := range []string{
		`{"name":"default","graphql":{"paths":[]}}`,
		`{"name":"default","windows":[{"id":"w","mode":"read-only","occurrences":[]}]}`,
		`{"name":"default","windows":[{"id":"w","mode":"read-only"}]}`,
		`{"name":"default","bypass":{},"match":{},"exempt":[],"cors":{},"pages":{},"read_only":{}}`,
		`{"name":"default","bypass":{"ips":[],"claims":[],"principals":[]}}`,
		`{"name":"default"}`,
	} {
		if a := r.call("PUT /api/v1/apps/default", operatorToken, spec, "If-Match: *"); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", spec, a.status, a.body)
		}
		a, _ := r.sync(maintenance.Version{}, 0)
		if _, err := maintenance.Parse([]byte(a.body)); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		// And read again as it is written back.
		a = r.call("GET /api/v1/apps/default", operatorToken, "")
		before := r.version()
		if a := r.call("PUT /api/v1/apps/default", operatorToken, a.body, "If-Match: "+a.header.Get("ETag")); a.status != http.StatusOK || r.version() != before {
			t.Errorf("%s: what was read is not what can be written: %d %s", spec, a.status, a.body)
		}
	}
}

// No error shows a secret, or the whole of what was sent.
func TestNothingIsEchoed(t *testing.T) {
	r := start(t)
	for _, c := range []struct{ what, token, body string }{
		{"GET /api/v1/apps", "hunter2hunter2", ""},
		{"POST /api/v1/tokens", operatorToken, `{"name":"x","role":"viewer","token":"hunter2hunter2"}`},
		{"POST /api/v1/tokens", operatorToken, `{"name":"x",hunter2hunter2`},
		{"POST /api/v1/tokens", operatorToken, `["hunter2hunter2"]`},
		{"POST /api/v1/explain", operatorToken, `{"headers":"x","body":"hunter2hunter2"}`},
		{"POST /proxy/v1/sync", "hunter2hunter2", "{}"},
	} {
		if a := r.call(c.what, c.token, c.body); a.status < 400 || strings.Contains(a.body, "hunter2") {
			t.Errorf("%s: %d %s", c.what, a.status, a.body)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	r := start(t)
	for what, size := range map[string]int{
		"PUT /api/v1/apps":                             maintenance.MaxDocumentBytes + 1,
		"POST /api/v1/apps/default/activations":        1<<20 + 1,
		"PUT /api/v1/pages/" + strings.Repeat("0", 64): maintenance.MaxPageBytes + 2,
		"POST /api/admin/maintenance/enable":           1<<20 + 1,
	} {
		if a := r.call(what, operatorToken, `{"x":"`+strings.Repeat("x", size)+`"}`, "If-Match: *"); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if a := r.call("POST /proxy/v1/ack", syncToken, strings.Repeat("x", maxMessage+1)); a.status != http.StatusRequestEntityTooLarge {
		t.Error(a)
	}
}

func TestMetrics(t *testing.T) {
	r := start(t)
	r.call("POST /api/v1/apps/default/activations", operatorToken, `{"mode":"read-only"}`, "If-Match: *")
	ack, _ := json.Marshal(maintenance.Ack{Version: maintenance.Version{Epoch: r.version().Epoch}, Proxy: "p", VM: "1", Time: time.Now().UnixMilli()})
	r.call("POST /proxy/v1/ack", syncToken, string(ack))
	a := r.call("GET /metrics", "", "")
	for _, want := range []string{
		`drydock_app_mode{app="default",mode="read-only"} 1`,
		`drydock_app_mode{app="default",mode="off"} 0`,
		`drydock_app_phase{app="default",phase="pending"} 1`,
		`drydock_app_enforced{app="default"} 0`,
		`drydock_revision 1`,
		`drydock_proxies{state="live"} 1`,
		`drydock_proxies_enforcing 0`,
		`drydock_vms{state="live"} 1`,
		`drydock_vm_lag_revisions 1`,
		`drydock_http_request_duration_seconds_count{code="200",route="POST /api/v1/apps/{app}/activations"} 1`,
	} {
		if !strings.Contains(a.body, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, secret := range []string{operatorToken, viewerToken, syncToken} {
		if strings.Contains(a.body, secret) {
			t.Error("a secret is in the metrics")
		}
	}
}

func TestNotReady(t *testing.T) {
	r := start(t)
	if a := r.call("GET /readyz", "", ""); a.status != http.StatusOK {
		t.Fatal(a)
	}
	r.closeStore()
	time.Sleep(1100 * time.Millisecond) // the answer is kept for a second
	if a := r.call("GET /readyz", "", ""); a.status != http.StatusServiceUnavailable {
		t.Fatal(a)
	}
	a := r.call("POST /api/v1/apps/default/activations", operatorToken, `{}`, "If-Match: *")
	if a.status != http.StatusServiceUnavailable {
		t.Fatal(a)
	}
	if a := r.call("GET /healthz", "", ""); a.status != http.StatusOK {
		t.Fatal(a)
	}
}
