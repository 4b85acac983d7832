package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
)

// deploy starts a controller and an Envoy with the Drydock filter, in front of a demo app or of one
// that records the requests that it receives (deployment_test.go, upstream_test.go). enforce puts
// an app into a mode and returns once every worker of Envoy enforces the mode; enforceOff ends it.
// A visitor is a client of Envoy (clients_test.go). The app default applies to every request that
// no other app matches.

// In read-only, requests that only read pass, and requests that write are refused in every
// disguise. One disguise is a method override: many frameworks treat a request as one with another
// method if a header, the query or a form names that (X-HTTP-Method-Override, _method). The demo
// app obeys such overrides, and counts its writes.
func TestReadOnlyRefusesWrites(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{
		WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/echo/search"}},
		GetWrites:    []maintenance.PathRule{{Prefix: "/echo/unsubscribe"}},
	}})
	v := d.visitorFrom("127.0.0.1")
	v.postJSON("/api/orders", `{"item":"anchor"}`) // becomes order 1, which a row below tries to delete
	d.enforce("default", maintenance.ReadOnly, "We move: look, but do not touch.")
	writes := d.app.Writes() // of that order

	const form = "application/x-www-form-urlencoded"
	mutation := url.QueryEscape(`mutation{placeOrder(item:"tar"){id}}`)
	for _, tt := range []struct {
		method, path, body string
		headers            []string // pairs of name and value
		pass               bool
	}{
		// Methods that read, and POST to a path that write_through lists as a search. Its body
		// must not contain an override, be too long to be read, or be of a type that is not read.
		{"GET", "/", "", nil, true},
		{"HEAD", "/", "", nil, true},
		{"OPTIONS", "/echo", "", nil, true},
		{"GET", "/api/orders", "", nil, true},
		{"GET", "/api/orders?method=post&q=1", "", nil, true},
		{"POST", "/echo/search", `{"q":"rope"}`, []string{"Content-Type", "application/json"}, true},
		{"POST", "/echo/search", `{"q":"rope","_method":"DELETE"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", `{"q":"` + strings.Repeat("x", 1<<20) + `"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", "--x--", []string{"Content-Type", "multipart/mixed; boundary=x"}, false},

		// Methods that write, unknown methods, and GET of a path that get_writes lists.
		{"POST", "/api/orders", `{"item":"tar"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/api/orders", "item=tar", []string{"Content-Type", form}, false},
		{"PUT", "/echo", "x", nil, false},
		{"PATCH", "/echo", "x", nil, false},
		{"DELETE", "/api/orders/1", "", nil, false},
		{"PROPFIND", "/echo", "", nil, false},
		{"LOCK", "/echo", "", nil, false},
		{"FROB", "/echo", "", nil, false},
		{"PUT", "/echo/search", "x", nil, false},
		{"GET", "/echo/unsubscribe/me", "", nil, false},
		{"HEAD", "/echo/unsubscribe/me", "", nil, false},

		// Overrides of reads by writes, and of writes by reads: the request must read in both ways.
		{"GET", "/api/orders?item=tar", "", []string{"X-HTTP-Method-Override", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"x-http-method", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"X-Method-Override", "post"}, false},
		{"GET", "/api/orders?item=tar&_method=POST", "", nil, false},
		{"GET", "/api/orders?item=tar&%5fmethod=post", "", nil, false},
		{"POST", "/api/orders", "_method=GET&item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders?_method=GET", "item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders", "item=tar", []string{"Content-Type", form, "X-HTTP-Method-Override", "GET"}, false},
		{"GET", "/api/orders", "", []string{"X-HTTP-Method-Override", "GET"}, true},

		// GraphQL.
		{"POST", "/graphql", `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/graphql", `{"query":"query A{orders{id}} mutation B{placeOrder(item:\"tar\"){id}}","operationName":"B"}`, []string{"Content-Type", "application/json"}, false},
		{"GET", "/graphql?query=" + mutation, "", nil, false},
		{"GET", "/graphql", "", nil, true},
	} {
		a := v.do(tt.method, tt.path, tt.body, tt.headers...)
		refused := a.Status == http.StatusServiceUnavailable
		if tt.method == "FROB" { // Envoy itself answers 400 to a method that it does not know
			refused = refused || a.Status == http.StatusBadRequest
		}
		if refused == tt.pass {
			t.Errorf("%s %s %.80s %v: %d, want pass %v", tt.method, tt.path, tt.body, tt.headers, a.Status, tt.pass)
		}
	}

	if n := d.app.Writes() - writes; n != 0 {
		t.Errorf("%d writes reached the app", n)
	}
	if e := v.echo(); e.Headers.Get("X-Drydock-Mode") != "read-only" {
		t.Errorf("the app received X-Drydock-Mode: %s, want read-only", e.Headers.Get("X-Drydock-Mode"))
	}
}

// After an upgrade, for example to WebSocket, the filter does not see what a client does. Read-only
// therefore refuses upgrades unless the app's rules allow them.
func TestReadOnlyRefusesUpgradesUnlessAllowed(t *testing.T) {
	d := deploy(t, deployOptions{})
	expect := func(when string, want int) { // 101 means that the upgrade passed
		t.Helper()
		if got, err := openWebSocket(t.Context(), "ws://"+d.envoyPort.Addr()+"/chat"); err != nil || got != want {
			t.Errorf("%s: %d (%v), want %d", when, got, err, want)
		}
	}

	d.putApp(maintenance.Spec{Name: "default"})
	expect("off", 101)
	d.enforce("default", maintenance.ReadOnly, "closed")
	expect("read-only", 503)
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{Upgrades: maintenance.PolicyAllow}})
	d.awaitEnforced("default")
	expect("read-only, upgrades allowed", 101)
	d.enforceOff("default")
	d.enforce("default", maintenance.NoAccess, "closed")
	expect("no-access", 503)
	d.enforceOff("default")
	expect("off again", 101)
}

// openWebSocket opens a WebSocket to the demo app, which sends every message back, and tries it
// with a message. It returns the status 101 if that works, and the status of the answer if the
// upgrade is refused. Anything else is an error.
func openWebSocket(ctx context.Context, url string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		if resp == nil {
			return 0, err
		}
		return resp.StatusCode, nil
	}
	defer c.CloseNow()

	if err := c.Write(ctx, websocket.MessageText, []byte("ahoy")); err != nil {
		return 0, err
	}
	_, msg, err := c.Read(ctx)
	if err == nil && string(msg) != "ahoy" {
		err = fmt.Errorf("the echo is %q", msg)
	}
	return http.StatusSwitchingProtocols, err
}

// TestGraphQLCases sends the GraphQL requests of the table in filter/maintenance/cases, byte for
// byte, through Envoy in read-only. Each case has a verdict: "pass" or "refuse" by a rule. The app
// must receive the requests that pass, and no others, and a refusal must name the rule. Envoy
// itself may refuse a few cases as malformed.
func TestGraphQLCases(t *testing.T) {
	app := startRecordingUpstream(t)
	d := deploy(t, deployOptions{upstream: app.addr})
	d.enforce("default", maintenance.ReadOnly, "cases")
	table := cases.Load(t)

	var byEnvoy []string // cases that Envoy itself refused
	for i, c := range table {
		id := fmt.Sprint(i)
		a := sendRaw(t, d.envoyPort.Addr(), rawRequest(&c, id))
		_, passed := app.find(id)
		fromApp := a.Header.Get("x-upstream") != ""
		rule := ruleOf(a.Body)                     // "" if the answer is not the filter's
		hasBody := c.Method != "HEAD"              // so that the answer can name a rule
		malformed := a.Status == 400 && rule == "" // as Envoy answers

		switch {
		case passed != fromApp:
			t.Errorf("%s: the app received it: %v; the answer is the app's: %v", c.Name, passed, fromApp)
		case c.Verdict == "pass" && !passed && !malformed:
			t.Errorf("%s: refused with %d %s, want pass", c.Name, a.Status, a.Body)
		case c.Verdict == "refuse" && passed:
			t.Errorf("%s: passed, want it refused by %s", c.Name, c.Rule)
		case !passed && rule == "" && hasBody:
			// Envoy's codec or its path normalization refused it before the filter saw it.
			byEnvoy = append(byEnvoy, fmt.Sprintf("%s (%d)", c.Name, a.Status))
		case c.Verdict == "refuse" && hasBody && rule != c.Rule:
			t.Errorf("%s: refused with %d %s, want rule %s", c.Name, a.Status, a.Body, c.Rule)
		}
	}

	t.Logf("%d cases; refused by Envoy itself: %s", len(table), strings.Join(byEnvoy, ", "))
	if len(byEnvoy) > len(table)/20 { // the table would hardly test the filter
		t.Errorf("%d of %d cases did not reach the filter", len(byEnvoy), len(table))
	}
}

// rawRequest returns the bytes of a case's request. It adds the headers host, x-case with the id
// and, where HTTP/1.1 needs it, content-length.
func rawRequest(c *cases.Case, id string) string {
	body := c.Body()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: shop\r\nx-case: %s\r\n", c.Method, c.Path, id)
	for _, h := range c.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if len(body) > 0 || c.Method == "POST" {
		fmt.Fprintf(&b, "content-length: %d\r\n", len(body))
	}

	b.WriteString("\r\n")
	b.Write(body)
	return b.String()
}
