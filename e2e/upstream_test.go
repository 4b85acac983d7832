package e2e

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// recordingUpstream is an app that records the requests whose bodies arrived whole, so that a test
// can tell what Envoy let pass. It answers each of them with 200 and the header x-upstream, which
// no other answer has. It speaks HTTP/1.1 and HTTP/2 without TLS.
//
// A test that sends many requests gives each the header x-case with an id of its own.
type recordingUpstream struct {
	addr string // host:port

	mu       sync.Mutex
	requests []recordedRequest
}

type recordedRequest struct {
	*http.Request     // the body has been read, so Trailer is complete
	size          int // bytes of the body
}

// startRecordingUpstream starts the app on a free port, until the end of the test.
func startRecordingUpstream(t *testing.T) *recordingUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)

	u := &recordingUpstream{addr: l.Addr().String()}
	srv := &http.Server{Handler: u, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return u
}

// ServeHTTP makes the app an http.Handler.
func (u *recordingUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return // the body broke off, so the request does not count
	}

	u.mu.Lock()
	u.requests = append(u.requests, recordedRequest{r, int(size)})
	u.mu.Unlock()
	w.Header().Set("x-upstream", "1")
	io.WriteString(w, `{"data":{}}`) // a GraphQL answer, since most of the requests are GraphQL's
}

// find returns the recorded request that has the header x-case: id. It reports false if there is no
// such request.
func (u *recordingUpstream) find(id string) (r recordedRequest, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()

	for _, r := range u.requests {
		if r.Header.Get("x-case") == id {
			return r, true
		}
	}

	return recordedRequest{}, false
}

// takeTargets returns the requests recorded since the last call, each as its host and the target of
// its request line, as in "shop.example.com /app/order?x=1", and forgets them.
func (u *recordingUpstream) takeTargets() (targets []string) {
	u.mu.Lock()
	defer u.mu.Unlock()

	for _, r := range u.requests {
		targets = append(targets, r.Host+" "+r.RequestURI)
	}
	u.requests = nil
	return targets
}
