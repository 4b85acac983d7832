package graphql

import (
	"flag"
	"log"
	"path/filepath"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// This file says what the servers of the rig do without a gate, or behind a gate that refuses
// nothing. Each server has a counter that only a mutation or a subscription raises (servers.go).

var (
	requests = flag.Int("requests", 5000, "how many requests go to each server")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
)

// TestMain gives all servers the same schema, and ends them after the tests.
func TestMain(m *testing.M) {
	schema, err := filepath.Abs("servers/schema.graphql")
	if err != nil {
		log.Fatal(err)
	}
	rig.Env = []string{"SCHEMA=" + schema}
	rig.Main(m)
}

// TestServersDiffer sends the corpus to every server without a gate, and compares which of them run
// a mutation with what is known. It shows why a parser that follows the specification is not
// enough, and notices when a server has become safer or more dangerous.
func TestServersDiffer(t *testing.T) {
	servers := rig.Servers(t)
	corpus := seeds()

	counters := make([]int, len(servers))
	for i, s := range servers {
		counters[i] = differential.Counter(t, s)
	}

	differential.ExpectKnownDifferences(t, servers, corpus, "testdata/differences.txt", func(i int, r *differential.Request) bool {
		_, rise := differential.SendAndCount(t, servers[i], servers[i].Addr, r, counters[i])
		counters[i] += rise
		return rise > 0
	})
}

// TestGeneratorReachesServers shows that TestNoWriteReachesAServer can fail: with no app in
// maintenance, a good part of the generated requests raises the counter of each server. The
// requests are sent without a gate, through Envoy over HTTP/1, and through Envoy over HTTP/2.
func TestGeneratorReachesServers(t *testing.T) {
	servers := rig.Servers(t)
	g := newGenerator(t)
	off := differential.State(maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp}})

	t.Run("direct", func(t *testing.T) {
		expectWrites(t, g, servers, differential.NoGate(t, servers, off), func(r *differential.Request) *differential.Request {
			r.HTTP2 = nil // the servers do not speak it
			return r
		})
	})

	for name, wantHTTP2 := range map[string]bool{"envoy": false, "envoy-http2": true} {
		t.Run(name, func(t *testing.T) {
			expectWrites(t, g, servers, differential.EnvoyGate(t, servers, off), func(r *differential.Request) *differential.Request {
				if isHTTP2 := r.HTTP2 != nil; isHTTP2 != wantHTTP2 {
					return nil
				}
				return r
			})
		})
	}
}

// expectWrites sends 500 generated requests to every server at the server's address in addrs. It
// fails the test for each server whose counter fewer than a twelfth of the requests raise. choose
// gets each request of the generator, and returns the request to send, or nil to leave it out.
func expectWrites(t *testing.T, g *Generator, servers []*differential.Server, addrs []string, choose func(*differential.Request) *differential.Request) {
	t.Helper()
	const n = 500
	var chosen []*differential.Request
	firstRandom := 2 * len(g.seeds) // before it come the corpus, and the corpus over HTTP/2
	for i := firstRandom; len(chosen) < n; i++ {
		if r := choose(g.Request(i)); r != nil {
			chosen = append(chosen, r)
		}
	}

	counters := make([]int, len(servers))
	for i, s := range servers {
		counters[i] = differential.Counter(t, s)
	}

	differential.ExpectWrites(t, servers, n, func(i, j int) bool {
		_, rise := differential.SendAndCount(t, servers[i], addrs[i], chosen[j], counters[i])
		counters[i] += rise
		return rise > 0
	})
}
