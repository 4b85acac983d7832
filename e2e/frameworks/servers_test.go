package frameworks

import (
	"bytes"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

var (
	requests = flag.Int("requests", 4_000, "how many requests TestNoWriteReachesAServer makes for all gates and states together")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
)

func TestMain(m *testing.M) { rig.Main(m) }

// TestServersDiffer sends the corpus to every server without a gate, and compares which of the
// requests write with what is known. Each rule of the gate has its reason there, and the test
// notices when a server has become safer or more dangerous.
func TestServersDiffer(t *testing.T) {
	servers := rig.Servers(t)
	corpus := NewGenerator(*seed, false, "/search").seeds
	differential.ExpectKnownDifferences(t, servers, corpus, "testdata/differences.txt", func(i int, r *differential.Request) bool {
		// No row may depend on how fast a server is: what it does is waited for, up to bounds that
		// only rows without a write reach.
		r = ungated(r)
		r.Patience = 10 * time.Second
		var after time.Duration
		switch {
		case bytes.Contains(r.Body, []byte("HTTP/1.1")):
			r.ReadOn, r.Patience = true, 3*time.Second
		case len(r.After) > 0:
			r.Patience, after = 3*time.Second, 2*time.Second
		}
		return writes(t, servers[i], servers[i].Addr, r, after)
	})
}

// ungated returns the request as a server without a gate can take it: the servers speak only
// HTTP/1. Many of them wait for more of a request than there is, and get little time to answer.
func ungated(r *differential.Request) *differential.Request {
	r = r.Clone()
	r.HTTP2 = nil
	r.Patience = 2 * time.Second
	if len(r.After) > 0 || r.Framing >= differential.Both || later(r) > 0 {
		r.Patience = 300 * time.Millisecond
	}
	return r
}

// later returns how long after its answer a server may still write. A smuggled request is answered
// on its own.
func later(r *differential.Request) time.Duration {
	if bytes.Contains(r.Body, []byte("HTTP/1.1")) {
		return 500 * time.Millisecond
	}
	return 0
}

// TestGeneratorReachesServers shows that the invariant can fail: without a gate, a good part of the
// generated requests raises the counter of each server.
func TestGeneratorReachesServers(t *testing.T) {
	servers := rig.Servers(t)
	g := NewGenerator(*seed, false, "/search")
	first := len(g.seeds) // TestServersDiffer sends the corpus

	differential.ExpectWrites(t, servers, 400, func(i, j int) bool {
		return writes(t, servers[i], servers[i].Addr, ungated(g.Request(first+j)), 0)
	})
}

// TestServersKeepTheContract holds each server to what the rig expects of it: which plain requests
// write, and which only read.
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
			if _, by := differential.SendAndCount(t, s, s.Addr, r.Clone(), differential.Counter(t, s)); by != want {
				t.Errorf("%s: the counter rose by %d, want %d:\n%s", s.Name, by, want, r)
			}
		}
	})
}

// documented are the method overrides that the documentation of a framework describes, each in a
// POST to a path that only reads by POST.
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
			if _, by := differential.SendAndCount(t, s, s.Addr, r, differential.Counter(t, s)); by != 1 {
				t.Errorf("%s: the counter rose by %d, want 1:\n%s", s.Name, by, r)
			}
		}
	}
}
