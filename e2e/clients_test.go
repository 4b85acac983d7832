package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/drydock-proxy/drydock/e2e/demo"
)

// visitor is somebody at an address who sends requests through Envoy, each over a
// connection of its own and thus to any worker.
type visitor struct {
	t      *testing.T
	proxy  string // host:port
	client *http.Client
}

func (d *deployment) visitor(from string) *visitor {
	return newVisitor(d.t, from, d.edge.Addr())
}

func newVisitor(t *testing.T, from, proxy string) *visitor {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &visitor{t, proxy, &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type answer struct {
	Status int
	Header http.Header
	Body   string
}

// try sends a request. Headers come in pairs; "Host" sets the authority.
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

// echo is what the app saw of a GET /echo that has to pass.
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

// raw sends bytes as they are and reads one answer. Go's client would tidy the request.
func raw(t *testing.T, proxy, request string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", proxy)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// raw sends bytes on a connection of their own and reads one answer.
func (d *deployment) raw(t *testing.T, method, request string) (status int, upstream bool, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", d.edge.Addr())
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	must(t, err)
	return readAnswer(t, conn, method)
}

func readAnswer(t *testing.T, conn net.Conn, method string) (status int, upstream bool, body string) {
	t.Helper()
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	must(t, err)
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("x-upstream") != "", string(data)
}

// ruleOf is the rule that a refusal names, in GraphQL's form or as a problem.
func ruleOf(reply string) string {
	return cmp.Or(gjson.Get(reply, "errors.0.extensions.rule").String(), gjson.Get(reply, "rule").String())
}

func http2Client(t *testing.T) *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// overHTTP2 is a client without TLS.
func overHTTP2(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// workerConn is one kept connection, and so one worker. It is used by one goroutine.
type workerConn struct {
	client *http.Client
	proxy  string
	worker string
	dials  int
}

func newWorkerConn(proxy string) *workerConn {
	return &workerConn{proxy: proxy, client: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true},
	}}
}

// workerConns opens connections until it has one on each of the workers. Envoy's own counters
// tell which worker took a connection.
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
		l := newWorkerConn(d.edge.Addr())
		if s := l.get(d.t.Context(), "/healthz"); s.err != nil {
			d.t.Fatal(s.err)
		}
		for name, n := range counts() {
			if n > before[name] {
				l.worker = name
			}
		}
		if l.worker == "" || byWorker[l.worker] != nil {
			l.close()
			continue
		}
		byWorker[l.worker] = l
		d.t.Cleanup(l.close)
		if len(byWorker) == workers {
			var conns []*workerConn
			for l := range maps.Values(byWorker) {
				conns = append(conns, l)
			}
			return conns
		}
	}
	d.t.Fatalf("400 connections reached %d workers of %d", len(byWorker), workers)
	return nil
}

// sample is one request of a workerConn.
type sample struct {
	start, end time.Time
	status     int
	body       string
	err        error
}

func (l *workerConn) get(ctx context.Context, path string, headers ...string) (s sample) {
	return l.do(ctx, "GET", path, "", headers...)
}

func (l *workerConn) do(ctx context.Context, method, path, body string, headers ...string) (s sample) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ConnectStart: func(string, string) { l.dials++ }})
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.proxy+path, strings.NewReader(body))
	if err != nil {
		return sample{err: err}
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	s.start = time.Now()
	resp, err := l.client.Do(req)
	if err == nil {
		var data []byte
		data, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		s.status, s.body = resp.StatusCode, string(data)
	}
	s.end, s.err = time.Now(), err
	return s
}

func (l *workerConn) close() { l.client.CloseIdleConnections() }

// poller asks from before there is anybody to answer, and counts the answers.
type poller struct {
	mu      sync.Mutex
	answers map[int]int
	first   time.Time
}

func (c *poller) poll(ctx context.Context, v *visitor, path string) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", v.proxy, time.Second)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		conn.Close()
		// No bound from the context: what was asked is awaited, or a leak at the very
		// end would go unseen.
		a, err := v.try(context.Background(), "GET", path, "")
		c.mu.Lock()
		if c.answers == nil {
			c.answers = map[int]int{}
		}
		if err != nil {
			c.answers[-1]++
		} else {
			c.answers[a.Status]++
			if c.first.IsZero() {
				c.first = time.Now()
			}
		}
		c.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}
