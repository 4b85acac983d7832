package graphql

import (
	"bytes"
	"encoding/json"
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

// client is a request as a GraphQL client sent it; clients/capture.sh records them.
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

// browser is what a page's script cannot help sending beside what the client sets.
var browser = [][2]string{
	{"Origin", "https://app.example.com"}, {"Referer", "https://app.example.com/orders?mutation=1"}, {"Cookie", "session=mutation; theme=dark"},
	{"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Dest", "empty"}, {"Cache-Control", "no-cache"}, {"X-Request-Id", "1"}, {"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
}

// TestClientsPass is the other way round: of what clients send to query nothing is refused, by the core or by Envoy. A
// hash without its document is refused, so that the client sends the document.
func TestClientsPass(t *testing.T) {
	all := clients(t)

	t.Run("core", func(t *testing.T) {
		state, err := maintenance.Compile(readOnly())
		if err != nil {
			t.Fatal(err)
		}
		asked, passed, hashes := 0, 0, 0
		for _, c := range all {
			for _, more := range [][][2]string{nil, browser} {
				r := c.request(more...)
				m := &maintenance.Request{Method: r.Method, Authority: differential.AnyHost, Path: r.Target, Body: r.Body, BodyRead: true, EndStream: len(r.Body) == 0, Attributes: adversary.Stranger{}}
				for _, h := range r.Headers {
					m.Headers = append(m.Headers, [2]string{strings.ToLower(h[0]), h[1]})
				}
				d := state.Decide(m, time.Now())
				switch {
				case c.Expect == "refuse":
					hashes++
					if d.Verdict != maintenance.Refuse {
						t.Errorf("%s, %s, a hash alone: %v by %s, want it refused", c.Client, c.Document, d.Verdict, d.Rule)
					}
				case d.Verdict != maintenance.Pass:
					asked++
					t.Errorf("%s, %s: %v by %s", c.Client, c.Document, d.Verdict, d.Rule)
				default:
					asked++
					passed++
				}
			}
		}
		t.Logf("%d of %d requests of clients passed (%.2f %% refused); %d hashes without a document were refused", passed, asked, differential.Percent(int64(asked-passed), int64(asked)), hashes)
	})

	// Through Envoy every server gets them, and answers a part of them again without it: the answers are the same.
	t.Run("envoy", func(t *testing.T) {
		servers := rig.Servers(t)
		gated := differential.EnvoyGate(t, servers, readOnly())
		checkGate(t, servers, gated)
		var asked, passed, hashes, compared atomic.Int64
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
					hashes.Add(1)
					if !refused || !strings.Contains(string(got.Body), "MAINTENANCE_READ_ONLY") {
						t.Errorf("%s: %s, %s, a hash alone: got %d %s, want it refused in GraphQL's form", s.Name, c.Client, c.Document, got.Status, got.Body)
					}
					continue
				}
				asked.Add(1)
				if refused || got.Status == 0 {
					t.Errorf("%s: %s, %s: got %d %.300s", s.Name, c.Client, c.Document, got.Status, got.Body)
					continue
				}
				passed.Add(1)
				if (i+j)%4 != 0 {
					continue
				}
				compared.Add(1)
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
		t.Logf("%d of %d requests of clients passed (%.2f %% refused), of %d the answer was compared; %d hashes without a document were refused",
			passed.Load(), asked.Load(), differential.Percent(asked.Load()-passed.Load(), asked.Load()), compared.Load(), hashes.Load())
	})
}

// same compares two answers but for order: graphql-go introspects in the order of a Go map.
func same(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return bytes.Equal(a, b)
}
