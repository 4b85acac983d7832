package frameworks

import (
	"bytes"
	"flag"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

var (
	requests = flag.Int("requests", 4_000, "how many requests TestNoWriteReachesAServer makes, for all gates and states together")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
)

func TestMain(m *testing.M) { rig.Main(m) }

// TestServersDiffer sends the corpus to every server as it is and compares which of them wrote with what is known: the
// reason for each rule of the gate, and the proof that a server still is as dangerous as it was when the rig was written.
func TestServersDiffer(t *testing.T) {
	servers := rig.Servers(t)
	corpus := NewGenerator(*seed, false, "/search").seeds
	differential.Differ(t, servers, corpus, "testdata/differences.txt", func(i int, r *differential.Request) bool {
		return writes(t, servers[i], servers[i].Addr, ungated(r), later(r))
	})
}

// ungated returns the request as a server without a gate can take it: the servers speak HTTP/1 only. Many wait for more
// of a request than there is, and are not waited for.
func ungated(r *differential.Request) *differential.Request {
	r = r.Clone()
	r.HTTP2 = nil
	r.Patience = 2 * time.Second
	if len(r.After) > 0 || r.Framing >= differential.Both || later(r) > 0 {
		r.Patience = 300 * time.Millisecond
	}
	return r
}

// later is how long after the answer to a request a server may still write: what is smuggled is a request of its own.
func later(r *differential.Request) time.Duration {
	if bytes.Contains(r.Body, []byte("HTTP/1.1")) {
		return 500 * time.Millisecond
	}
	return 0
}

// TestGeneratorReachesServers shows that the invariant can fail: without a gate a good part of what the generator makes
// raises the counter of each server.
func TestGeneratorReachesServers(t *testing.T) {
	servers := rig.Servers(t)
	g := NewGenerator(*seed, false, "/search")
	first := len(g.seeds) // the corpus as it stands is TestServersDiffer's
	differential.Reaches(t, servers, 400, func(i, j int) bool {
		return writes(t, servers[i], servers[i].Addr, ungated(g.Request(first+j)), 0)
	})
}
