package frameworks

import (
	"bytes"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file says what the servers of the rig do without a gate. Each server has a counter that
// every write raises (servers.go).

var (
	requests = flag.Int("requests", 4_000, "how many requests TestNoWriteReachesAServer makes for all gates and states together")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
)

// onlySomeClosed is the generator's setting in these tests: its requests are for any host.
const onlySomeClosed = false

// TestMain ends the servers after the tests.
func TestMain(m *testing.M) { rig.Main(m) }

// TestServersDiffer sends the corpus to every server without a gate, and compares which of the
// requests write with what is known. Each rule of the gate has its reason there, and the test
// notices when a server has become safer or more dangerous.
func TestServersDiffer(t *testing.T) {
	servers := rig.Servers(t)
	corpus := NewGenerator(*seed, onlySomeClosed, "/search").seeds
	differential.ExpectKnownDifferences(t, servers, corpus, "testdata/differences.txt", func(i int, r *differential.Request) bool {
		// No row of the golden file may depend on how fast a server is. So the test waits long for
		// a write, and waits to the end only for requests that do not write.
		r = ungated(r)
		r.Patience = 10 * time.Second
		var afterAnswer time.Duration // how long a write is waited for after the answer
		switch {
		case smuggles(r):
			r.ReadOn, r.Patience = true, 3*time.Second
		case len(r.After) > 0:
			r.Patience, afterAnswer = 3*time.Second, 2*time.Second
		}
		return writes(t, servers[i], servers[i].Addr, r, afterAnswer)
	})
}

// ungated returns a copy of a request that can be sent to a server without a gate: over HTTP/1,
// because the servers speak nothing else. If the end of the request is unclear, many servers wait
// for more than there is, so they get little time to answer.
func ungated(r *differential.Request) *differential.Request {
	r = r.Clone()
	r.HTTP2 = nil
	r.Patience = 2 * time.Second
	unclearFraming := r.Framing >= differential.Both // Both, Unfinished or None
	if len(r.After) > 0 || unclearFraming || smuggles(r) {
		r.Patience = 300 * time.Millisecond
	}
	return r
}

// smuggles reports whether the body of a request is another request, which a server may execute.
func smuggles(r *differential.Request) bool { return bytes.Contains(r.Body, []byte("HTTP/1.1")) }

// TestGeneratorReachesServers shows that TestNoWriteReachesAServer can fail: without a gate, a good
// part of the generated requests raises the counter of each server.
func TestGeneratorReachesServers(t *testing.T) {
	servers := rig.Servers(t)
	g := NewGenerator(*seed, onlySomeClosed, "/search")
	const n, noWait = 400, 0
	firstRandom := len(g.seeds) // the requests before it are the corpus, which TestServersDiffer sends

	differential.ExpectWrites(t, servers, n, func(i, j int) bool {
		return writes(t, servers[i], servers[i].Addr, ungated(g.Request(firstRandom+j)), noWait)
	})
}

// TestServersKeepTheContract shows that each server does what the rig expects of it: which plain
// requests write, each once, and which only read.
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
			if isWrite := i >= len(reads); isWrite {
				want = 1
			}
			if _, rise := differential.SendAndCount(t, s, s.Addr, r.Clone(), differential.Counter(t, s)); rise != want {
				t.Errorf("%s: the counter rose by %d, want %d:\n%s", s.Name, rise, want, r)
			}
		}
	})
}

// documented are, by server, requests with the method overrides that the documentation of its
// framework describes. Without the override, none of them writes.
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

// overrideForm returns a POST that only reads, with a form in which the field of this name
// overrides the method.
func overrideForm(name string) *differential.Request {
	return request("POST /search", "Content-Type: application/x-www-form-urlencoded", "", name+"=DELETE")
}

func TestServersOverrideMethodsAsDocumented(t *testing.T) {
	for _, s := range rig.Servers(t) {
		for _, r := range documented[s.Name] {
			if _, rise := differential.SendAndCount(t, s, s.Addr, r, differential.Counter(t, s)); rise != 1 {
				t.Errorf("%s: the counter rose by %d, want 1:\n%s", s.Name, rise, r)
			}
		}
	}
}
