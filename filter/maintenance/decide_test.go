package maintenance_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests how the decision on a request is put together, when several apps may be concerned
// or the body may be needed.

// In no-access only exemptions and bypasses let a request pass. What the rules for read-only allow
// does not matter.
func TestNoAccessRefusesEveryRequest(t *testing.T) {
	s := noAccessState(t, `"read_only":{"write_through":[{"prefix":"/"}],"upgrades":"allow"},"graphql":{"paths":["/graphql"],"upgrades":"allow"}`)
	for _, r := range []*maintenance.Request{
		get("h", "/"), request("OPTIONS", "h", "*"), request("POST", "h", "/graphql"), get("h", "/graphql", "upgrade", "websocket"),
		request("CONNECT", "h:1", ""), withBody(request("POST", "h", "/graphql"), "application/json", `{"query":"{a}"}`),
	} {
		if d := s.Decide(r, noon); d.Verdict != maintenance.Refuse || d.Rule != maintenance.RuleNoAccess {
			t.Errorf("%s %s: %v by %s", r.Method, r.Path, d.Verdict, d.Rule)
		}
	}
}

// A body is only awaited if the decision depends on it, and by no request that a bypass lets pass.
// The app reads at most 1000 bytes of a body (max_body).
func TestBodyIsNeededOnlyWhereItDecides(t *testing.T) {
	s := readOnlyState(t, `"graphql":{"paths":["/graphql"],"max_body":1000},"bypass":{"ips":["10.0.0.0/8"]},"read_only":{"write_through":[{"methods":["POST"],"prefix":"/search"},{"methods":["POST"],"prefix":"/uploads","allow":["overrides"]}]}`)
	const json, form = "application/json", "application/x-www-form-urlencoded"

	for _, c := range []struct {
		name string
		r    *maintenance.Request
		want maintenance.Verdict
	}{
		{"GraphQL by POST", withBody(request("POST", "h", "/graphql"), json, ""), maintenance.NeedBody},
		{"GraphQL by POST without a body", request("POST", "h", "/graphql", "content-type", json), maintenance.Refuse},
		{"GraphQL by another type", withBody(request("POST", "h", "/graphql"), form, ""), maintenance.Refuse},
		{"GraphQL by GET", get("h", "/graphql?query={a}"), maintenance.Pass},
		{"a form", withBody(request("POST", "h", "/search"), form, ""), maintenance.NeedBody},
		{"an upload", withBody(request("POST", "h", "/search"), "application/octet-stream", ""), maintenance.Refuse},
		{"an upload where overrides are allowed", withBody(request("POST", "h", "/uploads"), "application/octet-stream", ""), maintenance.Pass},
		{"another path", withBody(request("POST", "h", "/x"), json, ""), maintenance.Refuse},
		{"a form that is announced as too long", withBody(request("POST", "h", "/search", "content-length", "1001"), form, ""), maintenance.Refuse},
		{"GraphQL that is announced as too long", withBody(request("POST", "h", "/graphql", "content-length", "99999999999999999999"), json, ""), maintenance.Refuse},
	} {
		d := s.Decide(c.r, noon)
		if d.Verdict != c.want || (d.Verdict == maintenance.NeedBody) != (d.MaxBody == 1000) {
			t.Errorf("%s: %v of %d bytes", c.name, d.Verdict, d.MaxBody)
		}

		c.r.Attributes = &attributes{source: "10.0.0.1:1"}

		if d := s.Decide(c.r, noon); d.Verdict != maintenance.Pass {
			t.Errorf("%s, bypassed: %v", c.name, d.Verdict)
		}
	}
}

// A path may belong to two apps, because servers read it in different ways. Then the app in the
// strictest mode decides, whatever the order of the apps.
func TestStrictestAppDecides(t *testing.T) {
	for _, modes := range [][2]maintenance.Mode{{maintenance.NoAccess, maintenance.ReadOnly}, {maintenance.ReadOnly, maintenance.NoAccess}} {
		s := mustParse(t, `{"apps":[{"name":"a","match":{"paths":["/a"]},`+activationJSON(modes[0])+`},{"name":"b","match":{"paths":["/b"]},`+activationJSON(modes[1])+`}]}`)
		for _, target := range []string{"/a/..%2fb", "/b/..%2fa"} {
			if d := s.Decide(get("h", target), noon); d.Verdict != maintenance.Refuse || d.Mode != maintenance.NoAccess {
				t.Errorf("%s with %v: %v in %s", target, modes, d.Verdict, d.Mode)
			}
		}
	}

}

// A path that only some servers map to an open app does not pass, if the default app is closed.
func TestPathMustSurelyBelongToTheOpenApp(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"open","match":{"paths":["/open"]}},{"name":"default",`+activationJSON(maintenance.NoAccess)+`}]}`)
	for target, want := range map[string]maintenance.Verdict{
		"/open":       maintenance.Pass,
		"/OPEN":       maintenance.Refuse, // some servers mind letter case
		"/open/../x":  maintenance.Refuse,
		"/open%2f..":  maintenance.Refuse,
		"/x/../open":  maintenance.Refuse,
		"/open/a%20b": maintenance.Pass,
	} {
		if d := s.Decide(get("h", target), noon); d.Verdict != want {
			t.Errorf("%s: %v", target, d.Verdict)
		}
	}

}

// A path that may be any path belongs to every app on its host. Of the apps in equally strict modes
// the first one in the document is named, each time. The app c is stricter, but on another host.
func TestFirstOfEquallyStrictAppsDecides(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"default"},{"name":"a","match":{"paths":["/a"]},`+activationJSON(maintenance.ReadOnly)+`},{"name":"b","match":{"paths":["/b"]},`+activationJSON(maintenance.ReadOnly)+`},{"name":"c","match":{"hosts":["c"]},`+activationJSON(maintenance.NoAccess)+`}]}`)

	for range 10 {
		if d := s.Decide(request("POST", "h", "/%"+strings.Repeat("25", 70)+"41"), noon); d.App != "a" || d.Rule != maintenance.RuleMethod {
			t.Fatalf("%s by %s", d.App, d.Rule)
		}
	}
}

// A request that may belong to more than 16 apps is not judged by their rules, so that its cost
// does not grow with the number of apps. It is refused if any of them is in maintenance. A host
// such as me@app1.example.com may be any host: servers can take "me" for it, or what follows the @.
func TestRequestsThatMayBelongToAnyApp(t *testing.T) {
	var apps []string
	for i := range 100 {
		apps = append(apps, fmt.Sprintf(`{"name":"app-%d","match":{"hosts":["app%d.example.com"]}}`, i, i))
	}

	open := mustParse(t, `{"apps":[`+strings.Join(apps, ",")+`]}`)
	apps[70] = `{"name":"app-70","match":{"hosts":["app70.example.com"]},` + activationJSON(maintenance.ReadOnly) + `}`
	one := mustParse(t, `{"apps":[`+strings.Join(apps, ",")+`]}`)
	apps[80] = `{"name":"app-80","match":{"hosts":["app80.example.com"]},` + activationJSON(maintenance.NoAccess) + `}`
	both := mustParse(t, `{"apps":[`+strings.Join(apps, ",")+`]}`)

	for _, c := range []struct {
		name string
		s    *maintenance.State
		host string
		rule maintenance.Rule
		app  string
	}{
		{"none is on", open, "me@app1.example.com", maintenance.RuleOff, "app-0"},
		{"one is on", one, "me@app1.example.com", maintenance.RuleUnclear, "app-70"},
		{"the strictest counts", both, "me@app1.example.com", maintenance.RuleUnclear, "app-80"},
		{"a plain host", both, "app1.example.com", maintenance.RuleOff, "app-1"},
	} {
		d := c.s.Decide(get(c.host, "/"), noon)
		if d.Rule != c.rule || d.App != c.app || (d.Verdict == maintenance.Refuse) != (c.rule == maintenance.RuleUnclear) {
			t.Errorf("%s: %v by %s of %s", c.name, d.Verdict, d.Rule, d.App)
		}
	}
}

// More apps than are judged by their rules may share a server with an app in maintenance, too.
func TestBodyOfGETBesideAClosedAppIsRefusedForManyApps(t *testing.T) {
	var apps, hosts []string
	for i := range 20 {
		apps = append(apps, fmt.Sprintf(`{"name":"app-%d","match":{"hosts":["app%d.example.com"]}}`, i, i))
		hosts = append(hosts, fmt.Sprintf("app%d.example.com", i))
	}
	apps = append(apps, `{"name":"closed","match":{"hosts":["app3.example.com"],"paths":["/closed"]},`+activationJSON(maintenance.NoAccess)+`}`)
	s := mustParse(t, `{"apps":[`+strings.Join(apps, ",")+`]}`)

	forwarded := []string{"x-forwarded-host", strings.Join(hosts, ",")}
	if d := s.Decide(request("GET", hosts[0], "/", forwarded...), noon); d.Rule != maintenance.RuleOff {
		t.Errorf("without a body: %v by %s of %s", d.Verdict, d.Rule, d.App)
	}
	smuggling := withBody(request("GET", hosts[0], "/", forwarded...), "", "DELETE /closed HTTP/1.1")
	if d := decideWithBody(t, s, smuggling); d.Rule != maintenance.RuleGetBody || d.App != "closed" {
		t.Errorf("with a body: %v by %s of %s", d.Verdict, d.Rule, d.App)
	}
}

// An open app and a closed one on the same host may have the same server behind them. A server that
// ignores the body of a GET may take it for the next request on the connection, to the closed app.
// Orders is closed, on the host of the open apps shop-search and find.
func TestBodiesOfGetBesideAClosedApp(t *testing.T) {
	s := mustParse(t, `{"apps":[
		{"name":"orders","match":{"hosts":["shop.example.com"],"paths":["/orders"]},`+activationJSON(maintenance.NoAccess)+`},
		{"name":"shop-search","match":{"hosts":["shop.example.com"],"paths":["/search"]},"read_only":{"get_bodies":"allow"}},
		{"name":"find","match":{"hosts":["shop.example.com"],"paths":["/find"]},"exempt":[{"prefix":"/find","allow":["bodies"]}]},
		{"name":"files","match":{"hosts":["files.example.com"]},"read_only":{"get_bodies":"allow"}},
		{"name":"ledger","match":{"routes":["ledger"]},"read_only":{"get_bodies":"allow"},`+activationJSON(maintenance.NoAccess)+`},
		{"name":"notes","match":{"hosts":["notes.example.com"]}},
		{"name":"search","match":{"hosts":["search.example.com"],"paths":["/closed"]},"read_only":{"get_bodies":"allow"},`+activationJSON(maintenance.ReadOnly)+`}
	]}`)
	const smuggled = "POST /orders HTTP/1.1"

	for _, c := range []struct {
		name string
		r    *maintenance.Request
		want maintenance.Rule
	}{
		{"announced", withBody(get("shop.example.com", "/healthz", "content-length", "21"), "", smuggled), maintenance.RuleGetBody},
		{"chunked", withBody(get("shop.example.com", "/healthz", "transfer-encoding", "chunked"), "", smuggled), maintenance.RuleGetBody},
		{"by HEAD", withBody(request("HEAD", "shop.example.com", "/healthz"), "", smuggled), maintenance.RuleGetBody},
		{"empty", withBody(get("shop.example.com", "/healthz"), "", ""), maintenance.RuleOff},
		{"none", get("shop.example.com", "/healthz"), maintenance.RuleOff},
		{"by POST", withBody(request("POST", "shop.example.com", "/cart"), "", "x"), maintenance.RuleOff},
		{"on another host", withBody(get("files.example.com", "/"), "", "x"), maintenance.RuleOff},
		{"where the closed apps allow it", withBody(get("search.example.com", "/_search"), "", "{}"), maintenance.RuleOff},
		{"where the open app allows it", withBody(get("shop.example.com", "/search"), "", "{}"), maintenance.RuleOff},
		{"where the open app's exemption allows it", withBody(get("shop.example.com", "/find/x"), "", "{}"), maintenance.RuleOff},
	} {
		if d := decideWithBody(t, s, c.r); d.Rule != c.want || (d.Verdict == maintenance.Refuse) != (c.want == maintenance.RuleGetBody) {
			t.Errorf("%s: %v by %s, want %s", c.name, d.Verdict, d.Rule, c.want)
		}
	}
}

// The same applies to an app that is matched by the name of its route, because its hosts are not
// known.
func TestBodiesOfGetBesideAnAppMatchedByItsRoute(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"ledger","match":{"routes":["ledger"]},`+activationJSON(maintenance.NoAccess)+`},{"name":"notes","match":{"hosts":["notes.example.com"]}}]}`)
	if d := decideWithBody(t, s, withBody(get("notes.example.com", "/"), "", "x")); d.Verdict != maintenance.Refuse || d.Rule != maintenance.RuleGetBody {
		t.Errorf("%v by %s", d.Verdict, d.Rule)
	}
}

func ExampleState_Decide() {
	s, err := maintenance.Parse([]byte(`{"epoch":1,"revision":1,"apps":[{"name":"default",` + activationJSON(maintenance.ReadOnly) + `}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}

	d := s.Decide(request("DELETE", "shop.example.com", "/orders/7"), noon)
	fmt.Println(d.Verdict, d.Rule)
	fmt.Println(d.Rule.Explain())

	// Output:
	// refuse read-only.method
	// The method may write, and the app is read-only.
}
