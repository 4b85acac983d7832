package differential

import (
	"bytes"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Each runs f for every server at once. A t.Fatal in f ends the run of that server only.
func Each(servers []*Server, f func(i int, s *Server)) {
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { f(i, s) })
	}
	wg.Wait()
}

// Counter returns the server's counter, and ends the test where it cannot be read.
func Counter(t testing.TB, s *Server) int {
	t.Helper()
	n, err := s.Counter()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Rises sends one request and returns by how much the server's counter rose from before.
func Rises(t testing.TB, s *Server, addr string, r *Request, before int) (res Response, by int) {
	t.Helper()
	res, err := Send(addr, r)
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	return res, Counter(t, s) - before
}

// Run is a sequence of requests for each of some servers.
type Run struct {
	Servers []*Server
	Addrs   []string // where each is reached through the gate
	// Request returns the i-th request to a server by its index. The same arguments must give the same request.
	Request  func(server, i int) *Request
	Requests int // to each server
}

// Outcome counts what came of a run's requests; the rest of them failed in the proxy or the server.
type Outcome struct {
	Refused    int64 // 503
	Answered   int64 // 200
	Unanswered int64
	Took       time.Duration
}

// NoCounterRises sends the requests, to all servers at once, and fails the test for each server whose counter rises.
// Such a request is printed as it is, and with everything left out that it does not need.
func (run *Run) NoCounterRises(t testing.TB) Outcome {
	t.Helper()
	begin := time.Now()
	var refused, answered, unanswered atomic.Int64
	Each(run.Servers, func(i int, s *Server) {
		before := Counter(t, s)
		const chunk = 100
		for from := 0; from < run.Requests; from += chunk {
			to := min(from+chunk, run.Requests)
			for j := from; j < to; j++ {
				res, err := Send(run.Addrs[i], run.Request(i, j))
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
			if n := Counter(t, s); n != before {
				run.report(t, i, from, to)
				return
			}
		}
		time.Sleep(200 * time.Millisecond)
		if n := Counter(t, s); n != before {
			t.Errorf("%s: the counter rose from %d to %d after the last request was answered", s.Name, before, n)
		}
	})
	return Outcome{Refused: refused.Load(), Answered: answered.Load(), Unanswered: unanswered.Load(), Took: time.Since(begin)}
}

// report finds up to three of the requests [from, until) that raise a server's counter.
func (run *Run) report(t testing.TB, server, from, until int) {
	t.Helper()
	s, addr := run.Servers[server], run.Addrs[server]
	before := Counter(t, s)
	bad := func(r *Request) bool {
		_, by := Rises(t, s, addr, r, before)
		before += by
		return by > 0
	}
	found := 0
	for j := from; j < until && found < 3; j++ {
		if r := run.Request(server, j); bad(r) {
			found++
			t.Errorf("%s: the counter rose, request %d\n%s\nand the least that still does it\n%s", s.Name, j, r, minimize(r, bad))
		}
	}
	if found == 0 {
		t.Errorf("%s: the counter rose within requests %d to %d, and did not when they were sent again one by one", s.Name, from, until)
	}
}

// minimize drops what it can from a request that is still bad without it.
func minimize(r *Request, bad func(*Request) bool) *Request {
	r = r.Clone()
	attempt := func(change func(*Request)) bool {
		c := r.Clone()
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
	attempt(func(c *Request) { c.Host = "" })
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
