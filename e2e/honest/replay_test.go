package honest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drydock-proxy/drydock/filter/maintenance"
)

// replay sends an entry and returns the verdict, how many redirects it took, and what is wrong with
// what the client or the upstream received. It follows Envoy's own redirect to a path without
// encoded slashes (path_with_escaped_slashes_action).
func (r *rig) replay(t *testing.T, e *Entry, mode maintenance.Mode, id string) (verdict string, redirects int, problem string) {
	t.Helper()
	sent := *e
	for {
		a, err := sent.send(r.envoy.Listeners["edge"], Host(e.App, mode), id)
		if err != nil {
			return "", redirects, err.Error()
		}

		got, arrived := r.upstream.take(id)
		switch {
		case arrived && a.Status != http.StatusOK:
			return "", redirects, fmt.Sprintf("it reached the upstream, but the client got %d", a.Status)
		case arrived:
			return "pass", redirects, sent.changed(got, sent.Target)
		case a.Status == http.StatusTemporaryRedirect && redirects == 0:
			to, err := url.Parse(a.Header.Get("Location"))
			if err != nil {
				return "", redirects, err.Error()
			}
			sent.Target = to.RequestURI()
			redirects++
		case a.refused():
			return "refuse", redirects, ""
		default:
			return "", redirects, fmt.Sprintf("it did not reach the upstream, and the client got %d %.200s", a.Status, a.Body)
		}
	}
}

// refused reports whether an answer comes from Drydock: 503, 400 for malformed GraphQL, the answer
// to a preflight of an origin that the app lists, or UNAVAILABLE of gRPC. If a body is larger than
// the limits of both, Envoy may notice first, and answers 413.
func (a *answer) refused() bool {
	switch a.Status {
	case http.StatusServiceUnavailable, http.StatusBadRequest, http.StatusNoContent, http.StatusRequestEntityTooLarge:
		return true
	case http.StatusOK:
		return a.Header.Get("Grpc-Status") == "14" || a.Trailer.Get("Grpc-Status") == "14"
	}
	return false
}

// answer is what came back to the client.
type answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Trailer http.Header
}

// send replays an entry at a proxy and returns the answer.
func (e *Entry) send(proxy, host, id string) (answer, error) {
	if e.Version == "HTTP/2" {
		return e.send2(proxy, host, id)
	}
	c, err := net.Dial("tcp", proxy)
	if err != nil {
		return answer{}, fmt.Errorf("connecting: %w", err)
	}
	defer c.Close()

	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return answer{}, fmt.Errorf("setting a deadline: %w", err)
	}
	// A server that refuses a request need not read all of it. The write may fail, and the answer
	// comes all the same.
	_, _ = c.Write(e.bytes(host, id))

	in := bufio.NewReader(c)
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: e.Method})
		if err != nil {
			return answer{}, fmt.Errorf("reading the answer: %w", err)
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		return read(resp)
	}
}

// send2 replays an entry over HTTP/2 without TLS. The order of headers is lost, but no rule depends
// on it.
func (e *Entry) send2(proxy, host, id string) (answer, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	path, query, _ := strings.Cut(e.Target, "?")
	req := &http.Request{
		Method: e.Method, URL: &url.URL{Scheme: "http", Host: proxy, Opaque: "//" + host + path, RawQuery: query}, Host: host, Header: http.Header{"User-Agent": nil},
	}
	if !e.streamEnds() {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(e.body())), -1 // of unknown length, as with gRPC
	}
	if e.Framing == "length" {
		req.ContentLength = int64(len(e.body()))
	}

	for _, h := range e.Headers {
		name := http.CanonicalHeaderKey(h[0])
		req.Header[name] = append(req.Header[name], h[1])
	}
	req.Header.Set(idHeader, id)

	resp, err := (&http.Client{Transport: transport, Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("sending over HTTP/2: %w", err)
	}
	return read(resp)
}

func read(resp *http.Response) (answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	return answer{resp.StatusCode, resp.Header, body, resp.Trailer}, nil
}

// hops are headers that belong to one connection (RFC 9110 section 7.6.1) or that Envoy sets
// itself.
var hops = []string{
	"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "expect", "trailer",
	"x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address", "x-envoy-internal",
}

// changed describes how a request that reached the upstream differs from the entry. It returns ""
// if it does not.
func (e *Entry) changed(got received, target string) string {
	if got.Method != e.Method || got.Target != target {
		return fmt.Sprintf("it arrived as %s %s", got.Method, got.Target)
	}
	if !bytes.Equal(got.Body, e.body()) {
		return fmt.Sprintf("%d bytes of body arrived, not the %d that were sent", len(got.Body), len(e.body()))
	}

	want := http.Header{}
	for _, h := range e.Headers {
		want.Add(h[0], strings.TrimSpace(h[1]))
	}
	for name, values := range want {
		if slices.Contains(hops, strings.ToLower(name)) {
			continue
		}
		if arrived := got.Header.Values(name); strings.Join(arrived, ",") != strings.Join(values, ",") && strings.Join(arrived, "; ") != strings.Join(values, "; ") {
			return fmt.Sprintf("header %s arrived as %q, sent as %q", name, arrived, values)
		}
	}
	return ""
}
