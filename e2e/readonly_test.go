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

// In read-only what reads passes and what writes does not, however it is dressed up. The
// demo app follows method overrides and counts what it was made to write.
func TestReadOnlyRefusesWrites(t *testing.T) {
	d := deploy(t, deployOptions{})
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{
		WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/echo/search"}},
		GetWrites:    []maintenance.PathRule{{Prefix: "/echo/unsubscribe"}},
	}})
	v := d.visitor("127.0.0.1")
	v.do("POST", "/api/orders", `{"item":"anchor"}`, "Content-Type", "application/json") // order 1
	d.on("default", maintenance.ReadOnly, "We move: look, but do not touch.")
	writes := d.app.Writes()

	const form = "application/x-www-form-urlencoded"
	mutation := url.QueryEscape(`mutation{placeOrder(item:"tar"){id}}`)
	for _, tt := range []struct {
		method, path, body string
		headers            []string
		pass               bool
	}{
		{"GET", "/", "", nil, true},
		{"HEAD", "/", "", nil, true},
		{"OPTIONS", "/echo", "", nil, true},
		{"GET", "/api/orders", "", nil, true},
		{"GET", "/api/orders?method=post&q=1", "", nil, true},
		{"POST", "/echo/search", `{"q":"rope"}`, []string{"Content-Type", "application/json"}, true},
		{"POST", "/echo/search", `{"q":"rope","_method":"DELETE"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", `{"q":"` + strings.Repeat("x", 1<<20) + `"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/echo/search", "--x--", []string{"Content-Type", "multipart/mixed; boundary=x"}, false},

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

		{"GET", "/api/orders?item=tar", "", []string{"X-HTTP-Method-Override", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"x-http-method", "POST"}, false},
		{"GET", "/api/orders?item=tar", "", []string{"X-Method-Override", "post"}, false},
		{"GET", "/api/orders?item=tar&_method=POST", "", nil, false},
		{"GET", "/api/orders?item=tar&%5fmethod=post", "", nil, false},
		{"POST", "/api/orders", "_method=GET&item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders?_method=GET", "item=tar", []string{"Content-Type", form}, false},
		{"POST", "/api/orders", "item=tar", []string{"Content-Type", form, "X-HTTP-Method-Override", "GET"}, false},
		{"GET", "/api/orders", "", []string{"X-HTTP-Method-Override", "GET"}, true},

		{"POST", "/graphql", `{"query":"mutation{placeOrder(item:\"tar\"){id}}"}`, []string{"Content-Type", "application/json"}, false},
		{"POST", "/graphql", `{"query":"query A{orders{id}} mutation B{placeOrder(item:\"tar\"){id}}","operationName":"B"}`, []string{"Content-Type", "application/json"}, false},
		{"GET", "/graphql?query=" + mutation, "", nil, false},
		{"GET", "/graphql", "", nil, true},
	} {
		a := v.do(tt.method, tt.path, tt.body, tt.headers...)
		// Envoy itself answers 400 to methods that it has never heard of.
		if refused := a.Status == http.StatusServiceUnavailable || tt.method == "FROB" && a.Status == http.StatusBadRequest; refused == tt.pass {
			t.Errorf("%s %s %.80s %v: %d, want pass %v", tt.method, tt.path, tt.body, tt.headers, a.Status, tt.pass)
		}
	}
	if n := d.app.Writes() - writes; n != 0 {
		t.Errorf("%d writes got through", n)
	}
	if e := v.echo(); e.Headers.Get("X-Drydock-Mode") != "read-only" {
		t.Errorf("the app is told X-Drydock-Mode: %s", e.Headers.Get("X-Drydock-Mode"))
	}
}

// An upgrade hides what goes on afterwards, so read-only refuses it unless it is allowed.
func TestReadOnlyRefusesUpgradesUnlessAllowed(t *testing.T) {
	d := deploy(t, deployOptions{})
	dial := func() (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, resp, err := websocket.Dial(ctx, "ws://"+d.edge.Addr()+"/chat", nil)
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
			t.Errorf("the echo is %q", msg)
		}
		return http.StatusSwitchingProtocols, err
	}
	expect := func(when string, want int) {
		t.Helper()
		if got, err := dial(); err != nil || got != want {
			t.Errorf("%s: %d (%v), want %d", when, got, err, want)
		}
	}
	d.putApp(maintenance.Spec{Name: "default"})
	expect("off", 101)
	d.on("default", maintenance.ReadOnly, "closed")
	expect("read-only", 503)
	d.putApp(maintenance.Spec{Name: "default", ReadOnly: maintenance.ReadOnlyRules{Upgrades: maintenance.PolicyAllow}})
	d.awaitEnforced("default")
	expect("read-only, upgrades allowed", 101)
	d.off("default")
	d.on("default", maintenance.NoAccess, "closed")
	expect("no-access", 503)
	d.off("default")
	expect("off again", 101)
}

// TestGraphQLCases sends the table's requests, byte for byte, through
// the real Envoy in read-only. What passes reaches the app; what is refused does not,
// and names its rule.
func TestGraphQLCases(t *testing.T) {
	rec := newRecorder(t)
	d := deploy(t, deployOptions{upstream: rec.addr})
	d.on("default", maintenance.ReadOnly, "cases")
	table := cases.Load(t)
	var envoys []string
	for i, c := range table {
		id := fmt.Sprint(i)
		body := string(c.Body())
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nhost: shop\r\nx-case: %s\r\n", c.Method, c.Path, id)
		for _, h := range c.Headers {
			fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
		}
		if body != "" || c.Method == "POST" {
			fmt.Fprintf(&b, "content-length: %d\r\n", len(body))
		}
		b.WriteString("\r\n" + body)
		status, upstream, reply := d.raw(t, c.Method, b.String())
		passed := rec.saw(id)
		switch {
		case passed != upstream:
			t.Errorf("%s: the app saw it: %v; its answer came: %v", c.Name, passed, upstream)
		case c.Verdict == "pass" && !passed && (status != 400 || ruleOf(reply) != ""):
			t.Errorf("%s: refused with %d %s, want pass", c.Name, status, reply)
		case c.Verdict == "refuse" && passed:
			t.Errorf("%s: passed, want it refused by %s", c.Name, c.Rule)
		case !passed && ruleOf(reply) == "" && c.Method != "HEAD":
			// Envoy's own codec or path normalization was first.
			envoys = append(envoys, fmt.Sprintf("%s (%d)", c.Name, status))
		case c.Verdict == "refuse" && c.Method != "HEAD" && ruleOf(reply) != c.Rule:
			t.Errorf("%s: refused with %d %s, want rule %s", c.Name, status, reply, c.Rule)
		}
	}
	t.Logf("%d cases; refused by Envoy itself before the filter: %s", len(table), strings.Join(envoys, ", "))
	if len(envoys) > len(table)/20 {
		t.Errorf("%d of %d cases did not reach the filter", len(envoys), len(table))
	}
}
