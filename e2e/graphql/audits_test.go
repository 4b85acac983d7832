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
	"github.com/drydock-proxy/drydock/internal/golden"
)

// audit is the outcome of one of graphql-http's audits.
type audit struct {
	ID, Name, Outcome string
	Status            int    // of the answer that the outcome is about
	Rule              string // by which Drydock refused the request, "" for an answer of the server's own
	Reason            string
}

func (a audit) String() string {
	s := fmt.Sprintf("%s %d", a.Outcome, a.Status)
	if a.Rule != "" {
		s += " by " + a.Rule
	}
	return s
}

// outcomes are what an audit says, from good to bad.
var outcomes = []string{"ok", "notice", "warn", "error"}

// changedByGate are the audits that may say worse of a server in read-only than of the server itself, with the reason.
var changedByGate = map[string]string{
	"9C48": "A mutation by GET is refused for the maintenance, by 503 and not by 4xx: some servers run it.",
}

// TestAuditsAreNoWorseInReadOnly runs the audits of GraphQL over HTTP against three servers, without a gate and through Envoy in
// read-only. A request that is right is answered as by the server, and one that is wrong is told so as by the server.
func TestAuditsAreNoWorseInReadOnly(t *testing.T) {
	servers := rig.Named(t, "apollo", "yoga", "graphql-http")
	ask := auditor(t)
	without, through := make([][]audit, len(servers)), make([][]audit, len(servers))
	direct := differential.NoGate(t, servers, readOnly())
	differential.Each(servers, func(i int, s *differential.Server) { without[i] = ask(t, s, direct[i]) })
	t.Run("envoy", func(t *testing.T) {
		gated := differential.EnvoyGate(t, servers, readOnly())
		checkGate(t, servers, gated)
		differential.Each(servers, func(i int, s *differential.Server) { through[i] = ask(t, s, gated[i]) })
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
			t.Errorf("%s says the same in read-only, and need not be excepted: %s", id, reason)
		}
	}
	golden.Compare(t, "testdata/audits.txt", auditTable(servers, without, through))
}

// auditor installs the audits, and returns what runs them against a target.
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
				t.Errorf("%s: what the audits say: %v", s.Name, err)
				return nil
			}
			all = append(all, a)
		}
		if len(all) != 61 {
			t.Errorf("%s: %d audits, want 61: those of another version of graphql-http have to be looked at first", s.Name, len(all))
		}
		return all
	}
}

// auditTable has the sums of each server, then each audit with what it says of the servers. Servers of which it says the
// same share a line.
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
			said := fmt.Sprintf("%v → %v", without[i][j], through[i][j])
			names[said] = append(names[said], s.Name)
		}
		var lines []string
		for said, who := range names {
			lines = append(lines, fmt.Sprintf("\t%s: %s\n", strings.Join(who, ", "), said))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
		if reason := changedByGate[a.ID]; reason != "" {
			fmt.Fprintf(&b, "\t%s\n", reason)
		}
	}
	return b.String()
}
