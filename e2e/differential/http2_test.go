package differential

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// received is a request as a server read it.
type received struct {
	Method, Target, Host string
	Header, Trailer      http.Header
	BodySize             int // in bytes
}

// recorder is a server of net/http that speaks HTTP/2 in cleartext and records the requests that it
// reads. It answers each with the size of the request's body, such as "14 bytes".
type recorder struct {
	addr string // host:port

	sync.Mutex // guards requests
	requests   []received
}

// awaitTargets returns how often each target was requested. It waits until n requests were read,
// for at most five seconds.
func (rec *recorder) awaitTargets(n int) map[string]int {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		rec.Lock()
		requests := slices.Clone(rec.requests)
		rec.Unlock()
		if len(requests) < n && time.Now().Before(deadline) {
			continue
		}

		targets := map[string]int{}
		for _, r := range requests {
			targets[r.Target]++
		}
		return targets
	}
}

// startRecorder starts a recorder, which stops when the test ends.
func startRecorder(t *testing.T) *recorder {
	t.Helper()
	rec := &recorder{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.Lock()
		rec.requests = append(rec.requests, received{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, len(body)})
		rec.Unlock()
		fmt.Fprintf(w, "%d bytes", len(body))
	}))

	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	rec.addr = s.Listener.Addr().String()
	return rec
}

// TestHTTP2RequestsAreReadAsTheyAreMeant sends one request in each form that HTTP/2 allows. A
// server that was written by others must read it with the same method, target, host, headers and
// body.
func TestHTTP2RequestsAreReadAsTheyAreMeant(t *testing.T) {
	for name, change := range map[string]func(*Request){
		"plain":               func(*Request) {},
		"padded":              func(r *Request) { r.HTTP2.Padding = 200 },
		"many DATA frames":    func(r *Request) { r.HTTP2.DataSize = 3 },
		"END_STREAM apart":    func(r *Request) { r.HTTP2.EndApart = true },
		"no length":           func(r *Request) { r.Framing = None },
		"many chunks":         func(r *Request) { r.Framing = ManyChunks },
		"CONTINUATION frames": func(r *Request) { r.HTTP2.FieldSize = 5 },
		"priority":            func(r *Request) { r.HTTP2.Priority, r.HTTP2.FieldSize = true, 9 },
		"trailers": func(r *Request) {
			r.Set("Trailer", "X-Late")
			r.Trailers = [][2]string{{"x-late", "1"}}
		},
		// The windows of the server are smaller, so the rest waits for WINDOW_UPDATE frames.
		"a body past every window": func(r *Request) { r.Body = []byte(strings.Repeat("x", 3<<20)) },
		"another :authority":       func(r *Request) { r.HTTP2.Pseudo = [][2]string{{":authority", "other.test"}} },
		"host for :authority": func(r *Request) {
			r.HTTP2.Pseudo = [][2]string{{":authority", Absent}}
			r.Headers = append(r.Headers, [2]string{"Host", "other.test"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := startRecorder(t)
			r := &Request{
				Method: "POST", Target: "/graphql?x=1", Headers: [][2]string{{"Content-Type", "application/json"}},
				Body: []byte(`{"query":"{a}"}`), HTTP2: &HTTP2{},
			}
			change(r)

			res, err := Send(rec.addr, r)
			if err != nil || res.Status != http.StatusOK || string(res.Body) != fmt.Sprintf("%d bytes", len(r.Body)) {
				t.Fatalf("answered %d %q, %v", res.Status, res.Body, err)
			}

			got := rec.requests[0]
			wantHost := AnyHost
			if strings.Contains(name, ":authority") { // two of the changes
				wantHost = "other.test"
			}
			if got.Method != "POST" || got.Target != "/graphql?x=1" || got.Host != wantHost || got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("read as %+v", got)
			}
			if trailer := got.Trailer.Get("X-Late"); name == "trailers" && trailer != "1" {
				t.Errorf("the trailer X-Late is %q, want 1", trailer)
			}
		})
	}
}

// requestWithOthers returns a request for /graphql, with requests for /first and /second on further
// streams of its connection. Small DATA frames make the three bodies arrive in turns.
func requestWithOthers() *Request {
	r := &Request{Method: "POST", Target: "/graphql", Body: []byte(`{"query":"{a}"}`), HTTP2: &HTTP2{DataSize: 4}}
	for _, target := range []string{"/first", "/second"} {
		r.HTTP2.Beside = append(r.HTTP2.Beside, &Request{
			Method: "POST", Target: target, Body: []byte(`{"query":"{b}"}`),
			HTTP2: &HTTP2{DataSize: 2, EndApart: true}, Trailers: [][2]string{{"x-late", target}},
		})
	}
	return r
}

func TestHTTP2ConnectionsCarryManyRequests(t *testing.T) {
	rec := startRecorder(t)
	r := requestWithOthers()

	if res, err := Send(rec.addr, r); err != nil || res.Status != http.StatusOK {
		t.Fatalf("answered %d, %v", res.Status, err)
	}
	if len(rec.requests) != 3 {
		t.Fatalf("%d of 3 requests were read: %+v", len(rec.requests), rec.requests)
	}
}

// TestPrintedHTTP2RequestsCanBeSentAgain writes the bytes that String prints, as somebody does who
// reproduces a failure with nc. They are written at once, without waiting for the server's settings
// or windows, and must be read as the same requests.
func TestPrintedHTTP2RequestsCanBeSentAgain(t *testing.T) {
	rec := startRecorder(t)
	r := requestWithOthers()

	c, err := net.Dial("tcp", rec.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(r.Connection()); err != nil {
		t.Fatal(err)
	}

	// The connection must stay open until the server has read all requests: when it is closed, the
	// server drops those that it has not read yet.
	go io.Copy(io.Discard, c)
	if got, _ := json.Marshal(rec.awaitTargets(3)); string(got) != `{"/first":1,"/graphql":1,"/second":1}` {
		t.Errorf("the server read %s", got)
	}
	if s := r.String(); !strings.Contains(s, `":path": "/second"`) || !strings.Contains(s, "base64 -d") {
		t.Errorf("printed as\n%s", s)
	}
}
