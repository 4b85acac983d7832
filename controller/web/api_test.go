package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/golden"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// TestAPIAnswers makes a sequence of requests to the API, and compares all requests and answers
// with testdata/api.golden. With the flag -update, the test writes the file instead: what it then
// holds must be read. The steps depend on each other: each of them finds the state that the ones
// before it left.
func TestAPIAnswers(t *testing.T) {
	tr := &transcript{rig: startRig(t)}
	tr.out.WriteString(transcriptHead)
	tr.toggle()
	tr.editApps()
	tr.editAllowlist()
	tr.applyApps()
	tr.followProxies()
	tr.readAudit()
	tr.manageTokens()
	tr.callCompatPaths()
	tr.callOtherPaths()

	golden.Compare(t, "testdata/api.golden", tr.out.String())
}

// TestOpenAPI compares the OpenAPI document, which huma makes from the code, with
// testdata/openapi.json. With -update the test writes the file.
func TestOpenAPI(t *testing.T) {
	r := startRig(t)
	a := r.call("GET /api/v1/openapi.json", "", "")
	golden.Compare(t, "testdata/openapi.json", a.body+"\n")
}

// transcriptHead explains testdata/api.golden to its readers.
const transcriptHead = `# Requests to the API as an operator, and its answers, in the order in which TestAPIAnswers makes them.
# Under a title are the request line, the headers that matter and the body, and after → the status, the
# headers and the body of the answer. TIME, ETAG, ID and SECRET stand for values that differ each time.

`

// A transcript records requests to a rig and their answers as text.
type transcript struct {
	*rig
	out strings.Builder
}

// step makes a request as an operator, records it with its answer under a title, and returns the
// answer. The parameters after the title are those of [rig.call].
func (tr *transcript) step(title, methodAndPath, body string, headers ...string) answer {
	a := tr.call(methodAndPath, operatorToken, body, headers...)
	fmt.Fprintf(&tr.out, "## %s\n%s\n", title, methodAndPath)
	for _, h := range headers {
		tr.out.WriteString(maskVariableParts(h) + "\n")
	}

	if body != "" {
		tr.out.WriteString(body + "\n")
	}

	tr.out.WriteString("→ " + http.StatusText(a.status) + "\n")
	for _, h := range []string{"Content-Type", "Etag", "Allow", "Www-Authenticate", "Retry-After"} {
		if v := a.header.Get(h); v != "" {
			tr.out.WriteString(maskVariableParts(h+": "+v) + "\n")
		}
	}
	tr.out.WriteString(strings.TrimSpace(maskVariableParts(indentJSON(a.body))) + "\n\n")
	return a
}

// indentJSON indents a body if it is JSON, and returns any other body as it is.
func indentJSON(body string) string {
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(body), "", "  ") != nil {
		return body
	}
	return indented.String()
}

// variableParts are the parts of answers that differ from run to run, and what takes their place.
var variableParts = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`"epoch": \d+`), `"epoch": 1`}, // the time when the store was created
	{regexp.MustCompile(`m-[a-z2-7]{10}`), "m-ID"},     // of a manual activation
	// An ETag in its quotes, which have backslashes inside JSON.
	{regexp.MustCompile(`(\\?")[\w-]{20}(\\?")`), "${1}ETAG${2}"},
	{regexp.MustCompile(`"id": "[a-z2-7]{10}"`), `"id": "ID"`}, // of a token
	{regexp.MustCompile(`drydock_[0-9a-f]{64}`), "drydock_SECRET"},
	{regexp.MustCompile(`"skew_ms": -?\d+`), `"skew_ms": 0`},
}

// maskVariableParts replaces the variable parts of a text.
func maskVariableParts(s string) string {
	for _, u := range variableParts {
		s = u.find.ReplaceAllString(s, u.replace)
	}
	return s
}

// toggle turns the default app on and off, and tries invalid requests to do so.
func (tr *transcript) toggle() {
	const activations = "/api/v1/apps/default/activations"
	tr.step("A new controller has the default app", "GET /api/v1/apps", "")
	tr.step("The app is off, and no proxy is known", "GET /api/v1/status", "")
	tr.step("Turn it on", "POST "+activations, `{"message":"Database migration","duration":3600}`, anyState)
	tr.step("Turn it on again without an end", "POST "+activations, `{"mode":"no-access","message":"Database migration"}`, anyState)
	a := tr.step("List the activations", "GET "+activations, "")
	etag := a.header.Get("ETag")
	tr.step("Turn it off with the ETag of the list", "DELETE "+activations, "", "If-Match: "+etag)
	tr.step("Turn it off again with the old ETag", "DELETE "+activations, "", "If-Match: "+etag)

	tr.step("A change without If-Match", "POST "+activations, `{}`)
	tr.step("An ETag without quotes", "POST "+activations, `{}`, "If-Match: abc")
	tr.step("An unknown mode", "POST "+activations, `{"mode":"closed"}`, anyState)
	tr.step("An unknown field", "POST "+activations, `{"until_":"x"}`, anyState)
	tr.step("A field in another letter case", "POST "+activations, `{"Mode":"read-only"}`, anyState)

	tr.step("An unknown app", "POST /api/v1/apps/nope/activations", `{}`, anyState)
	tr.step("Invalid JSON", "POST "+activations, `{"mode":`, anyState)
	tr.step("An end in the past", "POST "+activations, `{"until":"2001-01-01T00:00:00Z"}`, anyState)
}

// editApps creates the app shop and tries invalid definitions of it. It also stores a page.
func (tr *transcript) editApps() {
	shop := `{"name":"shop","match":{"hosts":["shop.example.com"]},"bypass":{"ips":["192.0.2.1"]}}`
	tr.step("Create an app", "PUT /api/v1/apps/shop", shop, "If-None-Match: *")
	tr.step("Create it again", "PUT /api/v1/apps/shop", shop, "If-None-Match: *")
	tr.step("Get the app", "GET /api/v1/apps/shop", "")

	page := "<h1>Back soon</h1>"
	pageSHA := fmt.Sprintf("%x", sha256.Sum256([]byte(page)))
	tr.step("An invalid CIDR", "PUT /api/v1/apps/shop", `{"name":"shop","match":{"hosts":["shop.example.com"]},"bypass":{"ips":["192.0.2.1","10.0.0.1/8"]}}`, anyState)
	tr.step("An unknown field of an app", "PUT /api/v1/apps/shop", `{"name":"shop","bypas":{}}`, anyState)
	tr.step("A name that differs from the path", "PUT /api/v1/apps/shop", `{"name":"chop","match":{"hosts":["shop.example.com"]}}`, anyState)
	tr.step("A host that another app matches", "PUT /api/v1/apps/other", `{"name":"other","match":{"hosts":["shop.example.com"]}}`, anyState)
	tr.step("A page that is not stored", "PUT /api/v1/apps/shop", `{"name":"shop","match":{"hosts":["shop.example.com"]},"pages":{"en":"`+pageSHA+`"}}`, anyState)

	tr.step("Store a page", "PUT /api/v1/pages/"+pageSHA, page, "Content-Type: text/html")
	tr.step("Store a page with another SHA-256", "PUT /api/v1/pages/"+strings.Repeat("0", 64), page, "Content-Type: text/html")
	tr.step("Get the page", "GET /api/v1/pages/"+pageSHA, "")
}

// editAllowlist changes the allowlist of the app shop.
func (tr *transcript) editAllowlist() {
	const ips = "/api/v1/apps/shop/bypass/ips"
	tr.step("List the allowlist", "GET "+ips, "")
	tr.step("Add addresses", "POST "+ips, `{"ips":["10.0.0.0/8","192.0.2.1/32"]}`, anyState)
	tr.step("Add an invalid address", "POST "+ips, `{"ips":["10.0.0.0/8","everybody"]}`, anyState)
	tr.step("Remove an address", "DELETE "+ips+"?ip=192.0.2.1", "", anyState)
	tr.step("Remove an address that a CIDR contains", "DELETE "+ips+"?ip=10.1.2.3", "", anyState)
	tr.step("Remove no address", "DELETE "+ips, "", anyState)
}

// applyApps replaces all apps by a set without shop. Then it tries to delete an app that is on, and
// others.
func (tr *transcript) applyApps() {
	set := `{"apps":[{"name":"default","retry_after":60},{"name":"blog","match":{"hosts":["blog.example.com"]}}]}`
	tr.step("Apply a set in a dry run", "PUT /api/v1/apps?dry_run=true", set, anyState)
	tr.step("Apply the set", "PUT /api/v1/apps", set, anyState)
	tr.step("Apply the set again", "PUT /api/v1/apps", set, anyState)
	tr.step("An invalid set", "PUT /api/v1/apps", `{"apps":[{"name":"default"},{"name":"x","match":{"paths":["y"]}}]}`, anyState)
	tr.step("A set with two lists", "PUT /api/v1/apps", `{"apps":[],"apps":[]}`, anyState)
	tr.step("A set without a list", "PUT /api/v1/apps", `{"name":"x"}`, anyState)

	tr.call("POST /api/v1/apps/blog/activations", operatorToken, `{}`, anyState)
	tr.step("A set without an app that is on", "PUT /api/v1/apps", `{"apps":[]}`, anyState)
	tr.step("Delete an app that is on", "DELETE /api/v1/apps/blog", "", anyState)
	tr.step("Delete the default app", "DELETE /api/v1/apps/default", "", anyState)

	tr.call("DELETE /api/v1/apps/blog/activations", operatorToken, "", anyState)
	tr.step("Delete an app that is off", "DELETE /api/v1/apps/blog", "", anyState)
}

// followProxies lets a proxy report that it is behind, and lists, awaits and forgets it.
func (tr *transcript) followProxies() {
	behind := tr.version()
	behind.Revision--
	tr.ack(tr.t, maintenance.Ack{Version: behind, Proxy: "p1", VM: "main", Node: "gateway"})
	// For the first 1.5 s a proxy counts as new, since not all of its VMs may have reported.
	// Statuses would say that instead of what they say about a proxy that is behind.
	time.Sleep(1600 * time.Millisecond)

	tr.step("List the proxies", "GET /api/v1/proxies", "")
	tr.step("Wait for an app that is not enforced", "GET /api/v1/apps/default/status?wait=enforced&timeout=0", "")
	tr.step("Forget a proxy", "DELETE /api/v1/proxies/p1", "")
	tr.step("Forget an unknown proxy", "DELETE /api/v1/proxies/p1", "")
}

// readAudit reads what the steps before left in the audit log.
func (tr *transcript) readAudit() {
	tr.step("Read the audit log", "GET /api/v1/audit?limit=3", "")
	tr.step("Read the audit log of an app", "GET /api/v1/audit?app=shop&limit=2", "")
	tr.step("An unknown parameter", "GET /api/v1/audit?limt=3", "")
}

// manageTokens creates, lists and revokes API tokens.
func (tr *transcript) manageTokens() {
	tr.step("Create a token", "POST /api/v1/tokens", `{"name":"dashboard","role":"viewer"}`)
	a := tr.step("List the tokens", "GET /api/v1/tokens", "")

	var tokens Tokens
	if err := json.Unmarshal([]byte(a.body), &tokens); err != nil || len(tokens.Tokens) != 3 {
		tr.t.Fatal(a.body, err)
	}
	created := tokens.Tokens[2] // after the two of the rig
	if a := tr.call("DELETE /api/v1/tokens/"+created.ID, operatorToken, ""); a.status != http.StatusNoContent {
		tr.t.Fatal(a)
	}
	tr.step("Revoke an unknown token", "DELETE /api/v1/tokens/nope", "")
}

// callCompatPaths calls the operations whose paths are those of STING (compat.go).
func (tr *transcript) callCompatPaths() {
	tr.step("STING: enable", "POST /api/admin/maintenance/enable", `{"message":"Upgrade","mode":"read-only"}`)
	tr.step("STING: status", "GET /api/system/maintenance/status", "")
	tr.step("STING: disable", "POST /api/admin/maintenance/disable", "")
	tr.step("STING: status of an unknown app", "GET /api/system/maintenance/status?app=nope", "")
}

// callOtherPaths calls paths that are not operations of the API.
func (tr *transcript) callOtherPaths() {
	tr.step("An unknown path", "GET /api/v1/nope", "")
	tr.step("An unknown method", "PATCH /api/v1/apps/default", `{}`)
	tr.step("Readiness", "GET /readyz", "")
	tr.step("Liveness", "GET /healthz", "")
}

// An error may end up in a log, so it must not repeat what was sent as a token, nor the whole body,
// in which there may be a secret at a wrong place.
func TestErrorsRepeatNoSecrets(t *testing.T) {
	const secret = "hunter2hunter2"
	r := startRig(t)
	for _, c := range []struct{ name, methodAndPath, token, body string }{
		{"an unknown token", "GET /api/v1/apps", secret, ""},
		{"an unknown field", "POST /api/v1/tokens", operatorToken, `{"name":"x","role":"viewer","token":"` + secret + `"}`},
		{"invalid JSON", "POST /api/v1/tokens", operatorToken, `{"name":"x",` + secret},
		{"a list in place of an object", "POST /api/v1/tokens", operatorToken, `["` + secret + `"]`},
		{"another invalid field", "POST /api/v1/explain", operatorToken, `{"headers":"x","body":"` + secret + `"}`},
		{"an unknown sync token", "POST /proxy/v1/sync", secret, "{}"},
	} {
		a := r.call(c.methodAndPath, c.token, c.body)
		if a.status < 400 || strings.Contains(a.body, secret) {
			t.Errorf("%s: %s: %d %s", c.name, c.methodAndPath, a.status, a.body)
		}
	}
}

func TestLargeBodiesAreRefused(t *testing.T) {
	const humaMaxBodyBytes = 1 << 20 // for operations without a limit of their own
	r := startRig(t)
	for methodAndPath, limit := range map[string]int{
		"PUT /api/v1/apps":                             maintenance.MaxDocumentBytes,
		"POST /api/v1/apps/default/activations":        humaMaxBodyBytes,
		"PUT /api/v1/pages/" + strings.Repeat("0", 64): maintenance.MaxPageBytes + 1,
		"POST /api/admin/maintenance/enable":           humaMaxBodyBytes,
	} {
		body := `{"x":"` + strings.Repeat("x", limit+1) + `"}`
		if a := r.call(methodAndPath, operatorToken, body, anyState); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %s", methodAndPath, a.status, a.body)
		}
	}

	message := strings.Repeat("x", maxMessageBytes+1)
	if a := r.call("POST /proxy/v1/ack", syncToken, message); a.status != http.StatusRequestEntityTooLarge {
		t.Error(a)
	}
}
