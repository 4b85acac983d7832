package graphql

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"

	classifier "github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// TestMalformedRequestsRunNowhere shows that what the gate calls malformed is executed by no
// server. The gate answers such requests 400, so that the client need not send them again after the
// maintenance.
func TestMalformedRequestsRunNowhere(t *testing.T) {
	servers := rig.Servers(t)
	g := newGenerator(t)
	direct, gated := differential.NoGate(t, servers, readOnly()), differential.CoreGate(t, servers[:1], readOnly())[0]

	told := map[classifier.Rule]int{}
	for j := range max(*requests, len(g.seeds)) {
		r := g.Request(j)
		if len(r.After) > 0 || r.HTTP2 != nil || r.Version != "" || r.Framing == differential.Both || r.Framing == differential.Unfinished || r.Framing == differential.None {
			continue // the servers do not speak HTTP/2, and disagree on where the other requests end
		}

		res, err := differential.Send(gated, r)
		if err != nil {
			t.Fatal(err)
		}
		rule := classifier.Rule(res.RefusedBy())
		if res.Status != http.StatusBadRequest || rule == "" {
			continue
		}
		told[rule]++

		var ran sync.Map
		differential.Each(servers, func(i int, s *differential.Server) {
			res, err := differential.Send(direct[i], r)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
			} else if executed(res) {
				ran.Store(s.Name, string(res.Body))
			}
		})
		ran.Range(func(name, body any) bool {
			t.Errorf("%s executes what %s calls malformed: %s\n%s", name, rule, body, r)
			return true
		})
	}

	t.Logf("seed %d: %v", *seed, told)
	for _, rule := range classifier.Rules() {
		if rule.ClientError() == 400 && told[rule] == 0 {
			t.Errorf("no request was refused by %s", rule)
		}
	}
}

// executed reports whether a response has data: of a query, of a mutation, or of one request of a
// batch.
func executed(res differential.Response) bool {
	type result struct{ Data map[string]any }
	var one result
	var many []result
	body := bytes.TrimSpace(res.Body)

	switch {
	case json.Unmarshal(body, &one) == nil:
		return one.Data != nil
	case json.Unmarshal(body, &many) == nil:
		for _, r := range many {
			if r.Data != nil {
				return true
			}
		}
		return false
	}
	return strings.Contains(string(body), `"data":{`) // multipart and event streams
}
