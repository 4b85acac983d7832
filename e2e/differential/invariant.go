package differential

import (
	"bytes"
	"net/http"
	"slices"
	"sync"
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
	// Spread sends a request to one server, by turns, and to the others only when the gate has not refused it. Request
	// must return the same for every server. It is for gates that decide alike for all servers and hold a request
	// until they have decided.
	Spread bool
}

const (
	// inFlight is how many requests are underway at once. Most of the time that a request takes is waiting: for
	// bodies that never end, for streams, for servers.
	inFlight = 64
	// chunk is how many requests are sent between two readings of the counters.
	chunk = 4000
	// enough is how many of the requests that raise a server's counter are printed. Nothing more is sent to it then.
	enough = 3
)

// Outcome counts what came of a run's requests. What is in none of Refused, Answered, Malformed and Unanswered
// failed in the proxy or the server.
type Outcome struct {
	Sent       int64 // one for each server that a request was sent to
	Refused    int64 // by the gate
	Answered   int64 // 200
	Malformed  int64 // the gate closed an HTTP/2 connection without an answer
	Unanswered int64
	Slow       int64 // took more than two seconds
	Risen      []string
	Took       time.Duration
}

// NoCounterRises sends the requests, to all servers at once, and fails the test for each server whose counter rises.
// Such a request is printed as it is, and with everything left out that it does not need.
func (run *Run) NoCounterRises(t testing.TB) Outcome {
	t.Helper()
	begin := time.Now()
	p := &progress{Run: run, t: t, before: make([]int, len(run.Servers)), found: make([]int, len(run.Servers))}
	Each(run.Servers, func(i int, s *Server) { p.before[i] = Counter(t, s) })
	for from := 0; from < run.Requests; from += chunk {
		p.send(from, min(from+chunk, run.Requests))
		if t.Failed() && len(p.Risen) == 0 {
			break // a gate or a server is gone
		}
		p.check(from, min(from+chunk, run.Requests))
	}
	p.Took = time.Since(begin)

	time.Sleep(200 * time.Millisecond)
	for i, s := range run.Servers {
		if n := Counter(t, s); p.found[i] < enough && n != p.before[i] {
			t.Errorf("%s: the counter rose from %d to %d after the last request was answered", s.Name, p.before[i], n)
		}
	}
	return p.Outcome
}

// progress is a run underway.
type progress struct {
	*Run
	t      testing.TB
	before []int // the servers' counters
	found  []int // how many requests that raise the counter were found for each server

	sync.Mutex // of what follows
	Outcome
	passed [][]int // of each server, those of this chunk's requests that the gate may have let through
}

// send sends the requests [from, to) and returns when all are answered.
func (p *progress) send(from, to int) {
	p.passed = make([][]int, len(p.Servers))
	free := make(chan struct{}, inFlight)
	var wg sync.WaitGroup
	each := func(servers []int, i int) {
		for _, s := range servers {
			if p.found[s] < enough {
				free <- struct{}{}
				wg.Go(func() {
					p.one(s, i)
					<-free
				})
			}
		}
	}
	all := make([]int, len(p.Servers))
	for s := range all {
		all[s] = s
	}
	turns := all
	for i := from; i < to; i++ {
		if p.Spread {
			turns = all[i%len(all):][:1]
		}
		each(turns, i)
	}
	wg.Wait()
	if !p.Spread {
		return
	}
	// A request has been sent to one server so far. The others get it when that one may have.
	for s, passed := range slices.Clone(p.passed) {
		for _, i := range passed {
			each(slices.DeleteFunc(slices.Clone(all), func(other int) bool { return other == s }), i)
		}
	}
	wg.Wait()
}

// one sends one request to one server.
func (p *progress) one(server, i int) {
	r := p.Request(server, i)
	begin := time.Now()
	res, err := Send(p.Addrs[server], r)
	took := time.Since(begin)

	p.Lock()
	defer p.Unlock()
	if err != nil {
		p.t.Errorf("%s: %v", p.Servers[server].Name, err)
		return
	}
	p.Sent++
	switch {
	case res.Malformed:
		p.Malformed++
	case res.ofTheGate():
		p.Refused++
	case res.Status == 0:
		p.Unanswered++
	case res.Status == http.StatusOK:
		p.Answered++
	}
	if took > 2*time.Second {
		p.Slow++
	}
	if !r.alone() || !res.ofTheGate() {
		p.passed[server] = append(p.passed[server], i)
	}
}

// alone reports whether the answer says what became of all that was sent. Frames after an upgrade that is refused are
// nothing to anybody.
func (r *Request) alone() bool {
	return r.Framing != Unfinished && r.Framing != Both && r.Framing != None && !r.pipelined() && len(r.http2().Beside) == 0
}

// ofTheGate reports whether an answer is known to come from the gate and not from the server behind it: CoreGate says
// so, Envoy adds the time that a server took to all that comes from one but upgrades, and over HTTP/2 it closes the
// connection without an answer for what is malformed.
func (res *Response) ofTheGate() bool {
	if res.Malformed {
		return true
	}
	return res.Header.Get(refusedBy) != "" || res.Status >= 300 && res.Header.Get("Server") == "envoy" &&
		res.Header.Get("X-Envoy-Upstream-Service-Time") == "" && !bytes.HasPrefix(res.Body, []byte("upstream connect error"))
}

// check reads the counters after the requests [from, to) and looks for what raised them.
func (p *progress) check(from, to int) {
	p.t.Helper()
	for i, s := range p.Servers {
		if p.found[i] >= enough {
			continue
		}
		if n := Counter(p.t, s); n != p.before[i] {
			if !slices.Contains(p.Risen, s.Name) {
				p.Risen = append(p.Risen, s.Name)
			}
			p.report(i, from, to)
			p.before[i] = Counter(p.t, s)
		}
	}
}

// report prints requests of [from, until) that raise a server's counter, up to the number that is enough.
func (p *progress) report(server, from, until int) {
	p.t.Helper()
	s, addr := p.Servers[server], p.Addrs[server]
	before := Counter(p.t, s)
	bad := func(r *Request) bool {
		_, by := Rises(p.t, s, addr, r, before)
		before += by
		return by > 0
	}
	// What passed is looked at first: it is little.
	order := slices.Sorted(slices.Values(p.passed[server]))
	for i := from; i < until; i++ {
		if _, passed := slices.BinarySearch(p.passed[server], i); !passed && !p.Spread {
			order = append(order, i)
		}
	}
	at := p.found[server]
	for _, i := range order {
		if r := p.Request(server, i); bad(r) {
			p.found[server]++
			p.t.Errorf("%s: the counter rose, request %d\n%s\nand the least that still does it\n%s", s.Name, i, r, minimize(r, bad))
			if p.found[server] >= enough {
				return
			}
		}
	}
	if p.found[server] == at {
		p.found[server] = enough
		p.t.Errorf("%s: the counter rose within requests %d to %d, and did not when they were sent again one by one", s.Name, from, until)
	}
}

// minimize drops what it can from a request that is still bad without it.
func minimize(r *Request, bad func(*Request) bool) *Request {
	r = r.Clone()
	attempt := func(change func(*Request)) bool {
		c := r.Clone()
		change(c)
		if c.HTTP2 != nil && bytes.Equal(c.Connection(), r.Connection()) || c.HTTP2 == nil && r.HTTP2 == nil && bytes.Equal(c.Bytes(), r.Bytes()) || !bad(c) {
			return false
		}
		r = c
		return true
	}
	if r.HTTP2 != nil {
		attempt(func(c *Request) { c.HTTP2 = nil })
	}
	if r.HTTP2 != nil {
		minimizeHTTP2(attempt)
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

// minimizeHTTP2 drops what is odd about how a request is sent over HTTP/2.
func minimizeHTTP2(attempt func(change func(*Request)) bool) {
	for _, change := range []func(*HTTP2){
		func(h *HTTP2) { h.Beside = nil },
		func(h *HTTP2) { h.PseudoLast = false },
		func(h *HTTP2) { h.RawNames = false },
		func(h *HTTP2) { h.DataSize = 0 },
		func(h *HTTP2) { h.FieldSize = 0 },
		func(h *HTTP2) { h.Padding = 0 },
		func(h *HTTP2) { h.EndApart = false },
		func(h *HTTP2) { h.Priority = false },
	} {
		attempt(func(c *Request) { change(c.HTTP2) })
	}
	attempt(func(c *Request) { c.Trailers = nil })
	// One at a time, from the last: an index past the end leaves the request as it is.
	for i := 4; i >= 0; i-- {
		attempt(func(c *Request) {
			if i < len(c.HTTP2.Pseudo) {
				c.HTTP2.Pseudo = slices.Delete(c.HTTP2.Pseudo, i, i+1)
			}
		})
		attempt(func(c *Request) {
			if i < len(c.HTTP2.Beside) {
				c.HTTP2.Beside = slices.Delete(c.HTTP2.Beside, i, i+1)
			}
		})
	}
}
