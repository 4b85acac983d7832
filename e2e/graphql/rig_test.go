package graphql

import (
	"context"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/internal/golden"
)

var (
	requests = flag.Int("requests", 5000, "how many requests go to each server")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
)

var rig struct {
	sync.Once
	servers []*differential.Server
	stop    func()
	err     error
}

// running are the servers, started for the first test that asks.
func running(t testing.TB) []*differential.Server {
	t.Helper()
	rig.Do(func() { rig.servers, rig.stop, rig.err = Start(context.Background()) })
	if rig.err != nil {
		t.Fatal(rig.err)
	}
	return rig.servers
}

func TestMain(m *testing.M) {
	code := m.Run()
	if rig.stop != nil {
		rig.stop()
	}
	os.Exit(code)
}

// TestServersDiffer sends the corpus to every server as it is and compares which of them ran a mutation with what is
// known: the reason why a parser that is right by the specification is not enough, and the proof that a server still is
// as dangerous as it was when the rig was written.
func TestServersDiffer(t *testing.T) {
	servers := running(t)
	corpus := seeds()
	raised := make([][]bool, len(servers))
	differential.Each(servers, func(i int, s *differential.Server) {
		n := differential.Counter(t, s)
		for _, r := range corpus {
			_, by := differential.Rises(t, s, s.Addr, r, n)
			n += by
			raised[i] = append(raised[i], by > 0)
		}
	})
	if t.Failed() {
		return
	}
	golden.Compare(t, "testdata/differences.txt", differential.Differences(servers, corpus, raised))
}

// TestGeneratorReachesServers shows that the invariant can fail: with nothing on, a good part of what the generator makes
// raises the counter of each server, straight and through Envoy over HTTP/1 and HTTP/2.
func TestGeneratorReachesServers(t *testing.T) {
	servers := running(t)
	g := newGenerator(t)
	off := differential.State(maintenance.App{Spec: maintenance.Spec{Name: maintenance.DefaultApp}})
	t.Run("direct", func(t *testing.T) {
		reaches(t, g, servers, differential.NoGate(t, servers, off), func(r *differential.Request) *differential.Request {
			r.HTTP2 = nil // which the servers do not speak
			return r
		})
	})
	for name, over2 := range map[string]bool{"envoy": false, "envoy-http2": true} {
		t.Run(name, func(t *testing.T) {
			reaches(t, g, servers, differential.EnvoyGate(t, servers, off), func(r *differential.Request) *differential.Request {
				if (r.HTTP2 != nil) != over2 {
					return nil
				}
				return r
			})
		})
	}
}

// reaches sends generated requests, of those that choose does not return nil for, and fails for each server whose
// counter less than a twelfth of them raise.
func reaches(t *testing.T, g *Generator, servers []*differential.Server, addrs []string, choose func(*differential.Request) *differential.Request) {
	t.Helper()
	const n = 500
	var chosen []*differential.Request
	for i := 2 * len(g.seeds); len(chosen) < n; i++ { // the corpus as it stands is TestServersDiffer's
		if r := choose(g.Request(i)); r != nil {
			chosen = append(chosen, r)
		}
	}
	before := make([]int, len(servers))
	for i, s := range servers {
		before[i] = differential.Counter(t, s)
	}
	differential.Reaches(t, servers, n, func(i, j int) bool {
		_, by := differential.Rises(t, servers[i], addrs[i], chosen[j], before[i])
		before[i] += by
		return by > 0
	})
}
