package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// trailerApp is an app that speaks HTTP/1.1 and HTTP/2, and notes what it was sent.
type trailerApp struct {
	addr string
	mu   sync.Mutex
	seen map[string]*http.Request // by the header x-test; its body is read, so it has trailers
	size map[string]int
}

func startTrailerApp(t *testing.T) *trailerApp {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rec := &trailerApp{addr: l.Addr().String(), seen: map[string]*http.Request{}, size: map[string]int{}}
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.seen[r.Header.Get("x-test")], rec.size[r.Header.Get("x-test")] = r, int(n)
	})}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return rec
}

func (rec *trailerApp) got(test string) (*http.Request, int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.seen[test], rec.size[test]
}

// recorder is an upstream that remembers which requests came to it whole, by their
// x-case header.
type recorder struct {
	addr string
	mu   sync.Mutex
	seen map[string]bool
}

func newRecorder(t *testing.T) *recorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	rec := &recorder{addr: l.Addr().String(), seen: map[string]bool{}}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		rec.mu.Lock()
		rec.seen[r.Header.Get("x-case")] = true
		rec.mu.Unlock()
		w.Header().Set("x-upstream", "1")
		io.WriteString(w, `{"data":{}}`)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return rec
}

func (rec *recorder) saw(id string) bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.seen[id]
}

// seen is an upstream that answers everything with 200 and remembers what came.
type seen struct {
	mu       sync.Mutex
	requests []string
}

func newSeen(t *testing.T) (*seen, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &seen{}
	srv := &http.Server{Handler: s}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return s, l.Addr().String()
}

func (s *seen) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req.Host+" "+req.RequestURI)
	fmt.Fprintln(w, "the app")
}

func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.requests
	s.requests = nil
	return got
}
