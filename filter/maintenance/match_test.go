package maintenance_test

import (
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file tests to which app a request belongs.

// TestMostSpecificMatchWins checks the order of matches: the exact host, then the longest wildcard,
// then any host, and on each host the longest path prefix at a segment boundary. A route or a
// cluster comes before them all. Each app is named after its match.
func TestMostSpecificMatchWins(t *testing.T) {
	s := mustParse(t, `{"apps":[
		{"name":"host","match":{"hosts":["shop.example.com"]}},
		{"name":"host-api","match":{"hosts":["Shop.Example.com."],"paths":["/api"]}},
		{"name":"host-api-v2","match":{"hosts":["shop.example.com"],"paths":["/api/v2/"]}},
		{"name":"wild","match":{"hosts":["*.example.com"]}},
		{"name":"wild-deep","match":{"hosts":["*.eu.example.com"]}},
		{"name":"wild-api","match":{"hosts":["*.example.com"],"paths":["/api"]}},
		{"name":"part","match":{"hosts":["part.example.org"],"paths":["/only"]}},
		{"name":"any-api","match":{"paths":["/api"]}},
		{"name":"any-files","match":{"paths":["/Files"]}},
		{"name":"v6","match":{"hosts":["[2001:db8::1]"]}},
		{"name":"by-route","match":{"routes":["checkout"]}},
		{"name":"by-cluster","match":{"clusters":["ledger"]}},
		{"name":"mixed","match":{"hosts":["mixed.example.org"],"routes":["mixed-route"]}},
		{"name":"default"}
	]}`)

	for _, c := range []struct{ host, target, want string }{
		{"shop.example.com", "/", "host"},
		{"shop.example.com", "/x/y", "host"},
		{"shop.example.com", "/api", "host-api"},
		{"shop.example.com", "/api/", "host-api"},
		{"shop.example.com", "/api?x=/api/v2", "host-api"},
		{"shop.example.com", "/apis", "host"},
		{"shop.example.com", "/api.json", "host"},
		{"shop.example.com", "/api/v2", "host-api-v2"},
		{"shop.example.com", "/api/v2/x", "host-api-v2"},
		{"shop.example.com", "/api/v22", "host-api"},
		{"shop.example.com", "/x/api", "host"},
		{"shop.example.com", "/api" + strings.Repeat("/a", 1_000), "host-api"},

		// Names as servers compare them.
		{"SHOP.example.COM", "/", "host"},
		{"shop.example.com.", "/", "host"},
		{"shop.example.com..", "/", "host"},
		{"shop.example.com:8080", "/", "host"},
		{"SHOP.example.com.:8080", "/api", "host-api"},
		{"shop.example.com:", "/", "host"},
		{"[2001:DB8::1]", "/", "v6"},
		{"[2001:db8::1]:8080", "/", "v6"},

		// Wildcards stand for at least one label.
		{"a.example.com", "/", "wild"},
		{"a.b.example.com", "/", "wild"},
		{"example.com", "/", "default"},
		{"notexample.com", "/", "default"},
		{"a.eu.example.com", "/", "wild-deep"},
		{"eu.example.com", "/", "wild"},
		{"a.example.com", "/api", "wild-api"},
		{"A.EU.Example.Com.:1", "/api", "wild-deep"},
		{strings.Repeat("a.", 100) + "example.com", "/", "wild"},

		// If no path on the host matches, apps on any host may, and then the default app.
		{"part.example.org", "/only/x", "part"},
		{"part.example.org", "/api", "any-api"},
		{"part.example.org", "/", "default"},
		{"unknown.example.org", "/api/x", "any-api"},
		{"unknown.example.org", "/x", "default"},
		{"", "/", "default"},
		{"", "/api", "any-api"},
		{"192.0.2.1:8080", "/", "default"},
		{"mixed.example.org", "/", "mixed"},
		{"files.example.org", "/Files/x", "any-files"},
	} {
		if got := s.Decide(get(c.host, c.target), noon).App; got != c.want {
			t.Errorf("%.40s %.40s: %s, want %s", c.host, c.target, got, c.want)
		}
	}

	// Envoy's names of the route and the cluster, for a request to the host of the app "host".
	for _, c := range []struct {
		attributes
		want string
	}{
		{attributes{route: "checkout"}, "by-route"},
		{attributes{route: "Checkout"}, "host"},
		{attributes{cluster: "ledger"}, "by-cluster"},
		{attributes{route: "checkout", cluster: "ledger"}, "by-route"},
		{attributes{route: "mixed-route"}, "mixed"},
		{attributes{route: "other", cluster: "other"}, "host"},
	} {
		r := get("shop.example.com", "/")
		r.Attributes = &c.attributes
		if got := s.Decide(r, noon).App; got != c.want {
			t.Errorf("route %q, cluster %q: %s, want %s", c.route, c.cluster, got, c.want)
		}
	}
}

// Each attribute is a host call in the filter, so an attribute is only read if a rule needs it. The
// app shop needs the address of the client, for its bypass, and the default app needs nothing.
func TestOnlyNeededAttributesAreRead(t *testing.T) {
	s := mustParse(t, `{"apps":[{"name":"shop","match":{"hosts":["shop.example.com"]},"bypass":{"ips":["10.0.0.0/8"]},`+activationJSON(maintenance.NoAccess)+`},{"name":"default"}]}`)
	for host, want := range map[string]int{"shop.example.com": 1, "other.example.com": 0} {
		r := get(host, "/")
		s.Decide(r, noon)
		if got := r.Attributes.(*attributes).calls; got != want {
			t.Errorf("%s: %d attributes were read, want %d", host, got, want)
		}
	}
}
