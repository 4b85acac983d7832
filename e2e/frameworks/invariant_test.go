package frameworks

import (
	"net/http"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// The tests of this package send requests through a gate, which must refuse writes: the rules of
// Drydock's filter alone (CoreGate), or Envoy with the filter (EnvoyGate, EnvoyPluginGate). Behind
// the gate are the servers of rig (servers.go), each with a counter that every write raises.

// state is what a gate enforces, and how the generator works under it.
type state struct {
	name           string
	apps           []maintenance.App
	onlySomeClosed bool   // see [Generator]
	entry          string // see [Generator]
	share          int    // of all generated requests, in percent
}

// exempt is what operators usually exempt: requests that pass in every mode.
var exempt = []maintenance.PathRule{
	{Prefix: exemptPrefix}, {Methods: []string{"POST"}, Path: "/login"}, {Methods: []string{"GET"}, Path: "/healthz"},
}

// states returns the states in which the invariant must hold: all paths in read-only, all paths in
// no-access, and one app by path and one by host in no-access while the rest is open.
func states() []state {
	readOnly := maintenance.Spec{Name: maintenance.DefaultApp, Exempt: exempt, ReadOnly: maintenance.ReadOnlyRules{
		GetWrites: []maintenance.PathRule{{Path: "/logout"}}, WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/search"}},
	}}

	byPath := maintenance.Spec{Name: "orders", Match: maintenance.Match{Paths: []string{"/orders"}}, Exempt: exempt}
	byHost := maintenance.Spec{Name: "tenant", Match: maintenance.Match{Hosts: []string{closedHost}}, Exempt: exempt}

	return []state{
		{name: "read-only", entry: "/search", share: 50, apps: []maintenance.App{
			differential.InMode(readOnly, maintenance.ReadOnly),
		}},
		{name: "no-access", entry: "/login", share: 20, apps: []maintenance.App{
			differential.InMode(maintenance.Spec{Name: maintenance.DefaultApp, Exempt: exempt}, maintenance.NoAccess),
		}},
		{name: "one-app", entry: "/login", share: 30, onlySomeClosed: true, apps: []maintenance.App{
			differential.InMode(byPath, maintenance.NoAccess), differential.InMode(byHost, maintenance.NoAccess),
		}},
	}
}

// TestNoWriteReachesAServer is the invariant: behind a gate that closes an app, no counter rises,
// whatever is sent to that app.
func TestNoWriteReachesAServer(t *testing.T) {
	for _, gate := range []struct {
		name  string
		start differential.Gate
		share int // of all generated requests, in percent
	}{
		{"core", differential.CoreGate, 20},
		{"envoy", differential.EnvoyGate, 50},
		{"envoy-plugin", differential.EnvoyPluginGate, 30}, // without the help of an edge
	} {
		for _, s := range states() {
			t.Run(gate.name+"/"+s.name, func(t *testing.T) {
				servers := rig.Servers(t)
				addrs := gate.start(t, servers, differential.State(s.apps...))
				checkGate(t, servers, addrs, s)
				if t.Failed() {
					return
				}

				t.Run("attacks", func(t *testing.T) { attacksWriteNothing(t, servers, addrs, s) })
				t.Run("generated", func(t *testing.T) {
					n := *requests * gate.share / 100 * s.share / 100
					g := NewGenerator(*seed, s.onlySomeClosed, s.entry)
					run := differential.Run{
						Servers: servers, Addrs: addrs, Requests: n, Spread: true,
						Request: func(_, i int) *differential.Request { return g.Request(i) },
					}
					got := run.ExpectNoWrites(t)
					t.Logf("seed %d: %d requests for %d servers, %v", *seed, n, len(servers), got)
				})

				checkGate(t, servers, addrs, s)
			})
		}
	}
}

// checkGate checks that a gate that enforces a state refuses a plain write to each server, and lets
// a POST to the state's entry through.
func checkGate(t *testing.T, servers []*differential.Server, addrs []string, s state) {
	t.Helper()
	for i, server := range servers {
		res := differential.AwaitRefusal(t, addrs[i], request("POST /orders"))
		if res.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the gate answers %d to a write: %s", server.Name, res.Status, res.Body)
		}

		res, err := differential.Send(addrs[i], request("POST "+s.entry))
		if err != nil {
			t.Fatalf("%s: %v", server.Name, err)
		}
		if res.Status != http.StatusOK {
			t.Errorf("%s: the gate answers %d to POST %s: %s", server.Name, res.Status, s.entry, res.Body)
		}
	}
}
