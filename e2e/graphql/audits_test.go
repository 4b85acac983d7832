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

// audit is the outcome of one audit of the npm package graphql-http.
type audit struct {
	ID, Name, Outcome string
	Status            int    // of the answer that the outcome is about
	Rule              string // the rule by which Drydock refused the request, "" for an answer of the server
	Reason            string
}

func (a audit) String() string {
	s := fmt.Sprintf("%s %d", a.Outcome, a.Status)
	if a.Rule != "" {
		s += " by " + a.Rule
	}
	return s
}

// outcomes are the results of an audit, from good to bad.
var outcomes = []string{"ok", "notice", "warn", "error"}

// changedByGate are the audits whose result in read-only may be worse than the server's own, each
// with the reason.
var changedByGate = map[string]string{
	"9C48": "Mutations by GET are refused during the maintenance, with 503 and not with 4xx, because some servers run them.",
}

// TestAuditsAreNoWorseInReadOnly runs the audits of GraphQL over HTTP against three servers,
// without a gate and through Envoy in read-only. Correct and incorrect requests must be answered as
// the server answers them.
func TestAuditsAreNoWorseInReadOnly(t *testing.T) {
	servers := rig.Named(t, "apollo", "yoga", "graphql-http")
	run := auditor(t)
	without, through := make([][]audit, len(servers)), make([][]audit, len(servers))
	direct := differential.NoGate(t, servers, readOnly())
	differential.Each(servers, func(i int, s *differential.Server) { without[i] = run(t, s, direct[i]) })

	t.Run("envoy", func(t *testing.T) {
		gated := differential.EnvoyGate(t, servers, readOnly())
		checkGate(t, servers, gated)
		differential.Each(servers, func(i int, s *differential.Server) { through[i] = run(t, s, gated[i]) })
	})
	if t.Failed() {
		return
	}

	worse := map[string]bool{}
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

// auditor installs the audits, and returns a function that runs them against an address.
func auditor(t *testing.T) func(*testing.T, *differential.Server, string) []audit {
	dir, err := differential.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("servers/node/audits.js")
	if err != nil {
		t.Fatal(err)
	}

	return func(t *testing.T, s *differential.Server, addr string) (all []audit) {
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
			var a audit
			if err := dec.Decode(&a); err != nil {
				t.Errorf("%s: reading the audits: %v", s.Name, err)
				return nil
			}
			all = append(all, a)
		}

		if len(all) != 61 {
			t.Errorf("%s: %d audits, want 61: look at the audits of this version of graphql-http first", s.Name, len(all))
		}
		return all
	}
}

// auditTable lists the sums for each server, then each audit with its results. Servers with the
// same result share a line.
func auditTable(servers []*differential.Server, without, through [][]audit) string {
	var b strings.Builder
	sum := func(all []audit) string {
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
		names := map[string][]string{}
		for i, s := range servers {
			result := fmt.Sprintf("%v → %v", without[i][j], through[i][j])
			names[result] = append(names[result], s.Name)
		}

		var lines []string
		for result, servers := range names {
			lines = append(lines, fmt.Sprintf("\t%s: %s\n", strings.Join(servers, ", "), result))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
		if reason := changedByGate[a.ID]; reason != "" {
			fmt.Fprintf(&b, "\t%s\n", reason)
		}
	}
	return b.String()
}
