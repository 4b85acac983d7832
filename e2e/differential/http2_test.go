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
	Body                 int
}

// recorder is a server of net/http that speaks HTTP/2 in cleartext and keeps what it reads.
type recorder struct {
	sync.Mutex
	addr string
	got  []received
}

// targets returns how often each target was read. It waits for n requests, or five seconds.
func (rec *recorder) targets(n int) map[string]int {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		rec.Lock()
		got := slices.Clone(rec.got)
		rec.Unlock()
		if len(got) < n && time.Now().Before(deadline) {
			continue
		}

		targets := map[string]int{}
		for _, s := range got {
			targets[s.Target]++
		}
		return targets
	}
}

func record(t *testing.T) *recorder {
	t.Helper()
	rec := &recorder{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		rec.Lock()
		rec.got = append(rec.got, received{r.Method, r.RequestURI, r.Host, r.Header, r.Trailer, len(body)})
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

// TestHTTP2RequestsAreReadAsTheyAreMeant sends each form of a request to a server of net/http.
func TestHTTP2RequestsAreReadAsTheyAreMeant(t *testing.T) {
	type form = func(*Request)
	for name, change := range map[string]form{
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
		"a body past every window": func(r *Request) { r.Body = []byte(strings.Repeat("x", 3<<20)) },
		"another :authority":       func(r *Request) { r.HTTP2.Pseudo = [][2]string{{":authority", "other.test"}} },
		"host for :authority": func(r *Request) {
			r.HTTP2.Pseudo = [][2]string{{":authority", Absent}}
			r.Headers = append(r.Headers, [2]string{"Host", "other.test"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := record(t)
			r := &Request{Method: "POST", Target: "/graphql?x=1", Headers: [][2]string{{"Content-Type", "application/json"}}, Body: []byte(`{"query":"{a}"}`), HTTP2: &HTTP2{}}
			change(r)

			res, err := Send(rec.addr, r)
			if err != nil || res.Status != http.StatusOK || string(res.Body) != fmt.Sprintf("%d bytes", len(r.Body)) {
				t.Fatalf("answered %d %q, %v", res.Status, res.Body, err)
			}

			got := rec.got[0]
			host := AnyHost
			if strings.Contains(name, ":authority") {
				host = "other.test"
			}
			if got.Method != "POST" || got.Target != "/graphql?x=1" || got.Host != host || got.Header.Get("Content-Type") != "application/json" {
				t.Errorf("read as %+v", got)
			}
			if late := got.Trailer.Get("X-Late"); name == "trailers" && late != "1" {
				t.Errorf("the trailer is %q", late)
			}
		})
	}
}

// TestHTTP2ConnectionsCarryManyRequests sends a request with others beside it, and then the printed
// form of all of them.
func TestHTTP2ConnectionsCarryManyRequests(t *testing.T) {
	rec := record(t)
	r := &Request{Method: "POST", Target: "/graphql", Body: []byte(`{"query":"{a}"}`), HTTP2: &HTTP2{DataSize: 4}}
	for _, target := range []string{"/first", "/second"} {
		r.HTTP2.Beside = append(r.HTTP2.Beside, &Request{
			Method: "POST", Target: target, Body: []byte(`{"query":"{b}"}`),
			HTTP2: &HTTP2{DataSize: 2, EndApart: true}, Trailers: [][2]string{{"x-late", target}},
		})
	}

	if res, err := Send(rec.addr, r); err != nil || res.Status != http.StatusOK {
		t.Fatalf("answered %d, %v", res.Status, err)
	}
	if len(rec.got) != 3 {
		t.Fatalf("%d of 3 requests were read: %+v", len(rec.got), rec.got)
	}

	// The bytes that are printed must be the bytes that were sent. They are written at once,
	// without waiting for the peer, and must be read as the same requests.
	c, err := net.Dial("tcp", rec.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(r.Connection()); err != nil {
		t.Fatal(err)
	}
	// The connection stays open until all are read, because at its end the server gives up what it
	// has not read.
	go io.Copy(io.Discard, c)
	targets := rec.targets(6)
	if b, _ := json.Marshal(targets); string(b) != `{"/first":2,"/graphql":2,"/second":2}` {
		t.Errorf("after the printed form the server had read %s", b)
	}
	if s := r.String(); !strings.Contains(s, `":path": "/second"`) || !strings.Contains(s, "base64 -d") {
		t.Errorf("printed as\n%s", s)
	}
}
