package graphql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
	"github.com/drydock-proxy/drydock/filter/maintenance/adversary"

	"github.com/drydock-proxy/drydock/e2e/differential"
)

// This file shows that read-only does not turn GraphQL clients away. rig (servers.go) has the real
// servers. A gate is what refuses writes in front of them: the rules alone, called the core
// (package maintenance), or Envoy with Drydock's filter.

// recorded is a request that a GraphQL client sent. clients/capture.sh records them into
// testdata/clients.json. None of them asks for a mutation.
type recorded struct {
	Client   string // the program that sent the request
	Document string // the name of the GraphQL document that the program was told to run

	Method, Target string
	Headers        [][2]string
	Body           string

	// Expect is "pass", or "refuse" for a hash without its document. By automatic persisted
	// queries, a client sends only the hash of a document. A server that does not know the hash
	// answers with an error, and the client sends both. A gate cannot know which document a hash
	// stands for, so it refuses the hash.
	Expect string
}

// String names the request in messages.
func (rec *recorded) String() string { return rec.Client + ", " + rec.Document }

// request returns the request, with extra headers after its own.
func (rec *recorded) request(extra ...[2]string) *differential.Request {
	return &differential.Request{
		Method: rec.Method, Target: rec.Target, Headers: slices.Concat(rec.Headers, extra),
		Body: []byte(rec.Body), Trail: []string{rec.Client, rec.Document},
	}
}

// decoded returns the request, with extra headers, as the filter hands it to the core.
func (rec *recorded) decoded(extra [][2]string) *maintenance.Request {
	r := rec.request(extra...)
	m := &maintenance.Request{
		Method: r.Method, Authority: differential.AnyHost, Path: r.Target, Body: r.Body, BodyRead: true,
		EndStream: len(r.Body) == 0, Attributes: adversary.Stranger{}, // no exception is made for a stranger
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, [2]string{strings.ToLower(h[0]), h[1]})
	}
	return m
}

// recordedRequests returns all requests of testdata/clients.json.
func recordedRequests(t testing.TB) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile("testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// browserHeaders are headers that a browser adds to those of the client. Some contain the word
// "mutation", which in a header must not make the gate refuse a query.
var browserHeaders = [][2]string{
	{"Origin", "https://app.example.com"}, {"Referer", "https://app.example.com/orders?mutation=1"}, {"Cookie", "session=mutation; theme=dark"},
	{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Dest", "empty"}, {"Cache-Control", "no-cache"}, {"X-Request-Id", "1"}, {"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
}

// TestClientsPass shows that neither the core nor Envoy refuses a query of a client, with or
// without the headers of a browser. A hash without its document is refused.
func TestClientsPass(t *testing.T) {
	all := recordedRequests(t)
	t.Run("core", func(t *testing.T) { clientsPassCore(t, all) })
	t.Run("envoy", func(t *testing.T) { clientsPassEnvoy(t, all) })
}

// tally counts what became of the requests of clients, for the log.
type tally struct {
	sent, passed, compared atomic.Int64 // queries
	hashesRefused          atomic.Int64 // hashes without a document, which sent does not count
}

func (n *tally) String() string {
	sent, passed := n.sent.Load(), n.passed.Load()
	return fmt.Sprintf("%d of %d requests of clients passed (%.2f %% refused), the answers of %d were compared; %d hashes without a document were refused",
		passed, sent, differential.Percent(sent-passed, sent), n.compared.Load(), n.hashesRefused.Load())
}

func clientsPassCore(t *testing.T, all []recorded) {
	state, err := maintenance.Compile(readOnly())
	if err != nil {
		t.Fatal(err)
	}

	var n tally
	for _, rec := range all {
		for _, extra := range [][][2]string{nil, browserHeaders} {
			d := state.Decide(rec.decoded(extra), time.Now())

			if rec.Expect == "refuse" {
				if d.Verdict != maintenance.Refuse {
					t.Errorf("%s, a hash alone: %v by %s, want it refused", &rec, d.Verdict, d.Rule)
					continue
				}
				n.hashesRefused.Add(1)
				continue
			}

			n.sent.Add(1)
			if d.Verdict != maintenance.Pass {
				t.Errorf("%s: %v by %s", &rec, d.Verdict, d.Rule)
				continue
			}
			n.passed.Add(1)
		}
	}
	t.Log(&n)
}

// clientsPassEnvoy sends all requests to every server through Envoy. Every other request gets the
// headers of a browser. Every third is sent again, without Envoy, and the answers must be the same.
func clientsPassEnvoy(t *testing.T, all []recorded) {
	servers := rig.Servers(t)
	addrs := differential.EnvoyGate(t, servers, readOnly())
	checkGate(t, servers, addrs)

	var n tally
	differential.Each(servers, func(i int, s *differential.Server) {
		for j, rec := range all {
			var extra [][2]string
			turn := i + j // another one for each server, so that a request is tried in every way
			if turn%2 == 1 {
				extra = browserHeaders
			}
			r := rec.request(extra...)
			got, err := differential.Send(addrs[i], r)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				return
			}

			refused := got.RefusedBy() != ""
			if rec.Expect == "refuse" {
				if !refused || !strings.Contains(string(got.Body), "MAINTENANCE_READ_ONLY") {
					t.Errorf("%s: %s, a hash alone: got %d %s, want it refused in GraphQL's form", s.Name, &rec, got.Status, got.Body)
					continue
				}
				n.hashesRefused.Add(1)
				continue
			}

			n.sent.Add(1)
			if refused || got.Status == 0 {
				t.Errorf("%s: %s: got %d %.300s", s.Name, &rec, got.Status, got.Body)
				continue
			}
			n.passed.Add(1)
			if turn%3 == 0 {
				n.compared.Add(1)
				compareWithDirect(t, s, &rec, r, got)
			}
		}
	})
	t.Log(&n)
}

// compareWithDirect sends a request to a server without Envoy, and fails the test if the answer
// differs from the one through Envoy.
func compareWithDirect(t *testing.T, s *differential.Server, rec *recorded, r *differential.Request, throughEnvoy differential.Response) {
	t.Helper()
	want, err := differential.Send(s.Addr, r)
	if err != nil {
		t.Errorf("%s: %v", s.Name, err)
		return
	}

	if throughEnvoy.Status != want.Status || !sameBytesInAnyOrder(throughEnvoy.Body, want.Body) {
		t.Errorf("%s: %s: got %d %.300s\nwithout a gate %d %.300s", s.Name, rec, throughEnvoy.Status, throughEnvoy.Body, want.Status, want.Body)
	}
}

// sameBytesInAnyOrder reports whether two texts have the same bytes, each as often, in any order.
// To an introspection, graphql-go answers in the order of a Go map, which is another one each time.
func sameBytesInAnyOrder(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return bytes.Equal(a, b)
}
