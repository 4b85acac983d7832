package frameworks

import (
	"net/http"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// state is what a gate enforces, and how the generator works under it.
type state struct {
	name   string
	apps   []maintenance.App
	hosted bool   // see [Generator]
	entry  string // see [Generator]
	share  int    // of the requests, in percent
}

// exempt is what operators exempt.
var exempt = []maintenance.PathRule{
	{Prefix: exemptPrefix}, {Methods: []string{"POST"}, Path: "/login"}, {Methods: []string{"GET"}, Path: "/healthz"},
}

func states() []state {
	readOnly := maintenance.Spec{Name: maintenance.DefaultApp, Exempt: exempt, ReadOnly: maintenance.ReadOnlyRules{
		GetWrites: []maintenance.PathRule{{Path: "/logout"}}, WriteThrough: []maintenance.PathRule{{Methods: []string{"POST"}, Path: "/search"}},
	}}

	byPath := maintenance.Spec{Name: "orders", Match: maintenance.Match{Paths: []string{"/orders"}}, Exempt: exempt}
	byHost := maintenance.Spec{Name: "tenant", Match: maintenance.Match{Hosts: []string{closedHost}}, Exempt: exempt}

	return []state{
		{"read-only", []maintenance.App{differential.InMode(readOnly, maintenance.ReadOnly)}, false, "/search", 50},
		{"no-access", []maintenance.App{differential.InMode(maintenance.Spec{Name: maintenance.DefaultApp, Exempt: exempt}, maintenance.NoAccess)}, false, "/login", 20},
		{"one-app", []maintenance.App{differential.InMode(byPath, maintenance.NoAccess), differential.InMode(byHost, maintenance.NoAccess)}, true, "/login", 30},
	}
}

// TestNoWriteReachesAServer is the invariant: behind a gate that closes an app, no counter rises,
// whatever is sent to that app.
func TestNoWriteReachesAServer(t *testing.T) {
	for _, gate := range []struct {
		name  string
		gate  differential.Gate
		share int // of the requests, in percent
	}{
		{"core", differential.CoreGate, 20},
		{"envoy", differential.EnvoyGate, 50},
		{"envoy-plugin", differential.EnvoyPluginGate, 30}, // without the help of an edge
	} {
		for _, s := range states() {
			t.Run(gate.name+"/"+s.name, func(t *testing.T) {
				servers := rig.Servers(t)
				addrs := gate.gate(t, servers, differential.State(s.apps...))
				checkGate(t, servers, addrs, s)
				if t.Failed() {
					return
				}

				t.Run("attacks", func(t *testing.T) { attacksWriteNothing(t, servers, addrs, s) })
				t.Run("generated", func(t *testing.T) {
					n := *requests * gate.share / 100 * s.share / 100
					g := NewGenerator(*seed, s.hosted, s.entry)
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

// checkGate checks that a gate refuses a plain write to each server, and lets through to it what
// reads or is exempt.
func checkGate(t *testing.T, servers []*differential.Server, addrs []string, s state) {
	t.Helper()
	ask := func(i int, method, path string) differential.Response {
		res, err := differential.Send(addrs[i], &differential.Request{Method: method, Target: path})
		if err != nil {
			t.Fatalf("%s: %v", servers[i].Name, err)
		}
		return res
	}

	for i, server := range servers {
		res := differential.AwaitRefusal(t, addrs[i], request("POST /orders"))
		if res.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the gate answers %d to a write: %s", server.Name, res.Status, res.Body)
		}
		if res := ask(i, "POST", s.entry); res.Status != http.StatusOK {
			t.Errorf("%s: the gate answers %d to POST %s: %s", server.Name, res.Status, s.entry, res.Body)
		}
	}
}
