package graphql

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/cases"
)

// The tests of this package send generated requests through a gate: the rules of Drydock's filter
// alone (CoreGate), or Envoy with the filter (EnvoyGate, EnvoyPluginGate). Behind the gate are the
// servers of rig (servers.go), each with a counter that only a mutation or a subscription raises.

// newGenerator returns the generator that the tests use, with the seed of the flag -seed. The test
// cases of Drydock's classifier of GraphQL requests, and the requests of clients, join its corpus.
func newGenerator(t testing.TB) *Generator {
	t.Helper()
	var extra []*differential.Request
	for _, c := range cases.Load(t) {
		extra = append(extra, &differential.Request{
			Method: c.Method, Target: c.Path, Headers: c.Headers, Body: c.Body(), Trail: []string{"case " + c.Name},
		})
	}
	for _, rec := range recordedRequests(t) {
		extra = append(extra, rec.request())
	}
	return NewGenerator(*seed, extra...)
}

// TestNoWriteReachesAServer is the invariant: behind a gate in read-only, no counter rises,
// whatever is sent.
func TestNoWriteReachesAServer(t *testing.T) {
	for _, gate := range []struct {
		name     string
		start    differential.Gate
		requests int
		spread   bool // to one server each, and to the others only what is not refused
	}{
		{"core", differential.CoreGate, *requests, true},
		{"envoy", differential.EnvoyGate, *requests, true},
		// Behind this gate, the headers of a request are at the server before the gate refuses it.
		// So every server gets every request, and there are fewer of them.
		{"envoy-plugin", differential.EnvoyPluginGate, *requests / len(rig.Commands), false},
	} {
		t.Run(gate.name, func(t *testing.T) {
			servers := rig.Servers(t)
			g := newGenerator(t)

			// Before the maintenance, each server learns the hash of a mutation (automatic
			// persisted queries). Then the hash alone makes a server run the mutation.
			persisted := `{"persistedQuery":{"version":1,"sha256Hash":"` + sha256Hex(plainMutation) + `"}}`
			teach := post("hash with its mutation", "application/json", object(`"query"`, quote(plainMutation), `"extensions"`, persisted))
			differential.Each(servers, func(_ int, s *differential.Server) { differential.Send(s.Addr, teach) })

			addrs := gate.start(t, servers, readOnly())
			checkGate(t, servers, addrs)
			if t.Failed() {
				return
			}
			run := differential.Run{
				Servers: servers, Addrs: addrs, Requests: gate.requests, Spread: gate.spread,
				Request: func(_, i int) *differential.Request { return g.Request(i) },
			}

			got := run.ExpectNoWrites(t)
			checkGate(t, servers, addrs)
			t.Logf("seed %d: %d requests for %d servers, %v", *seed, gate.requests, len(servers), got)
		})
	}
}

// readOnly returns the state that the gates enforce: the default app, to which all requests belong,
// in read-only and without any settings.
func readOnly() maintenance.Document {
	return differential.State(differential.InMode(maintenance.Spec{Name: maintenance.DefaultApp}, maintenance.ReadOnly))
}

// checkGate checks that a gate refuses a mutation to each server, and lets a query through to that
// server. The query asks for the counter, in which the servers differ.
func checkGate(t *testing.T, servers []*differential.Server, addrs []string) {
	t.Helper()
	run := func(doc string) *differential.Request {
		return post("", "application/json", object(`"query"`, quote(doc)))
	}

	for i, s := range servers {
		res := differential.AwaitRefusal(t, addrs[i], run(plainMutation))
		if res.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the gate answers %d to a mutation: %s", s.Name, res.Status, res.Body)
		}

		want := fmt.Sprintf(`{"counter":%d}`, differential.Counter(t, s))
		res, err := differential.Send(addrs[i], run("{counter}"))
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		if res.Status != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(res.Body), " ", ""), want) {
			t.Errorf("%s: the gate answers %d to a query: %s, want data %s", s.Name, res.Status, res.Body, want)
		}
	}
}
