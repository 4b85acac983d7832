package graphql

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/drydock-proxy/drydock/e2e/differential"
	classifier "github.com/drydock-proxy/drydock/filter/maintenance/graphql"
)

// TestMalformedRequestsRunNowhere shows that no server executes what the gate calls malformed. The
// gate answers such a request with 400 and not with 503, so that the client does not send it again
// after the maintenance. That would be wrong if some server could execute the request.
func TestMalformedRequestsRunNowhere(t *testing.T) {
	servers := rig.Servers(t)
	g := newGenerator(t)
	gate := differential.CoreGate(t, servers[:1], readOnly())[0] // it decides alike for all servers

	malformed := map[classifier.Rule]int{} // how many requests were answered 400, by rule
	for j := range max(*requests, len(g.seeds)) {
		r := g.Request(j)
		unclearEnd := len(r.After) > 0 || r.Version != "" || r.Framing == differential.Both || r.Framing == differential.Unfinished || r.Framing == differential.None
		if r.HTTP2 != nil || unclearEnd {
			continue // the servers do not speak HTTP/2, and disagree on where the other requests end
		}

		res, err := differential.Send(gate, r)
		if err != nil {
			t.Fatal(err)
		}
		rule := classifier.Rule(res.RefusedBy())
		if res.Status != http.StatusBadRequest || rule == "" {
			continue
		}
		malformed[rule]++

		differential.Each(servers, func(_ int, s *differential.Server) {
			res, err := differential.Send(s.Addr, r)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
			} else if executed(res) {
				t.Errorf("%s executes what %s calls malformed: %s\n%s", s.Name, rule, res.Body, r)
			}
		})
	}

	t.Logf("seed %d: %v", *seed, malformed)
	for _, rule := range classifier.Rules() {
		if rule.ClientError() == http.StatusBadRequest && malformed[rule] == 0 {
			t.Errorf("no request was refused by %s", rule)
		}
	}
}

// executed reports whether a response has the data of an operation, or of at least one operation of
// a batch. A server that refuses a request answers with errors and without data.
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
	return strings.Contains(string(body), `"data":{`) // in a multipart answer or an event stream
}
