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

// This file sends many generated requests through a gate and watches the counters of the servers
// behind it. A gate refuses writes (gate.go), and the counter of a server rises with every write
// that the server executes (server.go). So if a counter rises, a request has got past the gate.

// Each calls f for all servers at once, with the index of each, and returns when all calls have
// returned. A t.Fatal in f ends only that call, and marks the test as failed.
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

// SendAndCount sends one request to an address at which a server is reached, and returns the answer
// and by how much the counter of the server then exceeds its value before.
func SendAndCount(t testing.TB, s *Server, addr string, r *Request, before int) (res Response, rise int) {
	t.Helper()
	res, err := Send(addr, r)
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	return res, Counter(t, s) - before
}

// Run is a sequence of requests that is sent to each of some servers through a gate.
type Run struct {
	Servers []*Server
	Addrs   []string // where each of the servers is reached through the gate
	// Request returns the i-th request to a server, which is given by its index. The same arguments
	// must always give the same request.
	Request  func(server, i int) *Request
	Requests int // how many of them
	// Spread saves time: request i goes to one server, each in turn, and to the others only if the
	// gate did not refuse it. The gate must decide alike for all servers, and nothing of a refused
	// request may reach a server. Request must not depend on the server.
	Spread bool
}

const (
	// inFlight is how many requests are underway at once. A request spends most of its time
	// waiting: for bodies that never end, for streams, and for servers.
	inFlight = 64
	// chunkSize is how many requests are sent between two readings of the counters.
	chunkSize = 4000
	// enough is how many of the requests that raise the counter of a server are printed. After
	// that, nothing more is sent to the server.
	enough = 3
	// slow is how long an exchange takes that counts as slow.
	slow = 2 * time.Second
	// lateWrites is how long the run waits at its end for servers that write after they answer.
	lateWrites = 200 * time.Millisecond
)

// Outcome counts what became of the requests of a run. Requests that are not in Refused, Answered,
// Malformed or Unanswered failed in the proxy or the server.
type Outcome struct {
	Sent       int64 // a request counts once for each server that it was sent to
	Refused    int64 // by the gate
	Answered   int64 // with 200
	Malformed  int64 // the gate closed an HTTP/2 connection without an answer
	Unanswered int64
	Slow       int64         // took longer than slow
	Risen      []string      // the names of the servers whose counters rose
	Took       time.Duration // the whole run
}

// String returns the figures of a run as docs/reliability.md lists them.
func (o Outcome) String() string {
	return fmt.Sprintf("sent %d times: %.1f %% refused, %.1f %% answered by the server, %.1f %% malformed to the gate, %.1f %% without an answer, the rest failed in the proxy or the server; %d took more than 2 s; %v, %.0f/s; counters risen: %v",
		o.Sent, Percent(o.Refused, o.Sent), Percent(o.Answered, o.Sent), Percent(o.Malformed, o.Sent), Percent(o.Unanswered, o.Sent),
		o.Slow, o.Took.Round(time.Second), float64(o.Sent)/o.Took.Seconds(), o.Risen)
}

// ExpectNoWrites sends the requests to all servers at once, and fails the test for each server
// whose counter rises. It prints up to enough requests that raise the counter of a server: each as
// it was generated, and reduced to what it needs to raise the counter.
func (run *Run) ExpectNoWrites(t testing.TB) Outcome {
	t.Helper()
	begin := time.Now()
	p := &progress{
		Run: run, t: t, before: make([]int, len(run.Servers)), found: make([]int, len(run.Servers)),
	}
	Each(run.Servers, func(i int, s *Server) { p.before[i] = Counter(t, s) })

	for from := 0; from < run.Requests; from += chunkSize {
		to := min(from+chunkSize, run.Requests)
		p.sendChunk(from, to)
		if t.Failed() && len(p.Risen) == 0 {
			break // no counter rose, so the failure is that a gate or a server cannot be reached
		}
		p.checkCounters(from, to)
	}
	p.Took = time.Since(begin)

	time.Sleep(lateWrites)
	for i, s := range run.Servers {
		if n := Counter(t, s); p.found[i] < enough && n != p.before[i] {
			t.Errorf("%s: the counter rose from %d to %d after the last request was answered", s.Name, p.before[i], n)
		}
	}
	return p.Outcome
}

// progress is the state of a run. Its slices have one element for each server.
type progress struct {
	*Run
	t      testing.TB
	before []int // the counter when it was last read
	found  []int // how many requests were found that raise the counter; enough stops the server's run

	sync.Mutex // guards what follows
	Outcome
	passed [][]int // the requests of this chunk, by index, that the gate may have let through
}

// sendChunk sends the requests [from, to) and returns when all of them have been answered.
func (p *progress) sendChunk(from, to int) {
	p.passed = make([][]int, len(p.Servers))
	slots := make(chan struct{}, inFlight) // each request takes one until it is answered
	var wg sync.WaitGroup
	start := func(server, i int) {
		if p.found[server] >= enough {
			return
		}
		slots <- struct{}{}
		wg.Go(func() {
			p.sendOne(server, i)
			<-slots
		})
	}

	for i := from; i < to; i++ {
		if p.Spread {
			start(i%len(p.Servers), i)
			continue
		}
		for server := range p.Servers {
			start(server, i)
		}
	}
	wg.Wait()
	if !p.Spread {
		return
	}

	// So far one server has got each request. The others get it if the gate may have let it
	// through.
	for first, passed := range slices.Clone(p.passed) {
		for _, i := range passed {
			for server := range p.Servers {
				if server != first {
					start(server, i)
				}
			}
		}
	}
	wg.Wait()
}

// sendOne sends request i to one server, and notes what became of it.
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

	if took > slow {
		p.Slow++
	}
	allRefused := res.fromGate() && !r.carriesMore()
	if !allRefused {
		p.passed[server] = append(p.passed[server], i)
	}
}

// carriesMore reports whether the bytes of a request may be taken for several requests, of which
// the answer tells only about the first. Frames after an upgrade (After) do not matter: if the
// upgrade is refused, nobody reads them.
func (r *Request) carriesMore() bool {
	unclearEnd := r.Framing == Unfinished || r.Framing == Both || r.Framing == None
	return unclearEnd || r.pipelined() || len(r.http2Options().Beside) > 0
}

// fromGate reports whether an answer is known to come from the gate and not from the server behind
// it. CoreGate sets a header in its refusals. Envoy adds X-Envoy-Upstream-Service-Time to the
// answers of servers, except to successful upgrades, and says that there was an "upstream connect
// error" when a server closed a connection: that server may have executed the request. Over HTTP/2,
// Envoy closes the connection without an answer if the request is malformed.
func (res *Response) fromGate() bool {
	if res.Malformed || res.Header.Get(refusedBy) != "" {
		return true
	}

	answeredByEnvoy := res.Status >= 300 && res.Header.Get("Server") == "envoy" && res.Header.Get("X-Envoy-Upstream-Service-Time") == ""
	return answeredByEnvoy && !bytes.HasPrefix(res.Body, []byte("upstream connect error"))
}

// checkCounters reads the counters after the requests [from, to) were sent. For each counter that
// has risen, it looks for the requests that raised it.
func (p *progress) checkCounters(from, to int) {
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

// report sends the requests [from, to) to a server again, one by one, and prints those that raise
// its counter, until enough are found. If none raises it this time, it reports that instead.
func (p *progress) report(server, from, to int) {
	p.t.Helper()
	s, addr := p.Servers[server], p.Addrs[server]
	counter := Counter(p.t, s)
	writes := func(r *Request) bool {
		_, rise := SendAndCount(p.t, s, addr, r, counter)
		counter += rise
		return rise > 0
	}

	// The requests that may have passed come first, because they are few. With Spread, the server
	// has not got the others.
	passed := slices.Sorted(slices.Values(p.passed[server]))
	order := slices.Clone(passed)
	for i := from; i < to; i++ {
		if _, mayHavePassed := slices.BinarySearch(passed, i); !mayHavePassed && !p.Spread {
			order = append(order, i)
		}
	}

	foundBefore := p.found[server]
	for _, i := range order {
		if r := p.Request(server, i); writes(r) {
			p.found[server]++
			p.t.Errorf("%s: the counter rose, request %d\n%s\nand reduced to what it needs\n%s", s.Name, i, r, minimize(r, writes))
			if p.found[server] >= enough {
				return
			}
		}
	}

	if p.found[server] == foundBefore {
		p.found[server] = enough
		p.t.Errorf("%s: the counter rose within requests %d to %d, but not when they were sent again one by one", s.Name, from, to)
	}
}
