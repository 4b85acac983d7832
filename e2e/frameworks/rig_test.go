package frameworks

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

var (
	requests = flag.Int("requests", 4_000, "how many requests TestNoCounterRises makes, for all gates and states together")
	seed     = flag.Uint64("seed", 1, "seed of the generator")
	update   = flag.Bool("update", false, "write the golden files anew")
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

// TestServersDiffer sends the corpus to every server as it is and compares which of them wrote with what is known: the
// reason for each rule of the gate, and the proof that a server still is as dangerous as it was when the rig was written.
func TestServersDiffer(t *testing.T) {
	servers := running(t)
	corpus := NewGenerator(*seed, false, "/search").seeds
	raised := make([][]bool, len(servers))
	differential.Each(servers, func(i int, s *differential.Server) {
		begin := time.Now()
		for _, r := range corpus {
			raised[i] = append(raised[i], writes(t, s, s.Addr, ungated(r), later(r)))
		}
		t.Logf("%s: %d requests in %v", s.Name, len(corpus), time.Since(begin).Round(time.Millisecond))
	})
	if t.Failed() {
		return
	}
	var got strings.Builder
	for j, r := range corpus {
		var with, without []string
		for i, s := range servers {
			if raised[i][j] {
				with = append(with, s.Name)
			} else {
				without = append(without, s.Name)
			}
		}
		who := strings.Join(with, ", ")
		switch {
		case len(with) == 0:
			who = "none"
		case len(without) == 0:
			who = "all"
		case len(without) < len(with):
			who = "all but " + strings.Join(without, ", ")
		}
		name := strconv.QuoteToASCII(strings.Join(r.Trail, " > "))
		fmt.Fprintf(&got, "%s\n\t%s\n", strings.ReplaceAll(name[1:len(name)-1], `\"`, `"`), who)
	}
	golden(t, "testdata/differences.txt", got.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			t.Fatalf("%s differs from line %d on (-update writes it anew):\n got %q\nwant %q", name, i+1, g[min(i, len(g)-1):min(i+2, len(g))], w[min(i, len(w)-1):min(i+2, len(w))])
		}
	}
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
	servers := running(t)
	g := NewGenerator(*seed, false, "/search")
	const n = 400
	first := len(g.seeds) // the corpus as it stands is TestServersDiffer's
	raised := make([]int, len(servers))
	took := make([]time.Duration, len(servers))
	var somewhere [n]atomic.Bool
	differential.Each(servers, func(i int, s *differential.Server) {
		begin := time.Now()
		for j := range n {
			if writes(t, s, s.Addr, ungated(g.Request(first+j)), 0) {
				raised[i]++
				somewhere[j].Store(true)
			}
		}
		took[i] = time.Since(begin)
	})
	anywhere := 0
	for j := range somewhere {
		if somewhere[j].Load() {
			anywhere++
		}
	}
	t.Logf("%d of %d requests raised the counter of some server (%.0f %%)", anywhere, n, percent(int64(anywhere), n))
	for i, s := range servers {
		t.Logf("%-16s %4d of %d requests raised the counter (%.0f %%), in %v", s.Name, raised[i], n, percent(int64(raised[i]), n), took[i].Round(time.Millisecond))
		if raised[i] < n/12 {
			t.Errorf("%s: less than a twelfth of the requests raised the counter: the rig shows little of it", s.Name)
		}
	}
}

func percent(n, of int64) float64 { return 100 * float64(n) / float64(of) }
