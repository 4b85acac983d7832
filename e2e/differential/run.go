package differential

import (
	"bytes"
	"fmt"
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

// Counter returns the counter of a server, and ends the test if the counter cannot be read.
func Counter(t testing.TB, s *Server) int {
	t.Helper()
	n, err := s.Counter()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// SendAndCount sends one request and returns by how much the counter of a server rose from before.
func SendAndCount(t testing.TB, s *Server, addr string, r *Request, before int) (res Response, by int) {
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
	// Request returns the i-th request to a server, which is given by its index. The same arguments
	// must always give the same request.
	Request  func(server, i int) *Request
	Requests int // to each server
	// Spread sends a request to one server, each in turn, and to the others only if the gate did
	// not refuse it. Request must return the same for every server. It is for gates that decide
	// alike for all servers and hold a request until they have decided.
	Spread bool
}

const (
	// inFlight is how many requests are underway at once. A request spends most of its time
	// waiting: for bodies that never end, for streams, and for servers.
	inFlight = 64
	// chunk is how many requests are sent between two readings of the counters.
	chunk = 4000
	// enough is how many of the requests that raise the counter of a server are printed. After
	// that, nothing more is sent to the server.
	enough = 3
)

// Outcome counts what became of the requests of a run. Requests that are not in Refused, Answered,
// Malformed or Unanswered failed in the proxy or the server.
type Outcome struct {
	Sent       int64 // a request counts once for each server that it was sent to
	Refused    int64 // by the gate
	Answered   int64 // with 200
	Malformed  int64 // the gate closed an HTTP/2 connection without an answer
	Unanswered int64
	Slow       int64    // took more than two seconds
	Risen      []string // the servers whose counters rose
	Took       time.Duration
}

// String returns the figures of a run as docs/reliability.md lists them.
func (o Outcome) String() string {
	return fmt.Sprintf("sent %d times: %.1f %% refused, %.1f %% answered by the server, %.1f %% malformed to the gate, %.1f %% without an answer, the rest failed in the proxy or the server; %d took more than 2 s; %v, %.0f/s; counters risen: %v",
		o.Sent, Percent(o.Refused, o.Sent), Percent(o.Answered, o.Sent), Percent(o.Malformed, o.Sent), Percent(o.Unanswered, o.Sent),
		o.Slow, o.Took.Round(time.Second), float64(o.Sent)/o.Took.Seconds(), o.Risen)
}

// ExpectNoWrites sends the requests, to all servers at once, and fails the test for each server
// whose counter rises. It prints requests that raise a counter, each as it is and again without all
// that it does not need.
func (run *Run) ExpectNoWrites(t testing.TB) Outcome {
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

// progress is the state of a run.
type progress struct {
	*Run
	t      testing.TB
	before []int // the counters of the servers
	found  []int // for each server, how many requests were found that raise its counter

	sync.Mutex // guards what follows
	Outcome
	passed [][]int // for each server, the requests of this chunk that the gate may have let through
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
					p.sendOne(s, i)
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
	// So far a request has been sent to one server. The others get it if the gate may have let it
	// through.
	for s, passed := range slices.Clone(p.passed) {
		for _, i := range passed {
			each(slices.DeleteFunc(slices.Clone(all), func(other int) bool { return other == s }), i)
		}
	}
	wg.Wait()
}

// sendOne sends one request to one server and counts what became of it.
func (p *progress) sendOne(server, i int) {
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
	case res.fromGate():
		p.Refused++
	case res.Status == 0:
		p.Unanswered++
	case res.Status == http.StatusOK:
		p.Answered++
	}

	if took > 2*time.Second {
		p.Slow++
	}
	if !r.answersForAll() || !res.fromGate() {
		p.passed[server] = append(p.passed[server], i)
	}
}

// answersForAll reports whether the answer to a request says what became of all that was sent with
// it. Frames after an upgrade that is refused do not matter, because nobody reads them.
func (r *Request) answersForAll() bool {
	return r.Framing != Unfinished && r.Framing != Both && r.Framing != None && !r.pipelined() && len(r.http2Options().Beside) == 0
}

// fromGate reports whether an answer is known to come from the gate and not from the server behind
// it. CoreGate says so. Envoy adds the time that a server took to every answer of a server, except
// for upgrades. Over HTTP/2 it closes the connection without an answer if the request is malformed.
func (res *Response) fromGate() bool {
	if res.Malformed {
		return true
	}
	return res.Header.Get(refusedBy) != "" || res.Status >= 300 && res.Header.Get("Server") == "envoy" &&
		res.Header.Get("X-Envoy-Upstream-Service-Time") == "" && !bytes.HasPrefix(res.Body, []byte("upstream connect error"))
}

// check reads the counters after the requests [from, to) and looks for the requests that raised
// them.
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

// report prints requests of [from, until) that raise the counter of a server, until enough are
// found.
func (p *progress) report(server, from, until int) {
	p.t.Helper()
	s, addr := p.Servers[server], p.Addrs[server]
	before := Counter(p.t, s)
	bad := func(r *Request) bool {
		_, by := SendAndCount(p.t, s, addr, r, before)
		before += by
		return by > 0
	}

	// The requests that passed come first: they are few.
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
			p.t.Errorf("%s: the counter rose, request %d\n%s\nand reduced to what it needs\n%s", s.Name, i, r, minimize(r, bad))
			if p.found[server] >= enough {
				return
			}
		}
	}

	if p.found[server] == at {
		p.found[server] = enough
		p.t.Errorf("%s: the counter rose within requests %d to %d, but not when they were sent again one by one", s.Name, from, until)
	}
}
