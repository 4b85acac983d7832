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

// client is a request that a GraphQL client sent. clients/capture.sh records them.
type client struct {
	Client, Document string
	Method, Target   string
	Headers          [][2]string
	Body             string
	Expect           string // pass, or refuse for a hash without its document
}

func (c *client) request(more ...[2]string) *differential.Request {
	return &differential.Request{Method: c.Method, Target: c.Target, Headers: append(c.Headers[:len(c.Headers):len(c.Headers)], more...), Body: []byte(c.Body), Trail: []string{c.Client, c.Document}}
}

func clients(t testing.TB) (all []client) {
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

// browser are headers that a browser adds to those of the client.
var browser = [][2]string{
	{"Origin", "https://app.example.com"}, {"Referer", "https://app.example.com/orders?mutation=1"}, {"Cookie", "session=mutation; theme=dark"},
	{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Dest", "empty"}, {"Cache-Control", "no-cache"}, {"X-Request-Id", "1"}, {"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
}

// TestClientsPass shows that neither the core nor Envoy refuses a query of a client. A hash without
// its document is refused, so that the client sends the document.
func TestClientsPass(t *testing.T) {
	all := clients(t)
	t.Run("core", func(t *testing.T) { clientsPassCore(t, all) })
	t.Run("envoy", func(t *testing.T) { clientsPassEnvoy(t, all) })
}

// tally counts what became of the requests of clients.
type tally struct{ sent, passed, hashes, compared atomic.Int64 }

func (n *tally) String() string {
	sent, passed := n.sent.Load(), n.passed.Load()
	return fmt.Sprintf("%d of %d requests of clients passed (%.2f %% refused), the answers of %d were compared; %d hashes without a document were refused",
		passed, sent, differential.Percent(sent-passed, sent), n.compared.Load(), n.hashes.Load())
}

func clientsPassCore(t *testing.T, all []client) {
	state, err := maintenance.Compile(readOnly())
	if err != nil {
		t.Fatal(err)
	}

	var n tally
	for _, c := range all {
		for _, more := range [][][2]string{nil, browser} {
			d := state.Decide(c.decoded(more), time.Now())
			switch {
			case c.Expect == "refuse":
				n.hashes.Add(1)
				if d.Verdict != maintenance.Refuse {
					t.Errorf("%s, %s, a hash alone: %v by %s, want it refused", c.Client, c.Document, d.Verdict, d.Rule)
				}
			case d.Verdict != maintenance.Pass:
				n.sent.Add(1)
				t.Errorf("%s, %s: %v by %s", c.Client, c.Document, d.Verdict, d.Rule)
			default:
				n.sent.Add(1)
				n.passed.Add(1)
			}
		}
	}
	t.Log(&n)
}

// decoded returns the request as the filter hands it to the core.
func (c *client) decoded(more [][2]string) *maintenance.Request {
	r := c.request(more...)
	m := &maintenance.Request{
		Method: r.Method, Authority: differential.AnyHost, Path: r.Target, Body: r.Body, BodyRead: true,
		EndStream: len(r.Body) == 0, Attributes: adversary.Stranger{},
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, [2]string{strings.ToLower(h[0]), h[1]})
	}
	return m
}

// clientsPassEnvoy sends all requests to every server through Envoy, and a quarter of them again
// without it: the answers must be the same.
func clientsPassEnvoy(t *testing.T, all []client) {
	servers := rig.Servers(t)
	gated := differential.EnvoyGate(t, servers, readOnly())
	checkGate(t, servers, gated)

	var n tally
	differential.Each(servers, func(i int, s *differential.Server) {
		for j, c := range all {
			r := c.request(browser[:(i+j)%2*len(browser)]...)
			got, err := differential.Send(gated[i], r)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				return
			}

			refused := got.RefusedBy() != ""
			if c.Expect == "refuse" {
				n.hashes.Add(1)
				if !refused || !strings.Contains(string(got.Body), "MAINTENANCE_READ_ONLY") {
					t.Errorf("%s: %s, %s, a hash alone: got %d %s, want it refused in GraphQL's form", s.Name, c.Client, c.Document, got.Status, got.Body)
				}
				continue
			}
			n.sent.Add(1)
			if refused || got.Status == 0 {
				t.Errorf("%s: %s, %s: got %d %.300s", s.Name, c.Client, c.Document, got.Status, got.Body)
				continue
			}
			n.passed.Add(1)

			if (i+j)%4 != 0 {
				continue
			}
			n.compared.Add(1)
			want, err := differential.Send(s.Addr, r)
			if err != nil {
				t.Errorf("%s: %v", s.Name, err)
				return
			}
			if got.Status != want.Status || !same(got.Body, want.Body) {
				t.Errorf("%s: %s, %s: got %d %.300s\nwithout a gate %d %.300s", s.Name, c.Client, c.Document, got.Status, got.Body, want.Status, want.Body)
			}
		}
	})
	t.Log(&n)
}

// same reports whether two answers are the same except for the order: graphql-go introspects in the
// order of a Go map.
func same(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return bytes.Equal(a, b)
}
