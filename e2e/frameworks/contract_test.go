package frameworks

import (
	"slices"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// TestServersKeepTheContract holds each server to what the rig takes for granted: which requests write without any
// disguise, and which only read.
func TestServersKeepTheContract(t *testing.T) {
	const form = "Content-Type: application/x-www-form-urlencoded"
	var reads, writes []*differential.Request
	for _, target := range []string{"GET /orders", "HEAD /orders", "GET /orders/1", "GET /healthz", "GET /search", "GET /tenant"} {
		reads = append(reads, request(target))
	}
	for _, target := range []string{"POST /search", "POST /login"} {
		reads = append(reads, request(target, form, "", "a=1"))
	}
	reads = append(reads, request("POST /tenant", form, "", "a=1"))

	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/orders", "/orders/1"} {
			writes = append(writes, request(method+" "+path, form, "", "a=1"))
		}
	}
	writes = append(writes, request("GET /logout"), request("DELETE /search"), request("DELETE /login"), request("POST /tenant", "Host: orders.test", form, "", "a=1"))

	servers := rig.Servers(t)
	differential.Each(servers, func(_ int, s *differential.Server) {
		for i, r := range slices.Concat(reads, writes) {
			want := 0
			if i >= len(reads) {
				want = 1
			}
			if _, by := differential.Rises(t, s, s.Addr, r.Clone(), differential.Counter(t, s)); by != want {
				t.Errorf("%s: the counter rose by %d, want %d:\n%s", s.Name, by, want, r)
			}
		}
	})
}

// documented are the overrides of the method that frameworks document, each in a POST to a path that only reads by it.
var documented = map[string][]*differential.Request{
	"rails":         {request("POST /search", "X-HTTP-Method-Override: DELETE", "", ""), overrideForm("_method")},
	"rack":          {request("POST /search", "X-HTTP-Method-Override: DELETE", "", ""), overrideForm("_method")},
	"rack-webrick":  {request("POST /search", "X-HTTP-Method-Override: DELETE", "", ""), overrideForm("_method")},
	"slim":          {request("POST /search", "X-Http-Method-Override: DELETE", "", ""), overrideForm("_METHOD")},
	"slim-lighttpd": {request("POST /search", "X-Http-Method-Override: DELETE", "", ""), overrideForm("_METHOD")},
	"laravel":       {request("POST /search", "X-HTTP-Method-Override: DELETE", "", ""), overrideForm("_method"), request("POST /search?_method=DELETE", "", "")},
	"flight":        {request("POST /search", "X-HTTP-Method-Override: DELETE", "", ""), overrideForm("_method"), request("GET /orders?_method=DELETE")},
	"spring":        {overrideForm("_method"), request("POST /search?_method=DELETE", "", "")},
}

func overrideForm(name string) *differential.Request {
	return request("POST /search", "Content-Type: application/x-www-form-urlencoded", "", name+"=DELETE")
}

func TestServersOverrideMethodsAsDocumented(t *testing.T) {
	for _, s := range rig.Servers(t) {
		for _, r := range documented[s.Name] {
			if _, by := differential.Rises(t, s, s.Addr, r, differential.Counter(t, s)); by != 1 {
				t.Errorf("%s: the counter rose by %d, want 1:\n%s", s.Name, by, r)
			}
		}
	}
}
