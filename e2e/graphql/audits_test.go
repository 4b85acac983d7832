package graphql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	"github.com/drydock-proxy/drydock/e2e/golden"
)

// This file runs the audits of the npm package graphql-http. An audit sends one or a few requests
// to a GraphQL server, and checks the answers against the specification of GraphQL over HTTP. Here
// the audits run against servers without a gate, and through a gate in read-only: Envoy with
// Drydock's filter, which refuses mutations.

// result is the result of one audit. servers/node/audits.js prints it as JSON.
type result struct {
	ID, Name string // of the audit
	Outcome  string // one of outcomes
	Status   int    // of the answer that the outcome is about
	Rule     string // the rule by which Drydock refused the request, "" for an answer of the server
	Reason   string // for another outcome than "ok"
}

func (a result) String() string {
	s := fmt.Sprintf("%s %d", a.Outcome, a.Status)
	if a.Rule != "" {
		s += " by " + a.Rule
	}
	return s
}

// outcomes are the outcomes of an audit, from good to bad. An audit for a MUST of the specification
// that a server breaks ends in "error", one for a SHOULD in "warn", one for a MAY in "notice".
var outcomes = []string{"ok", "notice", "warn", "error"}

// changedByGate has the IDs of the audits whose outcome in read-only may be worse than without a
// gate, each with the reason.
var changedByGate = map[string]string{
	"9C48": "Mutations by GET are refused during the maintenance, with 503 and not with 4xx, because some servers run them.",
}

// TestAuditsAreNoWorseInReadOnly runs the audits against three servers, without a gate and through
// Envoy in read-only. No outcome may be worse through Envoy, apart from those in changedByGate.
// Each of these must be worse on at least one server, so that the list keeps no exception that is
// not needed.
func TestAuditsAreNoWorseInReadOnly(t *testing.T) {
	servers := rig.Named(t, "apollo", "yoga", "graphql-http")
	runAudits := newAuditor(t)
	without, through := make([][]result, len(servers)), make([][]result, len(servers)) // by server, then by audit
	differential.Each(servers, func(i int, s *differential.Server) { without[i] = runAudits(t, s, s.Addr) })

	t.Run("envoy", func(t *testing.T) {
		addrs := differential.EnvoyGate(t, servers, readOnly())
		checkGate(t, servers, addrs)
		differential.Each(servers, func(i int, s *differential.Server) { through[i] = runAudits(t, s, addrs[i]) })
	})
	if t.Failed() {
		return
	}

	worse := map[string]bool{} // by ID
	for i, s := range servers {
		for j, before := range without[i] {
			after := through[i][j]
			if slices.Index(outcomes, after.Outcome) <= slices.Index(outcomes, before.Outcome) {
				continue
			}
			worse[after.ID] = true
			if changedByGate[after.ID] == "" {
				t.Errorf("%s, %s %s: %v without a gate, %v in read-only: %s", s.Name, after.ID, after.Name, before, after, after.Reason)
			}
		}
	}

	for id, reason := range changedByGate {
		if !worse[id] {
			t.Errorf("%s has the same result in read-only, so it must not be an exception: %s", id, reason)
		}
	}

	golden.Compare(t, "testdata/audits.txt", auditTable(servers, without, through))
}

// auditCount is how many audits the installed version of graphql-http has.
const auditCount = 61

// newAuditor installs the audits, and returns a function that runs them against a server at an
// address (host:port). The results have the same order each time. If the audits cannot be run, the
// function fails the test and returns nil.
func newAuditor(t *testing.T) func(t *testing.T, s *differential.Server, addr string) []result {
	dir, err := differential.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("servers/node/audits.js")
	if err != nil {
		t.Fatal(err)
	}

	return func(t *testing.T, s *differential.Server, addr string) (all []result) {
		t.Helper()
		cmd := exec.Command("node", script, "http://"+addr+"/graphql", addr)
		cmd.Env = append(os.Environ(), "NODE_PATH="+dir+"/node/node_modules")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: the audits: %v\n%s", s.Name, err, stderr.Bytes())
			return nil
		}

		for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
			var a result
			if err := dec.Decode(&a); err != nil {
				t.Errorf("%s: reading the audits: %v", s.Name, err)
				return nil
			}
			all = append(all, a)
		}

		if len(all) != auditCount {
			t.Errorf("%s: %d audits, want %d: look at the audits of this version of graphql-http first", s.Name, len(all), auditCount)
		}
		return all
	}
}

// auditTable returns the text of the golden file: for each server how many audits had which
// outcome, and then each audit with its results. Servers with the same results share a line.
func auditTable(servers []*differential.Server, without, through [][]result) string {
	var b strings.Builder
	sum := func(all []result) string {
		var parts []string
		for _, o := range outcomes {
			n := 0
			for _, a := range all {
				if a.Outcome == o {
					n++
				}
			}
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, o))
			}
		}
		return strings.Join(parts, ", ")
	}

	b.WriteString("graphql-http's audits of GraphQL over HTTP: without a gate → through Envoy in read-only\n")
	for i, s := range servers {
		fmt.Fprintf(&b, "\t%s: %s → %s\n", s.Name, sum(without[i]), sum(through[i]))
	}

	for j, a := range without[0] {
		fmt.Fprintf(&b, "%s %s\n", a.ID, a.Name)
		names := map[string][]string{} // of the servers, by their results
		for i, s := range servers {
			results := fmt.Sprintf("%v → %v", without[i][j], through[i][j])
			names[results] = append(names[results], s.Name)
		}

		var lines []string
		for results, servers := range names {
			lines = append(lines, fmt.Sprintf("\t%s: %s\n", strings.Join(servers, ", "), results))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
		if reason := changedByGate[a.ID]; reason != "" {
			fmt.Fprintf(&b, "\t%s\n", reason)
		}
	}
	return b.String()
}
