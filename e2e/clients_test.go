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

// The clients of the scenarios send requests to Envoy, which the deployment d runs (see
// deployment_test.go). Envoy assigns each connection to one of its worker threads, and each worker
// has its own copy of the filter:
//
//   - a visitor uses a new connection for each request, so that any worker may serve it;
//   - a workerConn keeps one connection, so that one worker serves all of its requests;
//   - a poller requests the same path again and again;
//   - sendRaw sends bytes that Go's HTTP client would not send.

// answer is what a client got for a request.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// ruleOf returns the name of the rule that refused a request, such as "read-only.held-limit". The
// filter writes it into the body of its answer: a GraphQL error or problem+json (RFC 9457).
// It returns "" if the body names no rule, for example because the answer is not the filter's.
func ruleOf(body string) string {
	return cmp.Or(gjson.Get(body, "errors.0.extensions.rule").String(), gjson.Get(body, "rule").String())
}

// visitor sends requests to Envoy from one address, each on a connection of its own.
type visitor struct {
	t      *testing.T
	proxy  string // host:port
	client *http.Client
}

// visitorFrom returns a visitor of the deployment's Envoy. The address must be in 127.0.0.0/8: on
// Linux, a client can connect from any of these.
func (d *deployment) visitorFrom(from string) *visitor {
	return newVisitor(d.t, from, d.envoyPort.Addr())
}

// newVisitor returns a visitor of the proxy at host:port. It connects from an address of this
// machine.
func newVisitor(t *testing.T, from, proxy string) *visitor {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &visitor{t, proxy, &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // follow none
	}}
}

// try sends a request, without a body if body is "". headers are pairs of name and value; "Host"
// sets the host that the request names.
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

// do sends a request as try does. If the request is not answered, the test fails and ends.
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

// echo sends GET /echo, which the demo app answers with the request as the app received it, and
// returns that. If the request is refused, the test fails and ends.
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

// sendRaw sends a request's bytes as they are, on a connection of their own, and returns the
// answer. Go's HTTP client would correct the request, or refuse to send it.
func sendRaw(t *testing.T, proxy, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)

	method, _, _ := strings.Cut(request, " ") // the request line begins with it
	a, err := readAnswer(conn, method)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return a
}

// readAnswer reads the answer to a request with the given method (an answer to HEAD has no body),
// and skips an interim answer 100 Continue. A body that ends early is not an error: Envoy may close
// the connection when it answers a request that it has not read to its end.
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

// workerConn is a client that keeps one connection open, so that one worker serves all of its
// requests. It must not be used by several goroutines at a time.
type workerConn struct {
	client *http.Client
	proxy  string // host:port
	worker string // Envoy's counter of the worker's connections, which names the worker
	dials  int    // connections opened so far; more than 1 means that the worker may have changed
}

func newWorkerConn(proxy string) *workerConn {
	return &workerConn{proxy: proxy, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true},
	}}
}

// workerConns returns one connection to each of Envoy's workers, of which there must be at least
// the given number. A client cannot choose its worker, so workerConns opens connections until every
// worker has one. No other client may connect meanwhile.
func (d *deployment) workerConns(workers int) []*workerConn {
	d.t.Helper()
	// The workers race for each new connection, and one of them may win many times in a row.
	const maxTries = 400

	byWorker := map[string]*workerConn{}
	for range maxTries {
		c := d.openWorkerConn()
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

	d.t.Fatalf("%d connections reached %d workers of %d", maxTries, len(byWorker), workers)
	return nil
}

// openWorkerConn opens a connection by a request that passes in every mode. The worker that has
// accepted the connection is the one whose counter has grown meanwhile; worker is "" if none has.
func (d *deployment) openWorkerConn() *workerConn {
	d.t.Helper()
	connections := func() map[string]int64 { // of all workers, by the name of the counter
		stats, err := d.envoy.Stats(`^listener\..*\.worker_[0-9]+\.downstream_cx_total$`)
		must(d.t, err)
		return stats
	}

	before := connections()
	c := newWorkerConn(d.envoyPort.Addr())
	if s := c.get(d.t.Context(), "/healthz"); s.err != nil {
		d.t.Fatal(s.err)
	}
	for name, n := range connections() {
		if n > before[name] {
			c.worker = name
		}
	}

	return c
}

// sample is what one request on a workerConn showed: when it was sent, when its answer had arrived,
// and the answer.
type sample struct {
	start, end time.Time
	status     int    // 0 if the request was not answered
	body       string // of the answer
	err        error  // why the request was not answered, or not completely
}

func (c *workerConn) get(ctx context.Context, path string, headers ...string) (s sample) {
	return c.do(ctx, "GET", path, "", headers...)
}

// do sends a request. headers are pairs of name and value. A failure is in the sample, since some
// scenarios expect failures.
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
// Envoy listens.
type poller struct {
	mu          sync.Mutex
	byStatus    map[int]int // how many answers had a status, and how many requests noAnswer
	firstAnswer time.Time   // when the first answer arrived
}

// noAnswer is the key of poller.byStatus for requests that were sent and not answered.
const noAnswer = -1

// startPolling requests a path with several clients at once. stop ends them and waits for their
// last answers. After that, the test may read the fields of p.
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

// poll is the loop of one client, until ctx is done.
func (p *poller) poll(ctx context.Context, v *visitor, path string) {
	for ctx.Err() == nil {
		// While nothing listens, there is nothing to count.
		conn, err := net.DialTimeout("tcp", v.proxy, time.Second)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		conn.Close()

		// The request does not use ctx. If the end of the polling broke it off, a request that
		// passes wrongly at the very end would not be counted.
		a, err := v.try(context.Background(), "GET", path, "")
		p.count(a, err)
		time.Sleep(5 * time.Millisecond)
	}
}

func (p *poller) count(a answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if err != nil {
		p.byStatus[noAnswer]++
		return
	}

	p.byStatus[a.Status]++
	if p.firstAnswer.IsZero() {
		p.firstAnswer = time.Now()
	}
}

// wantOnly fails the test unless there is an answer, every request was answered, and every answer
// has the given status. It must be called after stop.
func (p *poller) wantOnly(t *testing.T, status int) {
	t.Helper()
	if len(p.byStatus) != 1 || p.byStatus[status] == 0 {
		t.Errorf("answers by status: %v, want only %d", p.byStatus, status)
	}
}

// requestText returns the bytes of an HTTP/1.1 request without a body, after whose answer the
// server closes the connection. target is what the request line names: a path, as a rule.
func requestText(method, target, host string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, target, host)
}
