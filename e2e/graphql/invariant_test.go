package graphql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// newGenerator is the generator that the tests use: the classifier's own table and what clients send join its corpus.
func newGenerator(t testing.TB) *Generator {
	t.Helper()
	b, err := os.ReadFile("../../filter/maintenance/graphql/testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Method, Path string
		Headers            [][2]string
		Body               string
		Base64             []byte `json:"body_base64"`
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	var extra []*Request
	for _, c := range cases {
		extra = append(extra, &Request{Method: c.Method, Target: c.Path, Headers: c.Headers, Body: append([]byte(c.Body), c.Base64...), Trail: []string{"case " + c.Name}})
	}
	for _, c := range clients(t) {
		extra = append(extra, c.request())
	}
	return NewGenerator(*seed, extra...)
}

// TestNoCounterRises is the invariant: behind a gate in read-only, whatever is sent, no counter rises.
func TestNoCounterRises(t *testing.T) {
	for _, gate := range []struct {
		name     string
		gate     Gate
		requests int
	}{
		{"core", CoreGate, *requests},
		{"envoy", EnvoyGate, *requests},
		{"envoy-plugin", EnvoyPluginGate, *requests / 5}, // the rules are the same, only the order of what goes upstream differs
	} {
		t.Run(gate.name, func(t *testing.T) {
			servers := running(t)
			g := newGenerator(t)
			// What a server has learnt before the maintenance it still knows: the hash of a mutation.
			known := post("hash with its mutation", "application/json", object(`"query"`, quote(m), `"extensions"`, `{"persistedQuery":{"version":1,"sha256Hash":"`+sha256Hex(m)+`"}}`))
			direct := NoGate(t, servers)
			each(servers, func(i int, _ *Server) { Send(direct[i], known) })

			targets := gate.gate(t, servers)
			shut(t, servers, targets)
			if t.Failed() {
				return
			}
			begin := time.Now()
			var refused, answered, unanswered atomic.Int64
			each(servers, func(i int, s *Server) {
				before := counter(t, s)
				const chunk = 100
				for from := 0; from < gate.requests; from += chunk {
					to := min(from+chunk, gate.requests)
					for j := from; j < to; j++ {
						res, err := Send(targets[i], g.Request(j))
						switch {
						case err != nil:
							t.Errorf("%s: %v", s.Name, err)
							return
						case res.Status == http.StatusServiceUnavailable:
							refused.Add(1)
						case res.Status == 0:
							unanswered.Add(1)
						case res.Status == http.StatusOK:
							answered.Add(1)
						}
					}
					if n := counter(t, s); n != before {
						report(t, s, targets[i], g, from, to)
						return
					}
				}
				time.Sleep(200 * time.Millisecond)
				if n := counter(t, s); n != before {
					t.Errorf("%s: the counter rose from %d to %d after the last request was answered", s.Name, before, n)
				}
			})
			shut(t, servers, targets)
			total := int64(len(servers) * gate.requests)
			t.Logf("seed %d: %d requests to each of %d servers: %.1f %% refused, %.1f %% answered by the server, %.1f %% without an answer, the rest failed in the proxy or the server; %v",
				*seed, gate.requests, len(servers), percent(refused.Load(), total), percent(answered.Load(), total), percent(unanswered.Load(), total), time.Since(begin).Round(time.Second))
		})
	}
}

func percent(n, of int64) float64 { return 100 * float64(n) / float64(of) }

// shut checks that a gate is one: it lets a query through to the right server and a mutation to none.
func shut(t *testing.T, servers []*Server, targets []Target) {
	t.Helper()
	ask := func(i int, doc string) Response {
		res, err := Send(targets[i], post("", "application/json", object(`"query"`, quote(doc))))
		if err != nil {
			t.Fatalf("%s: %v", servers[i].Name, err)
		}
		return res
	}
	for i, s := range servers {
		deadline := time.Now().Add(20 * time.Second)
		res := ask(i, m)
		for res.Status != http.StatusServiceUnavailable && time.Now().Before(deadline) { // until the gate has its state
			time.Sleep(50 * time.Millisecond)
			res = ask(i, m)
		}
		if res.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: the gate answers %d to a mutation: %s", s.Name, res.Status, res.Body)
		}
		want := fmt.Sprintf(`{"counter":%d}`, counter(t, s))
		if res := ask(i, "{counter}"); res.Status != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(res.Body), " ", ""), want) {
			t.Errorf("%s: the gate answers %d to a query: %s, want data %s", s.Name, res.Status, res.Body, want)
		}
	}
}

// report finds the request in [from, to) that raises a counter and says as little of it as still does.
func report(t *testing.T, s *Server, to Target, g *Generator, from, until int) {
	t.Helper()
	before := counter(t, s)
	bad := func(r *Request) bool {
		_, by := rises(t, s, to, r, before)
		before += by
		return by > 0
	}
	found := 0
	for j := from; j < until && found < 3; j++ {
		if r := g.Request(j); bad(r) {
			found++
			t.Errorf("%s: the counter rose, seed %d, request %d\n%s\nand the least that still does it\n%s", s.Name, *seed, j, r, minimize(r, bad))
		}
	}
	if found == 0 {
		t.Errorf("%s: the counter rose within requests %d to %d of seed %d, and did not when they were sent again one by one", s.Name, from, until, *seed)
	}
}

// minimize drops what it can from a request that is still bad without it.
func minimize(r *Request, bad func(*Request) bool) *Request {
	r = r.clone()
	attempt := func(change func(*Request)) bool {
		c := r.clone()
		change(c)
		if bytes.Equal(c.Bytes(), r.Bytes()) || !bad(c) {
			return false
		}
		r = c
		return true
	}
	attempt(func(c *Request) { c.After = nil })
	attempt(func(c *Request) { c.Framing = Length })
	attempt(func(c *Request) { c.Version = "" })
	for i := len(r.Headers) - 1; i >= 0; i-- {
		attempt(func(c *Request) { c.Headers = slices.Delete(c.Headers, i, i+1) })
	}
	for size := len(r.Body) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(r.Body); {
			if !attempt(func(c *Request) { c.Body = slices.Concat(c.Body[:at], c.Body[at+size:]) }) {
				at += size
			}
		}
	}
	for size := len(r.Target) / 2; size > 0; size /= 2 {
		for at := 1; at+size <= len(r.Target); {
			if !attempt(func(c *Request) { c.Target = c.Target[:at] + c.Target[at+size:] }) {
				at += size
			}
		}
	}
	return r
}
