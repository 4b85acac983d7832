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

// newGenerator returns the generator that the tests use. The test cases of the classifier and the
// requests of clients join its corpus.
func newGenerator(t testing.TB) *Generator {
	t.Helper()
	var extra []*differential.Request
	for _, c := range cases.Load(t) {
		extra = append(extra, &differential.Request{Method: c.Method, Target: c.Path, Headers: c.Headers, Body: c.Body(), Trail: []string{"case " + c.Name}})
	}
	for _, c := range clients(t) {
		extra = append(extra, c.request())
	}
	return NewGenerator(*seed, extra...)
}

// TestNoWriteReachesAServer is the invariant: behind a gate in read-only, no counter rises,
// whatever is sent.
func TestNoWriteReachesAServer(t *testing.T) {
	for _, gate := range []struct {
		name     string
		gate     differential.Gate
		requests int
		spread   bool
	}{
		{"core", differential.CoreGate, *requests, true},
		{"envoy", differential.EnvoyGate, *requests, true},
		// Here the headers of a refused request reach a server, so every server gets every request.
		{"envoy-plugin", differential.EnvoyPluginGate, *requests / len(rig.Commands), false},
	} {
		t.Run(gate.name, func(t *testing.T) {
			servers := rig.Servers(t)
			g := newGenerator(t)

			// Before the maintenance, each server learns the hash of a mutation, which it then
			// knows.
			known := post("hash with its mutation", "application/json", object(`"query"`, quote(plainMutation), `"extensions"`, `{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(plainMutation)+`"}}`))
			differential.Each(servers, func(_ int, s *differential.Server) { differential.Send(s.Addr, known) })

			addrs := gate.gate(t, servers, readOnly())
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

// readOnly returns the state that the gates enforce: the default app in read-only, without any
// settings.
func readOnly() maintenance.Document {
	return differential.State(differential.InMode(maintenance.Spec{Name: maintenance.DefaultApp}, maintenance.ReadOnly))
}

// checkGate checks that a gate refuses a mutation to each server, and lets a query through to the
// right one.
func checkGate(t *testing.T, servers []*differential.Server, addrs []string) {
	t.Helper()
	ask := func(i int, doc string) differential.Response {
		res, err := differential.Send(addrs[i], post("", "application/json", object(`"query"`, quote(doc))))
		if err != nil {
			t.Fatalf("%s: %v", servers[i].Name, err)
		}
		return res
	}

	for i, s := range servers {
		res := differential.AwaitRefusal(t, addrs[i], post("", "application/json", object(`"query"`, quote(plainMutation))))
		if res.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the gate answers %d to a mutation: %s", s.Name, res.Status, res.Body)
		}

		want := fmt.Sprintf(`{"counter":%d}`, differential.Counter(t, s))
		if res := ask(i, "{counter}"); res.Status != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(res.Body), " ", ""), want) {
			t.Errorf("%s: the gate answers %d to a query: %s, want data %s", s.Name, res.Status, res.Body, want)
		}
	}
}
