package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/drydock-proxy/drydock/e2e/demo"
)

// answer is what a client got for a request.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// ruleOf returns the rule that a refusal names, in the form of GraphQL or of problem+json, or "".
func ruleOf(reply string) string {
	return cmp.Or(gjson.Get(reply, "errors.0.extensions.rule").String(), gjson.Get(reply, "rule").String())
}

// visitor sends requests through Envoy from one address. Each request has a connection of its own
// and can therefore reach any worker.
type visitor struct {
	t      *testing.T
	proxy  string // host:port
	client *http.Client
}

// visitor returns a client at an address from 127.0.0.0/8.
func (d *deployment) visitorFrom(from string) *visitor {
	return newVisitor(d.t, from, d.envoyPort.Addr())
}

func newVisitor(t *testing.T, from, proxy string) *visitor {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &visitor{t, proxy, &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// try sends a request. headers are pairs of name and value; "Host" sets the authority.
func (v *visitor) try(ctx context.Context, method, path, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+v.proxy+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body == "" {
		req.Body = http.NoBody
	}
	req.Header.Set("User-Agent", "scenario")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}

	resp, err := v.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data)}, err
}

// do sends a request and fails the test unless it is answered.
func (v *visitor) do(method, path, body string, headers ...string) answer {
	v.t.Helper()
	a, err := v.try(v.t.Context(), method, path, body, headers...)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (v *visitor) get(path string, headers ...string) answer {
	v.t.Helper()
	return v.do("GET", path, "", headers...)
}

// postJSON sends a JSON body. headers are further pairs of name and value.
func (v *visitor) postJSON(path, body string, headers ...string) answer {
	v.t.Helper()
	return v.do("POST", path, body, append(headers, "Content-Type", "application/json")...)
}

// echo sends GET /echo, which must pass, and returns the request as the demo app received it.
func (v *visitor) echo(headers ...string) demo.Echo {
	v.t.Helper()
	a := v.get("/echo", headers...)
	if a.Status != http.StatusOK {
		v.t.Fatalf("GET /echo: %d %s, want 200", a.Status, a.Body)
	}

	var e demo.Echo
	must(v.t, json.Unmarshal([]byte(a.Body), &e))
	return e
}

// raw sends bytes as they are on a connection of their own and reads one answer. Go's HTTP client
// would normalize the request.
func sendRaw(t *testing.T, proxy, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)

	method, _, _ := strings.Cut(request, " ")
	a, err := readAnswer(conn, method)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return a
}

// readAnswer reads the answer to a request with the given method, after an interim answer 100 if
// there is one. A body that ends early is not an error.
func readAnswer(conn net.Conn, method string) (answer, error) {
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// http2Client returns a client that speaks HTTP/2 without TLS.
func http2Client(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// workerConn is a client with one kept connection, whose requests therefore all reach one worker.
// It must not be used by several goroutines at a time.
type workerConn struct {
	client *http.Client
	proxy  string // host:port
	worker string // name of Envoy's counter for the worker's connections
	dials  int    // connections opened so far
}

func newWorkerConn(proxy string) *workerConn {
	return &workerConn{proxy: proxy, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true},
	}}
}

// workerConns returns one connection to each of the workers. It opens connections until every
// worker has taken one, which Envoy's counters show.
func (d *deployment) workerConns(workers int) []*workerConn {
	d.t.Helper()
	counts := func() map[string]int64 {
		stats, err := d.envoy.Stats(`^listener\..*\.worker_[0-9]+\.downstream_cx_total$`)
		must(d.t, err)
		return stats
	}

	byWorker := map[string]*workerConn{}
	for range 400 {
		before := counts()
		c := newWorkerConn(d.envoyPort.Addr())
		if s := c.get(d.t.Context(), "/healthz"); s.err != nil {
			d.t.Fatal(s.err)
		}
		for name, n := range counts() {
			if n > before[name] {
				c.worker = name
			}
		}
		if c.worker == "" || byWorker[c.worker] != nil {
			c.close()
			continue
		}

		byWorker[c.worker] = c
		d.t.Cleanup(c.close)
		if len(byWorker) == workers {
			return slices.Collect(maps.Values(byWorker))
		}
	}

	d.t.Fatalf("400 connections reached %d workers of %d", len(byWorker), workers)
	return nil
}

// sample is one request on a workerConn and its answer.
type sample struct {
	start, end time.Time
	status     int
	body       string
	err        error
}

func (c *workerConn) get(ctx context.Context, path string, headers ...string) (s sample) {
	return c.do(ctx, "GET", path, "", headers...)
}

// do sends a request. headers are pairs of name and value.
func (c *workerConn) do(ctx context.Context, method, path, body string, headers ...string) (s sample) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ConnectStart: func(string, string) { c.dials++ }})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.proxy+path, strings.NewReader(body))
	if err != nil {
		return sample{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}

	s.start = time.Now()
	resp, err := c.client.Do(req)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		s.status, s.body = resp.StatusCode, string(data)
	}

	s.end, s.err = time.Now(), err
	return s
}

func (c *workerConn) close() { c.client.CloseIdleConnections() }

// poller requests a path again and again and counts the answers by status. It may begin before
// anything listens at the proxy's address.
type poller struct {
	mu       sync.Mutex
	byStatus map[int]int // -1 counts requests without an answer
	first    time.Time   // when the first answer arrived
}

// startPolling polls a path with several clients until stop is called, which waits for them.
func (d *deployment) startPolling(clients int, path string) (p *poller, stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	p = &poller{byStatus: map[int]int{}}
	var running sync.WaitGroup
	for range clients {
		running.Go(func() { p.poll(ctx, d.visitorFrom("127.0.0.1"), path) })
	}

	stop = func() {
		cancel()
		running.Wait()
	}
	d.t.Cleanup(stop)
	return p, stop
}

func (p *poller) poll(ctx context.Context, v *visitor, path string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", v.proxy, time.Second)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		conn.Close()

		// The context of the loop must not end this request: a leak at the very end would go
		// unnoticed.
		a, err := v.try(context.Background(), "GET", path, "")
		p.count(a, err)
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *poller) count(a answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if err != nil {
		p.byStatus[-1]++
		return
	}

	p.byStatus[a.Status]++
	if p.first.IsZero() {
		p.first = time.Now()
	}
}

// checkOnly fails the test unless every answer has one status, and there are some.
func (p *poller) wantOnly(t *testing.T, status int) {
	t.Helper()
	if len(p.byStatus) != 1 || p.byStatus[status] == 0 {
		t.Errorf("answers by status: %v, want only %d", p.byStatus, status)
	}
}

// requestText returns an HTTP/1.1 request without a body that closes its connection.
func requestText(method, target, host string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, target, host)
}
