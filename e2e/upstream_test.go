package e2e

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// recordingUpstream is an app that answers every request with 200 and a header x-upstream, and
// records the requests whose bodies arrived whole. It speaks HTTP/1.1 and HTTP/2 without TLS.
type recordingUpstream struct {
	addr string // host:port

	mu       sync.Mutex
	requests []recordedRequest
}

type recordedRequest struct {
	*http.Request     // its body has been read, and therefore its trailers too
	size          int // of the body in bytes
}

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

func (u *recordingUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return
	}

	u.mu.Lock()
	u.requests = append(u.requests, recordedRequest{r, int(n)})
	u.mu.Unlock()
	w.Header().Set("x-upstream", "1")
	io.WriteString(w, `{"data":{}}`)
}

// find returns the recorded request that has the header x-case: id.
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

// take returns the requests recorded since the last call, each as its host and target.
func (u *recordingUpstream) takeTargets() (targets []string) {
	u.mu.Lock()
	defer u.mu.Unlock()

	for _, r := range u.requests {
		targets = append(targets, r.Host+" "+r.RequestURI)
	}
	u.requests = nil
	return targets
}
